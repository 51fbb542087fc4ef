-- Records that were given to another program and are gone: it has deleted them. Each gets a tombstone, and the mark
-- that the other store does not have it.
-- KEYS: ids, dirty. ARGV: version, prefix of the keys, prefix of the tombstones, prefix of the marks, whether there
--       are lists of them, then the ids.
local gone = 0
for i = 6, #ARGV do
  local id = ARGV[i]
  if redis.call('EXISTS', ARGV[2] .. id, ARGV[3] .. id) == 0 then
    redis.call('SET', ARGV[3] .. id, ARGV[1])
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZADD', KEYS[2], ARGV[1], ARGV[4] .. id)
    if ARGV[5] == '1' then unlist(ARGV[2], id, nil) end
    gone = gone + 1
  end
end
return gone
