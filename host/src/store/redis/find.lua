-- KEYS: index. ARGV: value, prefix of records, prefix of tombstones, prefix of hashes that lead to an id in place of an
-- entry, as an old Claude Relay Service wrote them, or ''. Answers {id, record} or nothing.
local id = redis.call('HGET', KEYS[1], ARGV[1])
if not id and ARGV[4] ~= '' then
  local old = redis.pcall('HGET', ARGV[4] .. ARGV[1], 'id')
  -- One that was left behind for a key that has another hash by now leads nowhere.
  if type(old) == 'string' and redis.pcall('HGET', ARGV[2] .. old, 'apiKey') == ARGV[1] then
    id = old
    redis.pcall('HSETNX', KEYS[1], ARGV[1], id)
  end
end
if not id then return false end
return {id, read(ARGV[2] .. id, ARGV[3] .. id)}
