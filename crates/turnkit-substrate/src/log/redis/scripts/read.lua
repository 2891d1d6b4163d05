-- ARGV: when the log was bound that is read, the event to read after, how many bytes are enough.
local bound, after, enough = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local state, started, last, epochs = unpack(redis.call('HMGET', P .. 'e:' .. NAME, 'state', 'started', 'last', 'epochs'))
-- Its id may be bound to another log by now.
if not state or tonumber(started) ~= bound then return { 'gone' } end
if after >= tonumber(last) then
  return { state == 'running' and 'nothing yet' or 'end' }
end
if state == 'spent' then return { 'gone' } end

local epoch
for this, first in string.gmatch(epochs, '(%d+):(%d+)') do
  if tonumber(first) <= after + 1 then epoch = this end
end

local frames, bytes, from = {}, 0, epoch .. '-' .. whole(after + 1)
while bytes < enough do
  local entries = redis.call('XRANGE', P .. 'f:' .. NAME, from, '+', 'COUNT', 8)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    if bytes >= enough then break end
    local frame = entry[2][2]
    frames[#frames + 1] = frame
    bytes = bytes + #frame
    from = '(' .. entry[1]
  end
end
-- Evicted: a page without events would be asked for again and again.
if bytes == 0 then return { 'gone' } end
return { 'page', whole(after + #frames), table.concat(frames) }
