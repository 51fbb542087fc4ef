-- KEYS: dirty. ARGV: version, number to skip, limit, then for each kind its name, prefix of records, prefix of
-- tombstones. Answers {mark, record} of those below the version, oldest first, and {mark, false} where something
-- else has taken the record's place; forgets the marks of records that another program removed.
local kinds = {}
for i = 4, #ARGV, 3 do kinds[ARGV[i]] = {ARGV[i + 1], ARGV[i + 2]} end
local before, skip, limit, answer = '(' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), {}
local function take()
  local marks = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', skip, limit - #answer)
  for _, mark in ipairs(marks) do
    local kind, id = string.match(mark, '^([^/]+)/(.+)$')
    local readable, record = true, false
    if kinds[kind] then readable, record = pcall(read, kinds[kind][1] .. id, kinds[kind][2] .. id) end
    if readable and record and #record[1] == 0 and not record[3] then
      redis.call('ZREM', KEYS[1], mark)
    else
      skip = skip + 1
      if record then answer[#answer + 1] = {mark, readable and record} end
    end
  end
  return #marks > 0
end
for _ = 1, 10 do
  if #answer >= limit or not take() then break end
end
return answer
