-- Claude Relay Service's lists of its keys: by time, by name, by state and by tag. They follow from the records and
-- are kept in the same step; an error among them, as of a key of another type, does not undo the write.

-- Milliseconds since 1970 of a time as that program writes it; 0 of anything else.
local function moment(text)
  local pattern = '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)%.?(%d*)Z$'
  local year, month, day, hour, minute, second, part = string.match(text, pattern)
  if not year then return '0' end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  -- Years that begin in March: the day that may be missing is the last one.
  if month <= 2 then year, month = year - 1, month + 12 end
  local floor = math.floor
  local days = 365 * year + floor(year / 4) - floor(year / 100) + floor(year / 400)
    + floor((153 * (month - 3) + 2) / 5) + day - 719469
  local seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
  return string.format('%.0f', seconds * 1000 + tonumber(string.sub(part .. '000', 1, 3)))
end

-- The first 200 characters.
local function first(text)
  if #text <= 200 then return text end
  local seen = 0
  for i = 1, #text do
    local byte = string.byte(text, i)
    if byte < 128 or byte > 191 then seen = seen + 1 end
    if seen > 200 then return string.sub(text, 1, i - 1) end
  end
  return text
end

-- Where the lists have a record; nil if there is none.
local function entries(key)
  local held = redis.call('HMGET', key, 'name', 'createdAt', 'lastUsedAt', 'isActive', 'isDeleted', 'deletedAt', 'tags')
  if redis.call('EXISTS', key) == 0 then return nil end
  local deleted, tags = held[5] == 'true', {}
  local readable, array = pcall(cjson.decode, held[7] or '')
  -- The lists of tags have no deleted keys.
  for _, tag in ipairs(not deleted and readable and type(array) == 'table' and array or {}) do
    if type(tag) == 'string' and tag ~= '' then tags[tag] = true end
  end
  return {
    name = string.lower(first(held[1] or '')),
    created = moment(held[2] or ''),
    used = moment(held[3] or ''),
    active = held[4] == 'true' and not deleted,
    deleted = deleted,
    deleted_at = moment(held[6] or ''),
    tags = tags,
  }
end

local function leave_tag(prefix, id, tag)
  redis.pcall('SREM', prefix .. 'tag:' .. tag, id)
  if redis.call('EXISTS', prefix .. 'tag:' .. tag) == 0 then redis.pcall('SREM', prefix .. 'tags:all', tag) end
end

local function unlist(prefix, id, before)
  for _, name in ipairs({'idx:createdAt', 'idx:lastUsedAt', 'idx:deletedAt'}) do
    redis.pcall('ZREM', prefix .. name, id)
  end
  for _, name in ipairs({'idx:all', 'set:active', 'set:deleted'}) do redis.pcall('SREM', prefix .. name, id) end
  if not before then return end
  redis.pcall('ZREM', prefix .. 'idx:name', before.name .. '\0' .. id)
  for tag in pairs(before.tags) do leave_tag(prefix, id, tag) end
end

local function list(prefix, id, before, now)
  redis.pcall('SADD', prefix .. 'idx:all', id)
  redis.pcall('ZADD', prefix .. 'idx:createdAt', now.created, id)
  redis.pcall('ZADD', prefix .. 'idx:lastUsedAt', now.used, id)
  if before and before.name ~= now.name then redis.pcall('ZREM', prefix .. 'idx:name', before.name .. '\0' .. id) end
  redis.pcall('ZADD', prefix .. 'idx:name', 0, now.name .. '\0' .. id)
  redis.pcall(now.active and 'SADD' or 'SREM', prefix .. 'set:active', id)
  redis.pcall(now.deleted and 'SADD' or 'SREM', prefix .. 'set:deleted', id)
  if now.deleted then
    redis.pcall('ZADD', prefix .. 'idx:deletedAt', now.deleted_at, id)
  else
    redis.pcall('ZREM', prefix .. 'idx:deletedAt', id)
  end
  for tag in pairs(before and before.tags or {}) do
    if not now.tags[tag] then leave_tag(prefix, id, tag) end
  end
  for tag in pairs(now.tags) do
    redis.pcall('SADD', prefix .. 'tag:' .. tag, id)
    redis.pcall('SADD', prefix .. 'tags:all', tag)
  end
end

