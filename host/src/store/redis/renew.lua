-- Lets calls in flight go on: see `Allowance::renew`.
-- KEYS: none: see `add.lua`. ARGV: life of a lease, keys' life beyond that; then for each the keys of its leases,
--       reserved and sums, its lease or '' without a limit of concurrency, and what is reserved or ''.
local life, beyond = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 3, #ARGV, 5 do
  if ARGV[at + 3] ~= '' then
    redis.pcall('ZADD', ARGV[at], now + life, ARGV[at + 3])
    redis.call('PEXPIRE', ARGV[at], life + beyond)
  end
  if ARGV[at + 4] ~= '' then
    hold(ARGV[at + 1], ARGV[at + 2], ARGV[at + 4], now + life, life + beyond)
  end
end
return 1
