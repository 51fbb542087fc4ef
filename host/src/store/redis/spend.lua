-- Ends calls: see `Allowance::spend`.
-- KEYS: none: see `add.lua`.
-- ARGV: keys' life beyond that of a lease, life of a lease, how long a cost is held; then for each the keys of its
--       leases, reserved, sums, window's start, tokens and dollars, its lease, what was reserved or '', what is held
--       of it now or '', window in ms (0: it counts in none), tokens used, cost.
local beyond, life, held = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function count(at)
  local start, window = ARGV[at + 3], tonumber(ARGV[at + 9])
  local began = window > 0 and tonumber(redis.call('GET', start))
  local left = began and began + window - now
  if not left or left <= 0 then return end
  local tokens, dollars = ARGV[at + 4], ARGV[at + 5]
  local was = redis.call('MGET', tokens, dollars)
  local used = (tonumber(was[1]) or 0) + tonumber(ARGV[at + 10])
  local cost = (tonumber(was[2]) or 0) + tonumber(ARGV[at + 11]) / 1000000
  redis.call('SET', tokens, string.format('%.0f', used), 'PX', left)
  redis.call('SET', dollars, string.format('%.6f', cost), 'PX', left)
end

for at = 4, #ARGV, 12 do
  local reserved, sums, was = ARGV[at + 1], ARGV[at + 2], ARGV[at + 7]
  redis.pcall('ZREM', ARGV[at], ARGV[at + 6])
  -- Counted once: whoever takes the reservation away counts.
  if was ~= '' and redis.call('ZREM', reserved, was) == 1 then
    take_back(sums, was)
    count(at)
    if ARGV[at + 8] ~= '' then hold(reserved, sums, ARGV[at + 8], now + held, life + beyond) end
  end
end
return 1
