-- A part of a list: looks at some records in order, and answers those of them that belong to it.
-- KEYS: list. ARGV: prefix of the records, prefix of the tombstones, by ('score' or 'name'), descending, the place
--       before it: begun, score or name, id; how many to answer, how many to look at, state, tag or '', part of the
--       name or ''.
-- Answers {{id, record}...}, and the score or name and the id of the last one looked at, unless the list ends here.
local key, prefix, tombstones = KEYS[1], ARGV[1], ARGV[2]
local by_name, descending, begun = ARGV[3] == 'name', ARGV[4] == '1', ARGV[5] == '1'
local value, after, wanted, visits = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local state, tag, part = ARGV[10], ARGV[11], ARGV[12]

-- By bytes, which Lua's own comparison is not in every locale.
local function is_less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- How many members come before the place, which is where the list goes on. Entries of one score are many.
local function rank_after()
  if not begun then return 0 end
  local low, high, score = 0, redis.call('ZCARD', key), tonumber(value)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local held = redis.call(descending and 'ZREVRANGE' or 'ZRANGE', key, middle, middle, 'WITHSCORES')
    local id, its = held[1], tonumber(held[2])
    local passed
    if its ~= score then passed = (its < score) ~= descending
    elseif id == after then passed = true
    else passed = is_less(id, after) ~= descending end
    if passed then low = middle + 1 else high = middle end
  end
  return low
end

local seen = {}
if by_name then
  local from = begun and '(' .. value .. '\0' .. after
  if descending then
    seen = redis.call('ZREVRANGEBYLEX', key, from or '+', '-', 'LIMIT', 0, visits)
  else
    seen = redis.call('ZRANGEBYLEX', key, from or '-', '+', 'LIMIT', 0, visits)
  end
else
  local rank = rank_after()
  seen = redis.call(descending and 'ZREVRANGE' or 'ZRANGE', key, rank, rank + visits - 1)
end
if #seen == 0 then return {{}} end

local ids, names = seen, {}
if by_name then
  ids = {}
  for i, member in ipairs(seen) do
    local at = 0
    repeat
      local next_at = string.find(member, '\0', at + 1, true)
      at = next_at or at
    until not next_at
    names[i], ids[i] = string.sub(member, 1, math.max(at - 1, 0)), string.sub(member, at + 1)
  end
end

-- Which of them are in a set.
local function among(set)
  local answer = {}
  for from = 1, #ids, 1000 do
    local part_of = {}
    for i = from, math.min(from + 999, #ids) do part_of[#part_of + 1] = ids[i] end
    for i, is in ipairs(redis.call('SMISMEMBER', prefix .. set, unpack(part_of))) do answer[from + i - 1] = is == 1 end
  end
  return answer
end
local active = (state == 'active' or state == 'disabled') and among('set:active')
local deleted = state ~= 'all' and among('set:deleted')
-- The lists of tags have no deleted keys: the reader looks into those.
local tagged = tag ~= '' and state ~= 'all' and state ~= 'deleted' and among('tag:' .. tag)

local function belongs(i)
  if state == 'active' and not active[i] then return false end
  if state == 'disabled' and active[i] then return false end
  if deleted and deleted[i] ~= (state == 'deleted') then return false end
  if tagged and not tagged[i] then return false end
  if part == '' then return true end
  local name = names[i] or string.lower(redis.call('HGET', prefix .. ids[i], 'name') or '')
  return string.find(name, part, 1, true) ~= nil
end

local answer, last = {}, #ids
for i, id in ipairs(ids) do
  if belongs(i) then
    local readable, record = pcall(read, prefix .. id, tombstones .. id)
    if readable and #record[1] == 0 then
      redis.call('ZREM', key, seen[i])
    elseif readable then
      answer[#answer + 1] = {id, record, names[i] or false}
    end
    if #answer >= wanted then
      last = i
      break
    end
  end
end
if last == #ids and #ids < visits then return {answer} end
return {answer, names[last] or redis.call('ZSCORE', key, seen[last]) or value, ids[last]}
