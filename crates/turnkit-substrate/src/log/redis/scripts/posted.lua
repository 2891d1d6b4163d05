-- Gives what was posted first: some of it, each a slot, a line feed and an event.
return redis.call('LRANGE', P .. 'b:' .. NAME, 0, 3)
