-- KEYS: ids. ARGV: from, limit, prefix of records, prefix of tombstones.
-- Answers {id, record} for each id looked at; forgets the ids whose record expired or was removed.
local answer = {}
for _, id in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  local record = read(ARGV[3] .. id, ARGV[4] .. id)
  if #record[1] == 0 then redis.call('ZREM', KEYS[1], id) end
  answer[#answer + 1] = {id, record}
end
return answer
