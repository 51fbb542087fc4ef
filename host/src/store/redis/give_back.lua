-- Makes records another program's again: without our fields, in its lists, expiring as it lets them. Each in one step.
-- KEYS: index of clients' keys, ids of accounts, of shared accounts and of groups, then the records.
-- ARGV: kind, what their keys begin with, life in seconds or ''; then for each record the number of its fields that
--       change, and these, each followed by its value.
-- Answers how many.
local kind, prefix, life = ARGV[1], ARGV[2], ARGV[3]

local lists = {}
lists.api_key = function(id, key)
  local hash = redis.call('HGET', key, 'apiKey')
  if hash and hash ~= '' then redis.call('HSETNX', KEYS[1], hash, id) end
  list(prefix, id, nil, entries(key))
end
lists.account = function(id, key)
  local type = redis.call('HGET', key, 'accountType')
  redis.call('SADD', KEYS[2], id)
  redis.call((not type or type == '' or type == 'shared') and 'SADD' or 'SREM', KEYS[3], id)
end
lists.account_group = function(id, key)
  redis.call('SADD', KEYS[4], id)
  local readable, members = pcall(cjson.decode, redis.call('HGET', key, 'memberIds') or '')
  if not readable or type(members) ~= 'table' then return end
  local set = 'account_group_members:' .. id
  redis.call('DEL', set)
  for _, member in ipairs(members) do
    if type(member) == 'string' then redis.call('SADD', set, member) end
  end
  redis.call('HDEL', key, 'memberIds')
end

local done, at = 0, 4
for i = 5, #KEYS do
  local key, fields = KEYS[i], tonumber(ARGV[at])
  if redis.call('TYPE', key).ok == 'hash' then
    for f = at + 1, at + 2 * fields, 2 do redis.call('HSET', key, ARGV[f], ARGV[f + 1]) end
    local expires = redis.call('HGET', key, '_expires')
    redis.call('HDEL', key, '_version', '_cached', '_expires')
    if expires then
      redis.call('PEXPIREAT', key, expires)
    elseif life ~= '' then
      redis.call('EXPIRE', key, life)
    end
    if lists[kind] then lists[kind](string.sub(key, #prefix + 1), key) end
    done = done + 1
  end
  at = at + 1 + 2 * fields
end
return done
