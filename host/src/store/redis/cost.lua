-- What a window of usage has cost in micro-dollars: the key in dollars has the whole of it, unless it has expired.
local function cost_of(hash, dollars)
  local ours, theirs = redis.pcall('HGET', hash, 'costMicroUsd'), redis.pcall('GET', dollars)
  local function number(said) return type(said) == 'string' and tonumber(said) or 0 end
  return math.max(number(ours), math.floor(number(theirs) * 1000000 + 0.5))
end
