-- What a poll of one server found, applied to the server's state as it is now.
-- ARGV: server id, time (s) before which its answer was asked for, "1" if it answered, load before the multiplier,
--       users, meetings, largest meeting, videos, healthy threshold, unhealthy threshold, TTL of meetings (s),
--       load of a new meeting, age (s) at which a pending create counts as failed, ids of the meetings in the answer
-- Reply: {what happened ("", "online", "offline", "emptied", "gone"), then the old copies: id, JSON, id, JSON ...}
local id, asked, answered = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local base, ttl, amount, stale = tonumber(ARGV[4]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local server_key, counters = ns .. 'server:' .. id, ns .. id
local server = read_server(id)
if not server then
  return { 'gone' }
end
local happened = ''

if not answered then
  redis.call('HSET', counters, 'healthy_counter', 0)
  if server.online and redis.call('HINCRBY', counters, 'unhealthy_counter', 1) >= tonumber(ARGV[10]) then
    redis.call('HSET', counters, 'healthy_counter', 0, 'unhealthy_counter', 0)
    redis.call('ZREM', ns .. 'server_load', id)
    redis.call('ZREM', ns .. 'cordoned_server_load', id)
    redis.call('HSET', server_key, 'online', 'false', 'meetings', 0, 'users', 0, 'largest_meeting', 0, 'videos', 0)
    happened = 'offline'
  end
  return { happened }
end

redis.call('HSET', counters, 'unhealthy_counter', 0)
if not server.online then
  if redis.call('HINCRBY', counters, 'healthy_counter', 1) >= tonumber(ARGV[9]) then
    redis.call('HSET', counters, 'healthy_counter', 0)
    server.online = true
    happened = 'online'
  end
end

local alive = {}
for i = 14, #ARGV do
  alive[ARGV[i]] = true
  if redis.call('HGET', meeting_key(ARGV[i]), 'server_id') == id then
    redis.call('EXPIRE', meeting_key(ARGV[i]), ttl)
  end
end

if server.online then
  -- Meetings placed here since the answer was asked for are not in it; they keep their reservation.
  local reserved = 0
  local recent = redis.call('ZRANGE', recent_key(id), 0, -1, 'WITHSCORES')
  for i = 1, #recent, 2 do
    local since = redis.call('HGET', pending_key(recent[i]), 'since')
    local open = tonumber(recent[i + 1]) >= asked or (since and tonumber(since) + stale > asked)
    if open and not alive[recent[i]] then
      reserved = reserved + 1
    elseif not open then
      redis.call('ZREM', recent_key(id), recent[i])
    end
  end
  local load = (base + reserved * amount) * server.multiplier
  redis.call('HSET', server_key, 'online', 'true', 'users', ARGV[5], 'meetings', ARGV[6],
    'largest_meeting', ARGV[7], 'videos', ARGV[8])
  if server.state == 'cordoned' and load == 0 and ARGV[6] == '0' then
    redis.call('HSET', server_key, 'state', 'disabled')
    server.state = 'disabled'
    happened = 'emptied'
  end
  if server.state == 'enabled' then
    redis.call('ZADD', ns .. 'server_load', decimal(load), id)
  else
    redis.call('ZREM', ns .. 'server_load', id)
  end
  if server.state == 'cordoned' then
    redis.call('ZADD', ns .. 'cordoned_server_load', decimal(load), id)
  else
    redis.call('ZREM', ns .. 'cordoned_server_load', id)
  end
  if not server.legacy and server.state ~= 'enabled' then
    redis.call('SREM', ns .. 'server_enabled', id)
  end
end

local reply = { happened }
local copies = redis.call('HGETALL', old_copies_key(id))
for i = 1, #copies do reply[i + 1] = copies[i] end
return reply
