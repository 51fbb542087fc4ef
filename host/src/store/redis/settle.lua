-- KEYS: dirty. ARGV: life of a clean tombstone, then for each record its key, its tombstone, its mark,
-- the version that the other store has, and whether its kind is whole.
for i = 2, #ARGV, 5 do
  local record, tombstone, mark = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local version, whole = tonumber(ARGV[i + 3]), ARGV[i + 4] == '1'
  if redis.call('EXISTS', record) == 1 then
    local held = redis.call('HMGET', record, '_version', '_expires')
    if (tonumber(held[1]) or 1) == version and redis.call('ZREM', KEYS[1], mark) == 1
      and held[2] and not whole then
      redis.call('PEXPIREAT', record, held[2])
    end
  elseif tonumber(redis.call('GET', tombstone)) == version
    and redis.call('ZREM', KEYS[1], mark) == 1 then
    redis.call('PEXPIRE', tombstone, ARGV[1])
  end
end
return 0
