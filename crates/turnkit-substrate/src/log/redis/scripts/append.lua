-- ARGV: writer, its epoch, the number of the first event, the number of the writer's call, ending (empty: none), what the one event does to
-- the inbox (`asks`, `tells`, `takes`; empty: nothing), to which slot, and then the frames of consecutive events.
-- Stores as many as there is room for: `full` names the bound that refused the next one, and says how many are stored.
local writer, epoch, seq, call, ending = ARGV[11], ARGV[12], tonumber(ARGV[13]), ARGV[14], ARGV[15]
local change, slot = ARGV[16], ARGV[17]
local BEFORE = 17
local frames = #ARGV - BEFORE
local slots, open, box = P .. 'i:' .. NAME, P .. 'p:' .. NAME, P .. 'b:' .. NAME
local execution = P .. 'e:' .. NAME
local kept = redis.call('HMGET', execution, 'state', 'writer', 'epoch', 'last', 'call', 'bytes', 'charged')
if kept[2] ~= writer or kept[3] ~= epoch then return { 'fenced' } end

-- Stored before, and the answer was lost.
local done = kept[5] == call and kept[4] - seq + 1 or 0
if done == frames then return { 'stored' } end
if kept[1] ~= 'running' then return { 'fenced' } end
if kept[4] + 1 ~= seq + done then return { 'at', kept[4] } end

local scope = split(NAME)
local stored, bytes, cost, full = done, tonumber(kept[6]), 0
if ending == '' then
  if change == 'asks' then
    if redis.call('HEXISTS', slots, slot) == 1 then return { 'asked before' } end
    cost = SLOT + #slot
  end
  while stored < frames do
    local more = #ARGV[BEFORE + stored + 1]
    if seq + stored > MAX_EVENTS then full = 'events' break end
    if bytes + more > MAX_BYTES then full = 'bytes' break end
    stored, bytes, cost = stored + 1, bytes + more, cost + more + FRAME
  end
  -- Of what the execution itself may have, as much as the budgets have room for.
  while stored > done do
    local refused = charge(scope, cost)
    if not refused then break end
    local less = #ARGV[BEFORE + stored]
    full, stored, bytes, cost = refused, stored - 1, bytes - less, cost - less - FRAME
  end
  if stored == done then return { 'full', full, whole(stored) } end
  renew_lease(NAME)
else
  stored, bytes, cost = 1, bytes + #ARGV[BEFORE + 1], #ARGV[BEFORE + 1] + FRAME
  write_even_if_full()
  count(scope, 'bytes', cost)
end
local stream, id = P .. 'f:' .. NAME, epoch .. '-'
for at = done + 1, stored do
  -- `%d` is quicker than what is for fractions, and wide enough: there are never so many events.
  redis.call('XADD', stream, id .. string.format('%d', seq + at - 1), 'f', ARGV[BEFORE + at])
end
redis.call('HSET', execution, 'last', whole(seq + stored - 1), 'call', call, 'bytes', whole(bytes),
  'charged', whole(kept[7] + cost))
if ending ~= '' then
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
elseif change == 'asks' then
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
if full then return { 'full', full, whole(stored) } end
return { 'stored' }
