-- What is reserved of a key's limits: a sorted set of 'KIND TOKENS COST LEASE' by when it ends, in ms, and a hash of
-- their sums. KIND 'r' is a call in flight, 'h' one that has ended and may not be in the usage counters yet.
local function add(sums, member, sign)
  local kind, tokens, cost = string.match(member, '^(%a) (%d+) (%d+) ')
  if not kind then return end
  if tokens ~= '0' then redis.call('HINCRBY', sums, 'tokens', sign .. tokens) end
  if cost ~= '0' then redis.call('HINCRBY', sums, kind == 'h' and 'held' or 'cost', sign .. cost) end
end

local function take_back(sums, member) add(sums, member, '-') end

local function hold(reserved, sums, member, ends, life)
  if redis.call('ZADD', reserved, string.format('%.0f', ends), member) == 1 then add(sums, member, '') end
  redis.call('PEXPIRE', reserved, life)
  redis.call('PEXPIRE', sums, life)
end
