-- One batch of usage events: those that are new are remembered, owed if dirty, and counted.
-- KEYS: owed. No window is one: under CLIENT TRACKING each read of a script makes Redis 7.0 remember all of KEYS.
-- ARGV: how long an event is remembered, dirty, number of counters C, which of them is the cost, for how long a list
--       of requests is kept and how many are, number of windows; for each window its hash, its life in ms (0 for
--       ever), the key of an index and what to add there, the key where another program counts dollars and its life
--       in ms, the key where it counts what was paid, and its C field names ('' for what is not kept there); number of
--       groups of events that count in the same windows; for each the number of its windows and which ones, counted
--       from 1; then for each event its key, id, JSON, the id of its API key, the hour that its week is counted by or
--       '', what is listed of it or '', its group, counted from 1, and its C counts.
-- Answers how many events were new, or -1 while nothing is counted.
if redis.call('EXISTS', 'switchyard:usage:closed') == 1 then return -1 end
local remembered, dirty, counters, cost = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4])
local kept, listed = ARGV[5], tonumber(ARGV[6])
local at, windows, groups, weeks, requests = 8, {}, {}, {}, {}
for i = 1, tonumber(ARGV[7]) do
  -- Fails before anything is written if it is not a hash. One that is there has its life and its place in an index.
  windows[i] = {key = ARGV[at], at = at + 1, sums = {}, is_new = redis.call('HLEN', ARGV[at]) == 0}
  at = at + 7 + counters
end

for i = 1, tonumber(ARGV[at]) do
  groups[i] = {at = at + 2, last = at + 1 + tonumber(ARGV[at + 1]), sums = {}}
  at = groups[i].last
end
at = at + 1

local new, owed = 0, {}
-- Fails before anything is remembered if it is not a hash.
if dirty then redis.call('HLEN', KEYS[1]) end
while at <= #ARGV do
  local key, id, json = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local counts = at + 7
  if redis.call('SET', key, 1, 'NX', 'PX', remembered) then
    new = new + 1
    if dirty then
      table.insert(owed, id)
      table.insert(owed, json)
    end
    local sums, by = groups[tonumber(ARGV[at + 6])].sums, {}
    for c = 1, counters do
      by[c] = tonumber(ARGV[counts + c - 1])
      sums[c] = (sums[c] or 0) + by[c]
    end
    local api_key, hour, request = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    if hour ~= '' then
      weeks[api_key] = weeks[api_key] or {}
      weeks[api_key][hour] = (weeks[api_key][hour] or 0) + by[cost]
    end
    if request ~= '' then
      requests[api_key] = requests[api_key] or {}
      table.insert(requests[api_key], request)
    end
  end
  at = counts + counters
end
if owed[1] then redis.call('HSET', KEYS[1], unpack(owed)) end
for _, group in ipairs(groups) do
  for w = group.at, group.last do
    local sums = windows[tonumber(ARGV[w])].sums
    for c = 1, group.sums[1] and counters or 0 do sums[c] = (sums[c] or 0) + group.sums[c] end
  end
end

local function count(key, field, by)
  local step = string.format('%.0f', by)
  if type(redis.pcall('HINCRBY', key, field, step)) == 'table' then
    -- Not an integer, or past 2^63: another program's. What is counted goes on from its whole part.
    local held = math.floor(tonumber(redis.call('HGET', key, field)) or 0)
    redis.call('HSET', key, field, string.format('%.0f', math.min(held + by, 9007199254740991)))
  end
end
local function note(index, member, life)
  -- What is not a set is another program's matter.
  redis.pcall('SADD', index, member)
  redis.call('PEXPIRE', index, life)
  redis.call('DEL', index .. ':empty')
  local month = string.match(index, '^usage:model:monthly:index:(.+)$')
  if month then redis.pcall('SADD', 'usage:model:monthly:months', month) end
end
-- Before the days of a week are counted: a week that is new goes on from them.
for id, hours in pairs(weeks) do
  for hour, micro in pairs(hours) do count_week(id, tonumber(hour), micro, true) end
end
for id, new_ones in pairs(requests) do
  local list = 'usage:records:' .. id
  redis.pcall('LPUSH', list, unpack(new_ones))
  redis.pcall('LTRIM', list, 0, listed - 1)
  redis.call('PEXPIRE', list, kept)
end
for _, window in ipairs(windows) do
  local key, at, sums, is_new = window.key, window.at, window.sums, window.is_new
  -- That program makes the sum of everything itself where it is missing: a part of it would be taken for the whole.
  if sums[1] and not (is_new and key == 'usage:global:total') then
    for c = 1, counters do
      local field = ARGV[at + 5 + c]
      if sums[c] > 0 and field ~= '' then count(key, field, sums[c]) end
    end
    if is_new and ARGV[at] ~= '0' then redis.call('PEXPIRE', key, ARGV[at]) end
    if is_new and ARGV[at + 1] ~= '' then note(ARGV[at + 1], ARGV[at + 2], ARGV[at]) end
    for _, dollars in ipairs({ARGV[at + 3], ARGV[at + 5]}) do
      if dollars ~= '' and sums[cost] > 0 then
        redis.pcall('INCRBYFLOAT', dollars, string.format('%.0f', sums[cost]) .. 'e-6')
        if ARGV[at + 4] ~= '0' and redis.call('PTTL', dollars) == -1 then
          redis.call('PEXPIRE', dollars, ARGV[at + 4])
        end
      end
    end
  end
end
return new
