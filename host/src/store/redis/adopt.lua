-- Takes in records that another program may have written: their ids, and, if they have no version, one that
-- makes them newer than what was known until now, with the mark that the other store does not have them.
-- KEYS: ids, dirty. ARGV: version, now, whole, prefix of the keys, prefix of the tombstones, prefix of the marks,
--       then the ids.
local ids, dirty = KEYS[1], KEYS[2]
local version, now, whole = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
for i = 7, #ARGV do
  local id = ARGV[i]
  local key = ARGV[4] .. id
  if redis.call('TYPE', key).ok == 'hash' then
    redis.call('ZADD', ids, 0, id)
    if redis.call('HEXISTS', key, '_version') == 0 then
      local left = redis.call('PTTL', key)
      redis.call('HSET', key, '_version', version)
      if left >= 0 and not whole then redis.call('HSET', key, '_expires', string.format('%.0f', now + left)) end
      redis.call('PERSIST', key)
      redis.call('DEL', ARGV[5] .. id)
      redis.call('ZADD', dirty, version, ARGV[6] .. id)
    elseif whole then
      redis.call('PERSIST', key)
    end
  end
end
return 0
