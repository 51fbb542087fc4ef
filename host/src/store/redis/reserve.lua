-- Admits calls, or says what is in the way: see `Allowance::reserve`.
-- KEYS: none: see `add.lua`.
-- ARGV: life of a lease, that of keys; then for each key its leases, reserved, sums, the window's start,
--       requests, tokens and dollars; its limits: concurrency, window in ms, requests, tokens, cost, daily, weekly and
--       total cost (0: none); whether what calls will use is reserved, 1 or ''; totals given or '' and the three of
--       them; the hash of today's counters and the key of its dollars, the same of all time, the API key, the weekday
--       and the hour that its week begins with, and the hour it is; the number of its calls; for each call its lease,
--       the tokens and the cost that are expected of it, and how many calls in flight and requests it stands for.
-- Answers for each call what is in the way or '', how much is used, whether others reserve the rest, and the ms until it
-- resets; or 'failed' and why; for an advance 'advanced', 0, 0 and the ms until its window ends. A call is judged
-- as if those before it had been admitted or refused by themselves.
local life, kept = tonumber(ARGV[1]), ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- As texts: a number that is given to a command is written out each time.
local now_text, ends = string.format('%.0f', now), string.format('%.0f', now + life)

-- What stands in the way of a call, given what is counted, held, and reserved by others. An advance leaves half of the
-- limit to calls that are there.
local function in_the_way(what, cap, used, held, others, mine, reset, advance)
  if cap == 0 then return nil end
  if used >= cap then return {what, used, 0, reset} end
  local all = used + held + others
  if used + held >= cap or (others > 0 and all + mine > cap) or (advance and all + mine > cap / 2) then
    return {what, all, 1, reset}
  end
end

local function in_flight(leases)
  -- An old Claude Relay Service counts in a string, and nobody renews that.
  if type(redis.pcall('ZREMRANGEBYSCORE', leases, '-inf', now_text)) == 'table' then redis.call('DEL', leases) end
  return redis.call('ZCARD', leases)
end

-- What calls in flight and calls that have ended have reserved, without those whose time is over.
local function flying(reserved, sums)
  local first = redis.call('ZRANGE', reserved, '0', '0', 'WITHSCORES')
  if first[1] and tonumber(first[2]) <= now then
    local gone, sum = redis.call('ZRANGEBYSCORE', reserved, '-inf', now_text, 'LIMIT', '0', '500'), {}
    redis.call('ZREM', reserved, unpack(gone))
    for _, other in ipairs(gone) do weigh(sum, other, -1) end
    write_sums(sums, sum)
    first = redis.call('ZRANGE', reserved, '0', '0')
  end
  if not first[1] then
    redis.call('DEL', sums)
    return 0, 0, 0
  end
  local said = redis.call('HMGET', sums, 'tokens', 'cost', 'held')
  return tonumber(said[1]) or 0, tonumber(said[2]) or 0, tonumber(said[3]) or 0
end

-- What usage counters say of today, the week and all time; none if they lack something.
local function totals(at, daily, weekly, total)
  if ARGV[at] ~= '' then return tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]) end
  if redis.call('SISMEMBER', 'switchyard:complete', 'usage') == 0 then return nil end
  local today, week, ever = 0, 0, 0
  if daily > 0 then today = cost_of(ARGV[at + 4], ARGV[at + 5]) end
  if total > 0 then ever = cost_of(ARGV[at + 6], ARGV[at + 7]) end
  if weekly > 0 then
    week = cost_of_week(ARGV[at + 8], week_start(ARGV[at + 9], ARGV[at + 10], tonumber(ARGV[at + 11])))
  end
  return today, week, ever
end

local answers = {}
-- The calls of one key. Reads first and writes last.
local function admit(at, first, last)
  local leases, reserved, sums, start, requests, tokens, dollars = unpack(ARGV, at, at + 6)
  local concurrency, window, max_requests = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  local max_tokens, max_cost = tonumber(ARGV[at + 10]), tonumber(ARGV[at + 11])
  local daily, weekly, total = tonumber(ARGV[at + 12]), tonumber(ARGV[at + 13]), tonumber(ARGV[at + 14])
  local reserves = ARGV[at + 15] ~= ''
  local held = concurrency > 0 and in_flight(leases) or 0
  local my_tokens, my_cost, ended = 0, 0, 0
  -- What advances have reserved is looked through even where nothing is metered: some of them may never be told of.
  local is_advance = tonumber(ARGV[first + 4]) > 1
  if reserves or is_advance then my_tokens, my_cost, ended = flying(reserved, sums) end
  local began, counted, used, cost = nil, 0, 0, 0
  if window > 0 then
    local said = redis.call('MGET', start, requests, tokens, dollars)
    began = tonumber(said[1])
    if began and now - began >= window then began = nil end
    if began then
      counted, used = tonumber(said[2]) or 0, tonumber(said[3]) or 0
      cost = math.floor((tonumber(said[4]) or 0) * 1000000 + 0.5)
    end
  end
  local left = began and math.min(began + window - now, window) or window
  local today, week, ever
  local costs = daily > 0 or weekly > 0 or total > 0

  local function judge(tokens_of_it, cost_of_it, slots, begins)
    local advance = begins > 1
    if concurrency > 0 and held + slots > concurrency / (advance and 2 or 1) then
      return {'concurrency', held, 0, 0}
    end
    local found = window > 0
      and (in_the_way('requests', max_requests, counted, 0, 0, begins, left, advance)
        or in_the_way('tokens', max_tokens, used, 0, my_tokens, tokens_of_it, left, advance)
        or in_the_way('window-cost', max_cost, cost, 0, my_cost, cost_of_it, left, advance))
    if found or not costs then return found end
    if not today then today, week, ever = totals(at + 16, daily, weekly, total) end
    if not today then return {'uncounted', 0, 0, 0} end
    return in_the_way('daily-cost', daily, today, ended, my_cost, cost_of_it, 0, advance)
      or in_the_way('total-cost', total, ever, ended, my_cost, cost_of_it, 0, advance)
      or in_the_way('weekly-cost', weekly, week, ended, my_cost, cost_of_it, 0, advance)
  end

  local admitted, sum, advances = {}, {tokens = 0, cost = 0}, false
  for call = first, last, 5 do
    local tokens_of_it, cost_of_it = tonumber(ARGV[call + 1]), tonumber(ARGV[call + 2])
    local slots, begins = tonumber(ARGV[call + 3]), tonumber(ARGV[call + 4])
    local found = judge(tokens_of_it, cost_of_it, slots, begins)
    local advanced = begins > 1 and {'advanced', 0, 0, window > 0 and left or 0}
    table.insert(answers, found or advanced or {'', 0, 0, 0})
    if not found then
      for _, slot in ipairs(slots_of(ARGV[call], slots)) do
        table.insert(admitted, ends)
        table.insert(admitted, slot)
      end
      held, counted = held + slots, counted + begins
      my_tokens, my_cost = my_tokens + tokens_of_it, my_cost + cost_of_it
      advances = advances or advanced
      if reserves or advanced then
        local member = 'r ' .. ARGV[call + 1] .. ' ' .. ARGV[call + 2] .. ' ' .. ARGV[call]
        if redis.call('ZADD', reserved, ends, member) == 1 then
          sum.tokens, sum.cost = sum.tokens + tokens_of_it, sum.cost + cost_of_it
        end
      end
    end
  end
  if not admitted[1] then return end
  if concurrency > 0 then
    redis.call('ZADD', leases, unpack(admitted))
    redis.call('PEXPIRE', leases, kept)
  end
  if window > 0 then
    if not began then
      redis.call('SET', start, now_text, 'PX', ARGV[at + 8])
      redis.call('DEL', tokens, dollars)
    end
    redis.call('SET', requests, string.format('%.0f', counted), 'PX', math.max(1, left))
  end
  if reserves or advances then
    write_sums(sums, sum)
    live_on(reserved, sums, kept)
  end
end

local at = 3
while at <= #ARGV do
  local first, calls, before = at + 29, tonumber(ARGV[at + 28]), #answers
  local why = of_one_key(admit, at, first, first + 5 * calls - 1)
  for call = 1, why and calls or 0 do answers[before + call] = {'failed', why, 0, 0} end
  at = first + 5 * calls
end
return answers
