-- Ends calls: see `Allowance::spend`.
-- KEYS: none: see `add.lua`.
-- ARGV: life of keys, how long a cost is held, life of a lease; then for each key its leases,
--       reserved, sums, window's start, tokens, dollars and requests, its window in ms (0: nothing is metered in one)
--       and the number of its calls; for each call its lease, what was reserved or '', what is held of it now or '',
--       tokens used, cost, how many calls in flight it stood for, and its requests that were not made.
local kept, held, life = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function count(start, tokens, dollars, window, used, cost)
  local began = window > 0 and tonumber(redis.call('GET', start))
  local left = began and began + window - now
  if not left or left <= 0 then return end
  local was = redis.call('MGET', tokens, dollars)
  redis.call('SET', tokens, string.format('%.0f', (tonumber(was[1]) or 0) + used), 'PX', left)
  redis.call('SET', dollars, string.format('%.6f', (tonumber(was[2]) or 0) + cost / 1000000), 'PX', left)
end

-- Requests that were not made, while the window goes on that they were counted in. Nobody renews an advance: it was
-- taken a lease's life before it ends.
local function uncount(start, requests, unmade, ends)
  local began = unmade > 0 and ends and tonumber(redis.call('GET', start))
  if not began or began > tonumber(ends) - life then return end
  local counted = tonumber(redis.call('GET', requests)) or 0
  redis.call('SET', requests, string.format('%.0f', math.max(0, counted - unmade)), 'XX', 'KEEPTTL')
end

-- The calls of one key.
local function finish(at, first, last)
  local leases, reserved, sums = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local ended, sum, counts, holds, tokens, cost = {}, {}, false, false, 0, 0
  for call = first, last, 7 do
    local was, held_now, slots = ARGV[call + 1], ARGV[call + 2], tonumber(ARGV[call + 5])
    if slots == 1 then
      table.insert(ended, ARGV[call])
    else
      redis.pcall('ZREM', leases, unpack(slots_of(ARGV[call], slots)))
    end
    local unmade = tonumber(ARGV[call + 6])
    local ends = unmade > 0 and redis.call('ZSCORE', reserved, was)
    -- Counted once: whoever takes the reservation away counts.
    if was ~= '' and redis.call('ZREM', reserved, was) == 1 then
      counts = true
      uncount(ARGV[at + 3], ARGV[at + 6], unmade, ends)
      weigh(sum, was, -1)
      tokens, cost = tokens + tonumber(ARGV[call + 3]), cost + tonumber(ARGV[call + 4])
      if held_now ~= '' then
        holds = true
        hold(sum, reserved, held_now, now + held)
      end
    end
  end
  if ended[1] then redis.pcall('ZREM', leases, unpack(ended)) end
  write_sums(sums, sum)
  if counts then count(ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], tonumber(ARGV[at + 7]), tokens, cost) end
  if holds then live_on(reserved, sums, kept) end
end

local at = 4
while at <= #ARGV do
  local first = at + 9
  local last = first + 7 * tonumber(ARGV[at + 8]) - 1
  -- Where it fails the leases end by themselves.
  of_one_key(finish, at, first, last)
  at = last + 1
end
return 1
