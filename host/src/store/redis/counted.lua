-- KEYS: owed. ARGV: ids of events that the other store has counted too.
for _, id in ipairs(ARGV) do redis.call('HDEL', KEYS[1], id) end
return 0
