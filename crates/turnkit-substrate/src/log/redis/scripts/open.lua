-- ARGV: when the log was bound that is read (none: by its writer). Gives what is open in the inbox: pairs of a slot and the number
-- of the event that asked, or that is not taken.
local state, started = unpack(redis.call('HMGET', P .. 'e:' .. NAME, 'state', 'started'))
if ARGV[11] ~= '' and (not state or state == 'spent' or tonumber(started) ~= tonumber(ARGV[11])) then
  return { 'gone' }
end
return { 'open', unpack(redis.call('HGETALL', P .. 'p:' .. NAME)) }
