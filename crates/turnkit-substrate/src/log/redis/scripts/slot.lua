-- ARGV: when the log was bound that is read, slot.
local state, started = unpack(redis.call('HMGET', P .. 'e:' .. NAME, 'state', 'started'))
if not state or state == 'spent' or tonumber(started) ~= tonumber(ARGV[11]) then return { 'gone' } end
local kept = redis.call('HGET', P .. 'i:' .. NAME, ARGV[12])
if not kept then return { 'none' } end
local asked, content = string.match(kept, '^(%d+) (.+)$')
return { 'slot', asked, content }
