-- KEYS: none. ARGV: how many fields F; then for each window its key, the key of another program's cost and F fields.
-- Answers for each window its counters and that cost, or the type of a key that is no hash.
local answer, step = {}, tonumber(ARGV[1]) + 2
for i = 2, #ARGV, step do
  local key, cost = ARGV[i], ARGV[i + 1]
  local type = redis.call('TYPE', key).ok
  if type == 'hash' then
    local fields = {}
    for f = i + 2, i + step - 1 do fields[#fields + 1] = ARGV[f] end
    local values = redis.call('HMGET', key, unpack(fields))
    values[#values + 1] = redis.call('TYPE', cost).ok == 'string' and redis.call('GET', cost) or false
    answer[#answer + 1] = values
  else
    answer[#answer + 1] = type
  end
end
return answer
