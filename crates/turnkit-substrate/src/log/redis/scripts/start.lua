-- ARGV: writer, its epoch, fingerprint, first frame, the id that the log must have (or none), whether its agent takes input (`yes`).
-- The id of the frame is `<epoch>-1`.
local writer, epoch, fingerprint, frame, log = ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[15]
local state = state_now()
if state == 'spent' then return { 'spent' } end

local execution = P .. 'e:' .. NAME
if state then
  local kept = redis.call('HMGET', execution, 'fingerprint', 'started', 'writer')
  -- Asked before by the same writer, whose answer was lost.
  if kept[3] == writer then return { 'started', kept[2] } end
  return { 'exists', kept[1], kept[2] }
end

-- Here, where the id is bound: a log that is lost a moment later has lost this start too.
if log ~= '' and redis.call('GET', P .. 'id') ~= log then return { 'log changed' } end

local scope, id = split(NAME)
local bytes = EXECUTION + #id + FRAME + #frame
local full = charge(scope, bytes)
if full then return { 'full', full } end

redis.call('HSET', execution, 'state', 'running', 'epoch', epoch, 'last', '1', 'started', whole(NOW),
  'fingerprint', fingerprint, 'epochs', epoch .. ':1', 'bytes', whole(#frame), 'charged', whole(bytes),
  'writer', writer, 'call', '0', 'takes_input', ARGV[16])
redis.call('XADD', P .. 'f:' .. NAME, epoch .. '-1', 'f', frame)
count(scope, 'executions', 1)
renew_lease(NAME)
return { 'started', whole(NOW) }
