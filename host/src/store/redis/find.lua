-- KEYS: index. ARGV: value, prefix of records, prefix of tombstones. Answers {id, record} or nothing.
local id = redis.call('HGET', KEYS[1], ARGV[1])
if not id then return false end
return {id, read(ARGV[2] .. id, ARGV[3] .. id)}
