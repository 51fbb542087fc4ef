-- Lets calls in flight go on: see `Allowance::renew`.
-- KEYS: none: see `add.lua`. ARGV: life of a lease, that of keys; then for each the keys of its leases,
--       reserved and sums, its lease or '' without a limit of concurrency, and what is reserved or ''.
local life, kept = tonumber(ARGV[1]), ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function renew(at)
  if ARGV[at + 3] ~= '' then
    redis.pcall('ZADD', ARGV[at], now + life, ARGV[at + 3])
    redis.call('PEXPIRE', ARGV[at], kept)
  end
  if ARGV[at + 4] ~= '' then
    local reserved, sums, sum = ARGV[at + 1], ARGV[at + 2], {}
    hold(sum, reserved, ARGV[at + 4], now + life)
    write_sums(sums, sum)
    live_on(reserved, sums, kept)
  end
end

for at = 3, #ARGV, 5 do of_one_key(renew, at) end
return 1
