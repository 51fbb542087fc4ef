-- Drops clean copies of a kind that is not whole. The kind is no longer complete from before the first is gone.
-- KEYS: complete, drops, dirty, ids, index. ARGV: kind, prefix of the records, prefix of the marks, indexed field
--       or '', then ids and versions. Answers how many were dropped.
redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
redis.call('SREM', KEYS[1], ARGV[1])
local dropped = 0
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local key = ARGV[2] .. id
  if not redis.call('ZSCORE', KEYS[3], ARGV[3] .. id)
    and redis.call('TYPE', key).ok == 'hash'
    and redis.call('HGET', key, '_version') == ARGV[i + 1] then
    if ARGV[4] ~= '' then
      local value = redis.call('HGET', key, ARGV[4])
      if value and redis.call('HGET', KEYS[5], value) == id then redis.call('HDEL', KEYS[5], value) end
    end
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[4], id)
    dropped = dropped + 1
  end
end
return dropped
