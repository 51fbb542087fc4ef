-- KEYS: dirty. ARGV: for each record its mark, its key, its tombstone.
-- Answers {mark, record} of those that are marked, {mark, false} where something else has taken its place.
local answer = {}
for i = 1, #ARGV, 3 do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    local readable, record = pcall(read, ARGV[i + 1], ARGV[i + 2])
    answer[#answer + 1] = {ARGV[i], readable and record}
  end
end
return answer
