local state = state_now()
if not state then return { 'unknown' } end
if state == 'spent' then return { 'spent' } end
return { 'retained', unpack(redis.call('HMGET', P .. 'e:' .. NAME, 'fingerprint', 'started')) }
