-- What the nodes have agreed on, after this node's ballot and proposal.
-- KEYS: control. ARGV: node, ballot ('vote', 'hold' or ''), its life in ms; then, with a proposal, the epoch it is
--       made under, the new epoch, the authority, the cause.
-- Answers {epoch, authority, cause, by, ms since then, votes, holds, how Redis synced before}.
local control, node, ballot, life = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local held, said, mine = {}, {vote = 0, hold = 0}, 0
local fields = redis.call('HGETALL', control)
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  local what, of = string.match(name, '^(%a+):(.*)$')
  if not what then
    held[name] = value
  elseif of == node and what == ballot then
    mine = tonumber(value) or 0
  elseif of == node or (tonumber(value) or 0) <= now then
    redis.call('HDEL', control, name)
  elseif said[what] then
    said[what] = said[what] + 1
  end
end
if ballot ~= '' then
  said[ballot] = said[ballot] + 1
  -- Renewed when a third of its life is over: most looks write nothing.
  if mine - now < life * 2 / 3 then
    redis.call('HSET', control, ballot .. ':' .. node, string.format('%.0f', now + life))
  end
end

if ARGV[4] and (tonumber(held.epoch) or 0) == tonumber(ARGV[4])
  and (ARGV[6] == 'redis' or said.vote + said.hold == 0) then
  held.epoch, held.authority, held.cause, held.by = ARGV[5], ARGV[6], ARGV[7], node
  held.at = string.format('%.0f', now)
  redis.call('HSET', control, 'epoch', held.epoch, 'authority', held.authority, 'cause', held.cause,
    'by', node, 'at', held.at)
end
return {held.epoch or '0', held.authority or '', held.cause or '', held.by or '',
  now - (tonumber(held.at) or 0), said.vote, said.hold, held.appendfsync_before or ''}
