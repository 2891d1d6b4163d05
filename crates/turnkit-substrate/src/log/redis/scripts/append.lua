-- ARGV: writer, its epoch, the event's seq, the number of the writer's call, frame, ending (empty: none).
local writer, epoch, seq, call, frame, ending = ARGV[11], ARGV[12], tonumber(ARGV[13]), ARGV[14], ARGV[15], ARGV[16]
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
  local full = charge(scope, bytes)
  if full then return { 'full', full } end
  renew_lease(NAME)
else
  write_even_if_full()
  count(scope, 'bytes', bytes)
  redis.call('HSET', execution, 'state', ending, 'ended', whole(NOW))
  redis.call('ZREM', P .. 'running', NAME)
  redis.call('ZADD', P .. 'ended', whole(NOW), NAME)
  redis.call('ZADD', P .. 'ended:' .. scope, whole(NOW), NAME)
end
redis.call('XADD', P .. 'f:' .. NAME, epoch .. '-' .. whole(seq), 'f', frame)
redis.call('HSET', execution, 'last', whole(seq), 'call', call)
redis.call('HINCRBY', execution, 'bytes', #frame)
redis.call('HINCRBY', execution, 'charged', bytes)
wake('c', NAME)
return { 'stored' }
