-- Gives the names of running executions whose lease is over.
-- Each node asks now and then, and hears so: one that hears nothing has lost its subscription.
wake('n', '')
return redis.call('ZRANGEBYSCORE', P .. 'running', '-inf', whole(server_time()))
