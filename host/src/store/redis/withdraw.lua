-- KEYS: nodes. ARGV: id, holder. Takes the line down if it is this holder's.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.match(held, '^%d+ (%S+)') == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
