-- Begins every script that writes: refuses when the nodes have moved on to a later epoch than the writer's.
-- The last of KEYS: what the nodes have agreed on. The last of ARGV: the writer's epoch.
local stored = redis.call('HGET', table.remove(KEYS), 'epoch')
if tonumber(table.remove(ARGV)) < (tonumber(stored) or 0) then
  return redis.error_reply('FENCED ' .. stored)
end
