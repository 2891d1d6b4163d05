-- ARGV: slot, event, how many inputs there can be that are not taken.
local slot, event, most = ARGV[11], ARGV[12], tonumber(ARGV[13])
local execution = P .. 'e:' .. NAME
local state, inputs = unpack(redis.call('HMGET', execution, 'state', 'inputs'))
if state ~= 'running' then return { 'ended' } end

local is_input, asked = string.sub(slot, 1, 1) == 'm', '0'
local kept = redis.call('HGET', P .. 'i:' .. NAME, slot)
if kept then
  local content
  asked, content = string.match(kept, '^(%d+) (.+)$')
  if content ~= '-' then
    -- Its runner may have missed it.
    wake('i', NAME)
    return { 'occupied' }
  end
elseif not is_input then
  return { 'unknown' }
elseif tonumber(inputs or 0) >= most then
  return { 'crowded' }
end

local item = slot .. '\n' .. event
local bytes = #item
if is_input then bytes = bytes + SLOT + #slot end
local full = charge(split(NAME), bytes)
if full then return { 'full', full } end
redis.call('HINCRBY', execution, 'charged', bytes)
redis.call('HINCRBY', execution, 'posted', 1)
if is_input then redis.call('HINCRBY', execution, 'inputs', 1) end
redis.call('HSET', P .. 'i:' .. NAME, slot, asked .. ' p')
redis.call('RPUSH', P .. 'b:' .. NAME, item)
wake('i', NAME)
return { 'set' }
