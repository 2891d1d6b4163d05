-- Gives the names of running executions whose lease is over.
return redis.call('ZRANGEBYSCORE', P .. 'running', '-inf', whole(server_time()))
