-- ARGV: pairs of a name and its writer. Gives pairs: `fenced` with the names that have another writer, or have ended, and `posted` with
-- those that have something in their inbox, of which their runner may not have heard.
write_even_if_full()
local told = {}
local function tell(what, name)
  told[#told + 1] = what
  told[#told + 1] = name
end
for at = 11, #ARGV, 2 do
  local name, writer = ARGV[at], ARGV[at + 1]
  local kept = redis.call('HMGET', P .. 'e:' .. name, 'state', 'writer', 'posted')
  if kept[1] == 'running' and kept[2] == writer then
    renew_lease(name)
    if tonumber(kept[3] or 0) > 0 then tell('posted', name) end
  else
    tell('fenced', name)
  end
end
return told
