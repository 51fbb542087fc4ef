-- Puts a node's line up, unless another holder of the id was heard of lately; forgets lines that are old.
-- KEYS: nodes, a hash from id to "HEARD HOLDER TEXT". ARGV: id, holder, text, held for, forgotten after (both
--       in microseconds). Answers 1 when the line is up, 0 when the id is another's.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local heard, holder = string.match(held, '^(%d+) (%S+)')
  if heard and holder ~= ARGV[2] and now - tonumber(heard) < tonumber(ARGV[4]) then return 0 end
end
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  local heard = string.match(redis.call('HGET', KEYS[1], id), '^%d+')
  if not heard or now - tonumber(heard) > tonumber(ARGV[5]) then redis.call('HDEL', KEYS[1], id) end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s %s', now, ARGV[2], ARGV[3]))
return 1
