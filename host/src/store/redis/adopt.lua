-- Takes in records that another program may have written: their ids, and, if they have no version, one that
-- makes them newer than what was known until now, with the mark that the other store does not have them.
-- KEYS: ids, dirty. ARGV: version, now, whole, prefix of the keys, prefix of the tombstones, prefix of the marks,
--       listed, then the ids, each followed by whether a record can have it.
-- Answers {id, why} for what is no record: 'type' and the type, 'id', 'text', 'nul'.
local ids, dirty = KEYS[1], KEYS[2]
local version, now, whole = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local prefix, listed = ARGV[4], ARGV[7] == '1'

-- How many bytes continue a character that begins with this one, and the range of the first of them.
local function tail(byte)
  if byte < 194 or byte > 244 then return nil end
  if byte < 224 then return 1, 128, 191 end
  if byte < 240 then return 2, byte == 224 and 160 or 128, byte == 237 and 159 or 191 end
  return 3, byte == 240 and 144 or 128, byte == 244 and 143 or 191
end

local function is_utf8(text)
  local at = string.find(text, '[\128-\255]')
  while at do
    local length, low, high = tail(string.byte(text, at))
    if not length then return false end
    for i = 1, length do
      local byte = string.byte(text, at + i)
      if not byte or byte < low or byte > high then return false end
      low, high = 128, 191
    end
    at = string.find(text, '[\128-\255]', at + length + 1)
  end
  return true
end

-- PostgreSQL takes no NUL.
local function why_not(text)
  if string.find(text, '%z') then return 'nul' end
  if not is_utf8(text) then return 'text' end
end

-- Claude Relay Service keeps the members of a group beside it, in a set.
local function take_in_members(id, key)
  if ARGV[4] ~= 'account_group:' or redis.call('HEXISTS', key, 'memberIds') == 1 then return end
  local members = redis.pcall('SMEMBERS', 'account_group_members:' .. id)
  if members.err or #members == 0 then return end
  for _, member in ipairs(members) do
    if why_not(member) then return end
  end
  table.sort(members)
  redis.call('HSET', key, 'memberIds', cjson.encode(members))
end

local function take_in(id, key)
  for _, text in ipairs(redis.call('HGETALL', key)) do
    local why = why_not(text)
    if why then return why end
  end
  take_in_members(id, key)
  local left = redis.call('PTTL', key)
  redis.call('ZADD', ids, 0, id)
  redis.call('HSET', key, '_version', version)
  if left >= 0 and not whole then redis.call('HSET', key, '_expires', string.format('%.0f', now + left)) end
  redis.call('PERSIST', key)
  redis.call('DEL', ARGV[5] .. id)
  redis.call('ZADD', dirty, version, ARGV[6] .. id)
  if listed then list(prefix, id, nil, entries(key)) end
end

local left_alone = {}
for i = 8, #ARGV, 2 do
  local id, valid = ARGV[i], ARGV[i + 1] == '1'
  local key = prefix .. id
  local type = redis.call('TYPE', key).ok
  if type == 'hash' then
    if not valid then
      left_alone[#left_alone + 1] = {id, 'id'}
    elseif redis.call('HEXISTS', key, '_version') == 1 then
      redis.call('ZADD', ids, 0, id)
      if whole then redis.call('PERSIST', key) end
      -- Written before there were lists. Whoever writes it keeps them.
      if listed and not redis.call('ZSCORE', prefix .. 'idx:createdAt', id) then list(prefix, id, nil, entries(key)) end
    else
      local why = take_in(id, key)
      if why then left_alone[#left_alone + 1] = {id, why} end
    end
  elseif valid and type ~= 'none' then
    left_alone[#left_alone + 1] = {id, 'type', type}
  end
end
return left_alone
