-- Ends calls: see `Allowance::spend`.
-- KEYS: for each its leases, reserved, sums, window's start, tokens, dollars.
-- ARGV: keys' life beyond that of a lease, life of a lease, how long a cost is held; then for each its lease, what was
--       reserved or '', what is held of it now or '', window in ms (0: it counts in none), tokens used, cost.
local beyond, life, held = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function count(call, at)
  local start, window = KEYS[call + 4], tonumber(ARGV[at + 3])
  local began = window > 0 and tonumber(redis.call('GET', start))
  local left = began and began + window - now
  if not left or left <= 0 then return end
  local tokens, dollars = KEYS[call + 5], KEYS[call + 6]
  local was = redis.call('MGET', tokens, dollars)
  local used = (tonumber(was[1]) or 0) + tonumber(ARGV[at + 4])
  local cost = (tonumber(was[2]) or 0) + tonumber(ARGV[at + 5]) / 1000000
  redis.call('SET', tokens, string.format('%.0f', used), 'PX', left)
  redis.call('SET', dollars, string.format('%.6f', cost), 'PX', left)
end

for n = 0, #KEYS / 6 - 1 do
  local call, at = n * 6, 4 + n * 6
  local reserved, sums, was = KEYS[call + 2], KEYS[call + 3], ARGV[at + 1]
  redis.pcall('ZREM', KEYS[call + 1], ARGV[at])
  -- Counted once: whoever takes the reservation away counts.
  if was ~= '' and redis.call('ZREM', reserved, was) == 1 then
    take_back(sums, was)
    count(call, at)
    if ARGV[at + 2] ~= '' then hold(reserved, sums, ARGV[at + 2], now + held, life + beyond) end
  end
end
return 1
