-- Who this server and its data are.
-- KEYS: identity, greatest version, what is known of the other store, right to repair, complete kinds.
-- ARGV: what to do, then its arguments. Answers 0 when that is not allowed any more.
local identity, high, counterpart, repair, complete = unpack(KEYS)
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
local holder = ARGV[2]

local act = {}

function act.read()
  return {run, redis.call('HGETALL', identity), redis.call('ZSCORE', high, 'redis') or '0',
    redis.call('HGETALL', counterpart)}
end

-- incarnation, mark, replace
function act.remember()
  local known = redis.call('HGET', counterpart, 'incarnation')
  if ARGV[4] == '0' and known then
    local mark = tonumber(redis.call('HGET', counterpart, 'mark')) or 0
    if known ~= ARGV[2] or mark >= tonumber(ARGV[3]) then return 0 end
  end
  redis.call('HSET', counterpart, 'incarnation', ARGV[2], 'mark', ARGV[3])
  return 1
end

-- holder, milliseconds, renew
function act.claim()
  local held = redis.call('GET', repair)
  if held ~= holder and (held or ARGV[4] == '1') then return 0 end
  redis.call('SET', repair, holder, 'PX', ARGV[3])
  return 1
end

-- incarnation
function act.doubt()
  redis.call('DEL', complete)
  redis.call('HDEL', identity, 'verified')
  redis.call('HSETNX', identity, 'incarnation', ARGV[2])
  return 1
end

-- holder or '', run
function act.vouch()
  if run ~= ARGV[3] or (holder ~= '' and redis.call('GET', repair) ~= holder) then return 0 end
  redis.call('HSET', identity, 'verified', run)
  if holder ~= '' then redis.call('DEL', repair) end
  return 1
end

-- '1' or '0'
function act.sync()
  if ARGV[2] == '0' then
    redis.call('HDEL', identity, 'synced')
  elseif redis.call('HGET', identity, 'synced') ~= run then
    redis.call('HSET', identity, 'synced', run)
  end
  return 1
end

return act[ARGV[1]]()
