-- What all scripts share. An execution is called by its name, `<length of its scope>:<scope>:<id>`; under the prefix lie:
--
--   e:<name>         hash: how it stands; of a spent one what is charged, since when, and what its readers must know
--   f:<name>         stream: its frames under the ids that clients see, `<epoch>-<seq>`
--   i:<name>         hash: the slots of its inbox, `i<id of a question>` and `m<id of an input>`: the number of the event that
--                    asked (or 0), and `-` for nothing, `p` for posted, or the number of the event that was appended
--   p:<name>         hash: the questions that wait for an answer in the log, and the inputs that are not taken, with their numbers
--   b:<name>         list: what was posted and is not appended yet, each a slot, a line feed and an event
--   running          sorted set of names: until when their writers' leases hold, by the clock of Redis
--   ended[:<scope>]  sorted set of names: when they ended
--   spent            sorted set of names: since when they are spent
--   use[:<scope>]    hash: executions, bindings, bytes
--   wake             channel: what readers and writers wait for
--   check            string, for ten seconds: that a node may write here
--   id               string: what the log is called, for as long as all of the above is there
local time
local function server_time()
  time = time or redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The time of the server, unless a test holds its own still: the clocks of nodes differ, and one that is ahead would drop what all others
-- still keep.
local P, NAME, NOW = ARGV[1], ARGV[2], tonumber(ARGV[3]) or server_time()
local RETENTION, BINDING_LIFE, LEASE = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local MAX_EVENTS, MAX_BYTES = tonumber(ARGV[7]), tonumber(ARGV[8])
local MAX_SCOPE, MAX_ALL = tonumber(ARGV[9]), tonumber(ARGV[10])

-- What is charged: for an execution, for a frame, for a spent id, and for a slot, besides their own bytes.
local EXECUTION, FRAME, BINDING, SLOT = 1024, 16, 256, 128

-- How many executions one call drops for their age, at most.
local SWEEP = 100

-- Digits alone: Lua itself writes large numbers with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

local function split(name)
  local length, rest = string.match(name, '^(%d+):(.*)$')
  return string.sub(rest, 1, length), string.sub(rest, length + 2)
end

local function count(scope, what, by)
  redis.call('HINCRBY', P .. 'use', what, whole(by))
  redis.call('HINCRBY', P .. 'use:' .. scope, what, whole(by))
end

-- Tells every node that a log has changed (`c`), that it has another writer (`w`), or that something is in its inbox (`i`).
local function wake(what, name)
  redis.call('PUBLISH', P .. 'wake', what .. name)
end

-- Lets this script write although the memory of Redis is full: one whose first write takes none is let through to its end.
-- What ends a run, or keeps it alive, must not fail for want of memory.
local function write_even_if_full()
  redis.call('UNLINK', P .. 'none')
end

local function renew_lease(name)
  redis.call('ZADD', P .. 'running', whole(server_time() + LEASE), name)
end

-- Drops the events of an ended execution. Its id is spent from then on.
local function drop(name)
  local scope, id = split(name)
  local charged, last, started = unpack(redis.call('HMGET', P .. 'e:' .. name, 'charged', 'last', 'started'))
  redis.call('UNLINK', P .. 'e:' .. name, P .. 'f:' .. name, P .. 'i:' .. name, P .. 'p:' .. name, P .. 'b:' .. name)
  redis.call('ZREM', P .. 'ended', name)
  redis.call('ZREM', P .. 'ended:' .. scope, name)
  local keeps = BINDING + #id
  redis.call('HSET', P .. 'e:' .. name, 'state', 'spent', 'ended', whole(NOW), 'charged', whole(keeps),
    'last', last, 'started', started)
  redis.call('ZADD', P .. 'spent', whole(NOW), name)
  count(scope, 'executions', -1)
  count(scope, 'bindings', 1)
  count(scope, 'bytes', keeps - charged)
  wake('c', name)
end

-- Lets go of a spent id.
local function unbind(name)
  local scope, id = split(name)
  redis.call('UNLINK', P .. 'e:' .. name)
  redis.call('ZREM', P .. 'spent', name)
  count(scope, 'bindings', -1)
  count(scope, 'bytes', -(BINDING + #id))
end

-- Drops what is over, and says how much that was.
local function sweep()
  local ended = redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', whole(NOW - RETENTION), 'LIMIT', 0, SWEEP)
  for _, name in ipairs(ended) do drop(name) end
  local spent = redis.call('ZRANGEBYSCORE', P .. 'spent', '-inf', whole(NOW - BINDING_LIFE), 'LIMIT', 0, SWEEP)
  for _, name in ipairs(spent) do unbind(name) end
  return #ended + #spent
end

-- How the execution stands now, exactly: also where the sweep has not come to it yet.
local function state_now()
  sweep()
  local state, ended = unpack(redis.call('HMGET', P .. 'e:' .. NAME, 'state', 'ended'))
  if state == 'spent' and ended + BINDING_LIFE <= NOW then
    unbind(NAME)
    return false
  end
  if state and state ~= 'spent' and state ~= 'running' and ended + RETENTION <= NOW then
    drop(NAME)
    return 'spent'
  end
  return state
end

-- Takes bytes from both budgets, ended executions making room, the oldest first. Says which budget has no room left.
local function charge(scope, bytes)
  local function has_room(use, limit, ended)
    while tonumber(redis.call('HGET', use, 'bytes') or 0) + bytes > limit do
      local oldest = redis.call('ZRANGE', ended, 0, 0)[1]
      if not oldest then return false end
      drop(oldest)
    end
    return true
  end
  if not has_room(P .. 'use:' .. scope, MAX_SCOPE, P .. 'ended:' .. scope) then return 'scope' end
  if not has_room(P .. 'use', MAX_ALL, P .. 'ended') then return 'all' end
  count(scope, 'bytes', bytes)
end

