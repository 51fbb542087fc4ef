-- KEYS: complete, drops. ARGV: kind, how often copies of it had been dropped when it was copied; '' if none can be.
if ARGV[2] ~= '' and (redis.call('HGET', KEYS[2], ARGV[1]) or '0') ~= ARGV[2] then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
return 1
