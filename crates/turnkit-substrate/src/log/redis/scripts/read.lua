-- ARGV: the event to read after, how many bytes are enough.
local after, enough = tonumber(ARGV[11]), tonumber(ARGV[12])
local state, last, epochs = unpack(redis.call('HMGET', P .. 'e:' .. NAME, 'state', 'last', 'epochs'))
if not state or state == 'spent' then return { 'gone' } end
if after >= tonumber(last) then
  return { state == 'running' and 'nothing yet' or 'end' }
end

local epoch
for this, first in string.gmatch(epochs, '(%d+):(%d+)') do
  if tonumber(first) <= after + 1 then epoch = this end
end

local frames, bytes, from = {}, 0, epoch .. '-' .. whole(after + 1)
while bytes < enough do
  local entries = redis.call('XRANGE', P .. 'f:' .. NAME, from, '+', 'COUNT', 8)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local frame = entry[2][2]
    frames[#frames + 1] = frame
    bytes = bytes + #frame
    from = '(' .. entry[1]
  end
end
return { 'page', whole(after + #frames), table.concat(frames) }
