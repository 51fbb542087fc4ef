-- KEYS: index. ARGV: prefix of the records, then values of the index and the ids they lead to.
-- Answers the ids that have no record.
local dangling = {}
for i = 2, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1]
    and redis.call('TYPE', ARGV[1] .. ARGV[i + 1]).ok ~= 'hash' then
    dangling[#dangling + 1] = ARGV[i + 1]
  end
end
return dangling
