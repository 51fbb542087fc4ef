-- KEYS: dirty. ARGV: limit, then for each kind its name, prefix of records, prefix of tombstones.
-- Answers {member, record}; forgets the marks of records that another program removed.
local kinds = {}
for i = 2, #ARGV, 3 do kinds[ARGV[i]] = {ARGV[i + 1], ARGV[i + 2]} end
local answer = {}
for _, member in ipairs(redis.call('SRANDMEMBER', KEYS[1], ARGV[1])) do
  local kind, id = string.match(member, '^([^/]+)/(.+)$')
  if kinds[kind] then
    local record = read(kinds[kind][1] .. id, kinds[kind][2] .. id)
    if #record[1] == 0 and not record[3] then
      redis.call('SREM', KEYS[1], member)
    else
      answer[#answer + 1] = {member, record}
    end
  end
end
return answer
