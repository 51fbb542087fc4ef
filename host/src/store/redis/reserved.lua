-- What is reserved of a key's limits: a sorted set of 'KIND TOKENS COST LEASE' by when it ends, in ms, and a hash of
-- their sums. KIND 'r' is a call in flight, 'h' one that has ended and may not be in the usage counters yet.

-- The members of a key's leases that stand for a lease: itself, or one for each call in flight that an advance allows.
local function slots_of(lease, many)
  if many == 1 then return {lease} end
  local slots = {}
  for n = 1, many do slots[n] = lease .. '#' .. n end
  return slots
end

-- Adds what a member stands for to sums that are written later, or takes it away.
local function weigh(sum, member, sign)
  local kind, tokens, cost = string.match(member, '^(%a) (%d+) (%d+) ')
  if not kind then return end
  local field = kind == 'h' and 'held' or 'cost'
  sum.tokens = (sum.tokens or 0) + sign * tonumber(tokens)
  sum[field] = (sum[field] or 0) + sign * tonumber(cost)
end

local function hold(sum, reserved, member, ends)
  if redis.call('ZADD', reserved, string.format('%.0f', ends), member) == 1 then weigh(sum, member, 1) end
end

local function write_sums(sums, sum)
  for field, by in pairs(sum) do
    if by ~= 0 then redis.call('HINCRBY', sums, field, string.format('%.0f', by)) end
  end
end

local function live_on(reserved, sums, life)
  redis.call('PEXPIRE', reserved, life)
  redis.call('PEXPIRE', sums, life)
end

-- Takes a step that concerns one key. Answers why it failed, where that is what another program has made of the key:
-- the others are not to suffer for it.
local function of_one_key(step, ...)
  local done, why = pcall(step, ...)
  if done then return nil end
  local text = type(why) == 'table' and why.err or tostring(why)
  for _, known in ipairs({'WRONGTYPE', 'not an integer', 'not a valid float'}) do
    if string.find(text, known, 1, true) then return text end
  end
  error(why, 0)
end
