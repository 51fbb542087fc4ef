-- KEYS: owed. ARGV: ids of events that the other store has counted too.
redis.call('HDEL', KEYS[1], unpack(ARGV))
return 0
