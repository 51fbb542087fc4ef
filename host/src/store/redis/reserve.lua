-- Admits a call, or says what is in the way: see `Allowance::reserve`.
-- KEYS: none: see `add.lua`.
-- ARGV: the keys of leases, reserved, sums, the window's start, requests, tokens and dollars; lease, its life, keys'
--       life beyond that, what is reserved or '', tokens and cost of it, concurrency, window in ms, requests, tokens, cost, daily, weekly and total cost (0: no limit),
--       totals given or '' and the three of them, the hash of today's counters and the key of its dollars, the same
--       of all time, the API key, the weekday and the hour that its week begins with, and the hour it is.
-- Answers {what is in the way or '', how much is used, whether others reserve the rest, ms until it resets}.
-- Checks first and writes last.
local leases, reserved, sums, start, requests, tokens, dollars = unpack(ARGV, 1, 7)
local lease, life, beyond = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local member, my_tokens, my_cost = ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13])
local concurrency, window = tonumber(ARGV[14]), tonumber(ARGV[15])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if concurrency > 0 then
  -- An old Claude Relay Service counts in a string, and nobody renews that.
  if type(redis.pcall('ZREMRANGEBYSCORE', leases, '-inf', now)) == 'table' then redis.call('DEL', leases) end
  local held = redis.call('ZCARD', leases)
  if held >= concurrency then return {'concurrency', held, 0, 0} end
end

local flying = {tokens = 0, cost = 0, held = 0}
if member ~= '' then
  local gone = redis.call('ZRANGEBYSCORE', reserved, '-inf', now, 'LIMIT', 0, 500)
  if gone[1] then
    redis.call('ZREM', reserved, unpack(gone))
    for _, other in ipairs(gone) do take_back(sums, other) end
  end
  if redis.call('ZCARD', reserved) == 0 then
    redis.call('DEL', sums)
  else
    local said = redis.call('HMGET', sums, 'tokens', 'cost', 'held')
    flying.tokens, flying.cost = tonumber(said[1]) or 0, tonumber(said[2]) or 0
    flying.held = tonumber(said[3]) or 0
  end
end

-- Whether a limit is in the way of a call, given what is counted and what is held beside it.
local function in_the_way(what, cap, used, held, others, mine, reset)
  if cap == 0 then return nil end
  if used >= cap then return {what, used, 0, reset} end
  local all = used + held + others
  if used + held >= cap or (others > 0 and all + mine > cap) then return {what, all, 1, reset} end
end

local began, counted
if window > 0 then
  local held = redis.call('MGET', start, requests, tokens, dollars)
  began, counted = tonumber(held[1]), tonumber(held[2]) or 0
  local used, cost = tonumber(held[3]) or 0, math.floor((tonumber(held[4]) or 0) * 1000000 + 0.5)
  if not began or now - began >= window then began, counted, used, cost = nil, 0, 0, 0 end
  local left = began and math.min(began + window - now, window) or window
  local found = in_the_way('requests', tonumber(ARGV[16]), counted, 0, 0, 1, left)
    or in_the_way('tokens', tonumber(ARGV[17]), used, 0, flying.tokens, my_tokens, left)
    or in_the_way('window-cost', tonumber(ARGV[18]), cost, 0, flying.cost, my_cost, left)
  if found then return found end
end

local daily, weekly, total = tonumber(ARGV[19]), tonumber(ARGV[20]), tonumber(ARGV[21])
if daily > 0 or weekly > 0 or total > 0 then
  local today, week, ever = tonumber(ARGV[23]), tonumber(ARGV[24]), tonumber(ARGV[25])
  if ARGV[22] == '' then
    if redis.call('SISMEMBER', 'switchyard:complete', 'usage') == 0 then return {'uncounted', 0, 0, 0} end
    today, week, ever = 0, 0, 0
    if daily > 0 then today = cost_of(ARGV[26], ARGV[27]) end
    if total > 0 then ever = cost_of(ARGV[28], ARGV[29]) end
    if weekly > 0 then week = cost_of_week(ARGV[30], week_start(ARGV[31], ARGV[32], tonumber(ARGV[33]))) end
  end
  local found = in_the_way('daily-cost', daily, today, flying.held, flying.cost, my_cost, 0)
    or in_the_way('total-cost', total, ever, flying.held, flying.cost, my_cost, 0)
    or in_the_way('weekly-cost', weekly, week, flying.held, flying.cost, my_cost, 0)
  if found then return found end
end

if concurrency > 0 then
  redis.call('ZADD', leases, now + life, lease)
  redis.call('PEXPIRE', leases, life + beyond)
end
if window > 0 then
  if not began then
    began = now
    redis.call('SET', start, string.format('%.0f', now), 'PX', window)
    redis.call('DEL', tokens, dollars)
  end
  redis.call('SET', requests, string.format('%.0f', counted + 1), 'PX', math.max(1, began + window - now))
end
if member ~= '' then hold(reserved, sums, member, now + life, life + beyond) end
return {'', 0, 0, 0}
