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
  -- Number of fields, which of them is the cost, then for each window its key, its life, the key where another
  -- program counts dollars and its life, the key where it counts what was paid, the API key and the hour that its
  -- week is counted by or '', the fields and the values.
  local fields, cost, at = tonumber(ARGV[4]), tonumber(ARGV[5]), 6
  while at <= #ARGV do
    for i = at + 7, at + 6 + fields do
      local field, value = ARGV[i], ARGV[i + fields]
      if value ~= '0' and field ~= '' then redis.call('HINCRBY', ARGV[at], field, value) end
    end
    if ARGV[at + 1] ~= '0' then redis.call('PEXPIRE', ARGV[at], ARGV[at + 1]) end
    local value = ARGV[at + 6 + fields + cost]
    for _, dollars in ipairs({ARGV[at + 2], ARGV[at + 4]}) do
      if dollars ~= '' and value ~= '0' then
        redis.call('INCRBYFLOAT', dollars, value .. 'e-6')
        if ARGV[at + 3] ~= '0' then redis.call('PEXPIRE', dollars, ARGV[at + 3]) end
      end
    end
    if ARGV[at + 6] ~= '' then count_week(ARGV[at + 5], tonumber(ARGV[at + 6]), tonumber(value), false) end
    at = at + 7 + 2 * fields
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
-- From here on it is the whole: see `add.lua`.
if redis.call('EXISTS', 'usage:global:total') == 0 then redis.call('HSET', 'usage:global:total', 'requests', 0) end
redis.call('PEXPIRE', KEYS[2], life)
return 1
