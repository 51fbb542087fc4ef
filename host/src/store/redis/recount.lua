-- A step of counting usage anew, for whoever holds the right to repair.
-- KEYS: right to repair, closed, complete kinds. ARGV: step, holder, milliseconds until it opens by itself, then keys
-- to forget. Answers 0 when the right was lost: what was counted meanwhile must not be forgotten.
local step, holder, life = ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', KEYS[1]) ~= holder then return 0 end
if step == 'finish' then
  redis.call('SADD', KEYS[3], 'usage')
  return 1
end
if step == 'add' then
  -- Number of fields, then for each window its key, the key where another program counts dollars, its life, the
  -- fields and the values.
  local fields, at = tonumber(ARGV[4]), 5
  while at <= #ARGV do
    local dollars = redis.call('EXISTS', ARGV[at + 1]) == 1
    for i = at + 3, at + 2 + fields do
      local field, value = ARGV[i], ARGV[i + fields]
      if value ~= '0' and not (dollars and field == 'costMicroUsd') then
        redis.call('HINCRBY', ARGV[at], field, value)
      end
    end
    if ARGV[at + 2] ~= '0' then redis.call('PEXPIRE', ARGV[at], ARGV[at + 2]) end
    at = at + 3 + 2 * fields
  end
  return 1
end
local closed = redis.call('GET', KEYS[2])
if step == 'close' then
  redis.call('SREM', KEYS[3], 'usage')
  redis.call('SET', KEYS[2], holder, 'PX', life)
  return 1
end
if closed ~= holder then return 0 end
if step == 'open' then return redis.call('DEL', KEYS[2]) end
for i = 4, #ARGV do redis.call('UNLINK', ARGV[i]) end
redis.call('PEXPIRE', KEYS[2], life)
return 1
