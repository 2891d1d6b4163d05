-- ARGV: new writer (or the one that begins anew), the epoch to follow, whether its lease must be over (`lost`), the time of the node.
local writer, epoch, only, time_of_node = ARGV[11], ARGV[12], ARGV[13], tonumber(ARGV[14])
local execution = P .. 'e:' .. NAME
local kept = redis.call('HMGET', execution, 'state', 'writer', 'epoch', 'last', 'epochs')
if kept[1] ~= 'running' then return { 'over' } end

if kept[3] ~= epoch then
  -- Asked before, and the answer was lost.
  if kept[2] == writer then return { 'taken', kept[3], kept[4] } end
  return { 'taken by another' }
end
local lease = redis.call('ZSCORE', P .. 'running', NAME)
if only == 'lost' and lease and tonumber(lease) > server_time() then return { 'over' } end

write_even_if_full()
local next_epoch = whole(math.max(epoch + 1, time_of_node))
local first = whole(kept[4] + 1)
-- Of two epochs that begin at the same event the first has none.
local epochs = string.gsub(kept[5], ',%d+:' .. first .. '$', '')
redis.call('HSET', execution, 'writer', writer, 'epoch', next_epoch, 'call', '0', 'epochs', epochs .. ',' .. next_epoch .. ':' .. first)
renew_lease(NAME)
wake('w', NAME)
return { 'taken', next_epoch, kept[4] }
