-- The cost of a key's week, as Claude Relay Service counts it for its limit: in one key for each week, which begins at
-- a weekday and an hour that the API key names. Hours are counted from 1970-01-01 in the offset of usage.
local HOURS, KEPT = 168, 336

local function date_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1)
end

-- The hour that the week of an hour began with. Monday is 1; what is no day or hour is Monday or midnight.
local function week_start(day, hour, at)
  local function within(text, low, high)
    local number = tonumber(text)
    return number and number >= low and number <= high and math.floor(number) or low
  end
  -- The first Monday was the 5th.
  local first = 96 + (within(day, 1, 7) - 1) * 24 + within(hour, 0, 23)
  return at - (at - first) % HOURS
end

local function week_key(id, start)
  return 'usage:opus:weekly:' .. id .. ':' .. date_of(math.floor(start / 24)) .. string.format('T%02d', start % 24)
end

-- What the days and hours of a week say, for one that nobody has counted as such.
local function days_of_week(id, start)
  local at, stop, sum = start, start + HOURS, 0
  while at < stop do
    local date, whole = date_of(math.floor(at / 24)), at % 24 == 0 and at + 24 <= stop
    local place = whole and 'daily:' .. id .. ':' .. date
      or 'hourly:' .. id .. ':' .. date .. string.format(':%02d', at % 24)
    sum = sum + cost_of('usage:' .. place, 'usage:cost:' .. place)
    at = at + (whole and 24 or 1)
  end
  return sum
end

-- What a week has cost in micro-dollars.
local function cost_of_week(id, start)
  local dollars = redis.pcall('GET', week_key(id, start))
  local counted = type(dollars) == 'string' and tonumber(dollars)
  return counted and math.floor(counted * 1000000 + 0.5) or days_of_week(id, start)
end

-- Adds to the week of an hour, in micro-dollars. A week that is new goes on from what its days say, if that is asked.
local function count_week(id, at, micro, go_on)
  local said = redis.pcall('HMGET', 'apikey:' .. id, 'weeklyResetDay', 'weeklyResetHour')
  local start = week_start(said[1], said[2], at)
  if micro <= 0 or (start + KEPT) * 3600 < tonumber(redis.call('TIME')[1]) then return end
  local key = week_key(id, start)
  -- While usage is counted anew the days are not what they were.
  if go_on and redis.call('EXISTS', key) == 0 and redis.call('EXISTS', 'switchyard:repair') == 0 then
    micro = micro + days_of_week(id, start)
  end
  redis.pcall('INCRBYFLOAT', key, string.format('%.0f', micro) .. 'e-6')
  if redis.call('PTTL', key) == -1 then redis.call('EXPIRE', key, KEPT * 3600) end
end
