-- ARGV: writer, its epoch, the event's seq, the number of the writer's call, frame, ending (empty: none), what it does to the
-- inbox (`asks`, `tells`, `takes`; empty: nothing), to which slot.
local writer, epoch, seq, call, frame, ending = ARGV[11], ARGV[12], tonumber(ARGV[13]), ARGV[14], ARGV[15], ARGV[16]
local change, slot = ARGV[17], ARGV[18]
local slots, open, box = P .. 'i:' .. NAME, P .. 'p:' .. NAME, P .. 'b:' .. NAME
local execution = P .. 'e:' .. NAME
local kept = redis.call('HMGET', execution, 'state', 'writer', 'epoch', 'last', 'call', 'bytes')
if kept[2] ~= writer or kept[3] ~= epoch then return { 'fenced' } end

-- Stored before, and the answer was lost.
if kept[5] == call then return { 'stored' } end
if kept[1] ~= 'running' then return { 'fenced' } end
if kept[4] + 1 ~= seq then return { 'at', kept[4] } end

local scope = split(NAME)
local bytes = #frame + FRAME
if ending == '' then
  if seq > MAX_EVENTS then return { 'full', 'events' } end
  if kept[6] + #frame > MAX_BYTES then return { 'full', 'bytes' } end
  if change == 'asks' then
    if redis.call('HEXISTS', slots, slot) == 1 then return { 'asked before' } end
    bytes = bytes + SLOT + #slot
  end
  local full = charge(scope, bytes)
  if full then return { 'full', full } end
  renew_lease(NAME)
else
  write_even_if_full()
  count(scope, 'bytes', bytes)
  redis.call('HSET', execution, 'state', ending, 'ended', whole(NOW))
  local freed = 0
  for _, item in ipairs(redis.call('LRANGE', box, 0, -1)) do freed = freed + #item end
  redis.call('UNLINK', open, box)
  if freed > 0 then
    redis.call('HINCRBY', execution, 'charged', -freed)
    count(scope, 'bytes', -freed)
  end
  redis.call('ZREM', P .. 'running', NAME)
  redis.call('ZADD', P .. 'ended', whole(NOW), NAME)
  redis.call('ZADD', P .. 'ended:' .. scope, whole(NOW), NAME)
end
redis.call('XADD', P .. 'f:' .. NAME, epoch .. '-' .. whole(seq), 'f', frame)
redis.call('HSET', execution, 'last', whole(seq), 'call', call)
redis.call('HINCRBY', execution, 'bytes', #frame)
redis.call('HINCRBY', execution, 'charged', bytes)
if change == 'asks' then
  redis.call('HSET', slots, slot, whole(seq) .. ' -')
  redis.call('HSET', open, slot, whole(seq))
elseif change == 'tells' then
  -- The writer tells in the order in which it was posted.
  local item = redis.call('LPOP', box)
  if item then
    redis.call('HINCRBY', execution, 'charged', -#item)
    redis.call('HINCRBY', execution, 'posted', -1)
    count(scope, 'bytes', -#item)
  end
  local asked = string.match(redis.call('HGET', slots, slot) or '0 p', '^%d+')
  redis.call('HSET', slots, slot, asked .. ' ' .. whole(seq))
  if string.sub(slot, 1, 1) == 'm' then
    redis.call('HSET', open, slot, whole(seq))
  else
    redis.call('HDEL', open, slot)
  end
elseif change == 'takes' then
  if redis.call('HDEL', open, slot) == 1 then redis.call('HINCRBY', execution, 'inputs', -1) end
end
wake('c', NAME)
return { 'stored' }
