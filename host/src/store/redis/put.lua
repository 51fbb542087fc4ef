-- One write: the record or its tombstone, its index entry, its id and its mark, in one step.
-- KEYS: record, tombstone, ids, dirty, index.
-- ARGV: version, precondition, its version, now, dirty, id, mark, deleted, expiry or '', whole,
--       life of a clean tombstone, indexed field or '', its new value or '', listed, then fields and values.
-- Answers 0 when the store has it, or the version held.
-- Checks first and writes last: a script that fails midway is not undone. The first write is one that
-- Redis refuses when it is out of memory.
local record, tombstone, ids, dirty, index = unpack(KEYS)
local version, now = tonumber(ARGV[1]), tonumber(ARGV[4])
local id, mark = ARGV[6], ARGV[7]
local is_dirty, deleted, whole = ARGV[5] == '1', ARGV[8] == '1', ARGV[10] == '1'
local expires, field, value = tonumber(ARGV[9]), ARGV[12], ARGV[13]
local listed, prefix = ARGV[14] == '1', string.sub(record, 1, #record - #id)

local held, live, indexed = 0, false, false
if redis.call('EXISTS', record) == 1 then
  local old = redis.call('HMGET', record, '_version', '_expires', field)
  held, indexed = tonumber(old[1]) or 1, old[3]
  local until_ms = tonumber(old[2])
  live = not (until_ms and until_ms <= now)
else
  held = tonumber(redis.call('GET', tombstone)) or 0
end
if held == version then
  -- The other store has this very version now: the copy is as good as a new one.
  if not is_dirty and redis.call('EXISTS', record) == 1 then redis.pcall('HSET', record, '_cached', ARGV[4]) end
  return 0
end
if held > version
  or (ARGV[2] == 'at-most' and held > tonumber(ARGV[3]))
  or (ARGV[2] == 'absent' and live) then
  return held
end

local before = listed and entries(record)
if deleted then
  redis.call('SET', tombstone, ARGV[1])
  redis.call('ZREM', ids, id)
  if not is_dirty then redis.call('PEXPIRE', tombstone, ARGV[11]) end
else
  redis.call('ZADD', ids, 0, id)
  redis.call('DEL', tombstone)
end
redis.call('DEL', record)
-- The greatest version ever taken: data that is older shows itself by it.
redis.call('ZADD', 'switchyard:high', 'GT', ARGV[1], 'redis')
if indexed and indexed ~= value and redis.call('HGET', index, indexed) == id then
  redis.call('HDEL', index, indexed)
end
if is_dirty then redis.call('ZADD', dirty, ARGV[1], mark) else redis.call('ZREM', dirty, mark) end
if deleted then
  if listed then unlist(prefix, id, before) end
  return 0
end

redis.call('HSET', record, '_version', ARGV[1], '_cached', ARGV[4])
if expires then redis.call('HSET', record, '_expires', ARGV[9]) end
for i = 15, #ARGV, 2 do redis.call('HSET', record, ARGV[i], ARGV[i + 1]) end
if listed then list(prefix, id, before, entries(record)) end
if value ~= '' and redis.call('HGET', index, value) ~= id then
  redis.call('HSET', index, value, id)
end
if whole then return 0 end
if expires and not is_dirty then redis.call('PEXPIREAT', record, ARGV[9]) end
-- Each write looks at two other ids, so that the ids of expired records stay fewer than the live ones.
for _, other in ipairs(redis.call('ZRANDMEMBER', ids, 2)) do
  if redis.call('EXISTS', prefix .. other) == 0 then redis.call('ZREM', ids, other) end
end
return 0
