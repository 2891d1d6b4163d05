local state = state_now()
if not state then return { 'unknown' } end
if state == 'spent' then return { 'spent' } end
return { 'retained', redis.call('HGET', P .. 'e:' .. NAME, 'fingerprint') }
