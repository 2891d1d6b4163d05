-- ARGV: pairs of a name and its writer. Gives the names that have another writer, or have ended.
write_even_if_full()
local fenced = {}
for at = 11, #ARGV, 2 do
  local name, writer = ARGV[at], ARGV[at + 1]
  local kept = redis.call('HMGET', P .. 'e:' .. name, 'state', 'writer')
  if kept[1] == 'running' and kept[2] == writer then
    renew_lease(name)
  else
    fenced[#fenced + 1] = name
  end
end
return fenced
