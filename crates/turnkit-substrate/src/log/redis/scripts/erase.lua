-- Drops the events of an execution that does not run, and leaves its id spent; also one that is bound to nothing.
write_even_if_full()
local state = state_now()
if state == 'running' then return { 'running' } end
if state == 'spent' then return { 'spent' } end
if state then
  drop(NAME)
  return { 'spent' }
end

local scope, id = split(NAME)
local bytes = BINDING + #id
redis.call('HSET', P .. 'e:' .. NAME, 'state', 'spent', 'ended', whole(NOW), 'charged', whole(bytes),
  'last', '0', 'started', whole(NOW))
redis.call('ZADD', P .. 'spent', whole(NOW), NAME)
count(scope, 'bindings', 1)
count(scope, 'bytes', bytes)
return { 'spent' }
