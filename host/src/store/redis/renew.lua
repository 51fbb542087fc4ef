-- Lets calls in flight go on: see `Allowance::renew`.
-- KEYS: for each its leases, reserved, sums. ARGV: life of a lease, keys' life beyond that; then for each its lease
--       or '' without a limit of concurrency, and what is reserved or ''.
local life, beyond = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for n = 0, #KEYS / 3 - 1 do
  local call, at = n * 3, 3 + n * 2
  local leases = KEYS[call + 1]
  if ARGV[at] ~= '' then
    redis.pcall('ZADD', leases, now + life, ARGV[at])
    redis.call('PEXPIRE', leases, life + beyond)
  end
  if ARGV[at + 1] ~= '' then
    hold(KEYS[call + 2], KEYS[call + 3], ARGV[at + 1], now + life, life + beyond)
  end
end
return 1
