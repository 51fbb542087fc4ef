-- What is known of one record: its hash, the milliseconds it has left, the version of its tombstone.
local function read(key, tombstone)
  local hash = redis.call('HGETALL', key)
  if #hash == 0 then return {hash, -1, redis.call('GET', tombstone)} end
  return {hash, redis.call('PTTL', key), false}
end
