-- ARGV: the id that the log gets where it has none.
local id = redis.call('GET', P .. 'id')
if not id then
  id = ARGV[11]
  redis.call('SET', P .. 'id', id)
end
return { id }
