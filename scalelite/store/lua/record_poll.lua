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
  local holder = meeting_holder(ARGV[i])
  if holder == id then
    redis.call('EXPIRE', meeting_key(ARGV[i]), ttl)
  elseif holder and redis.call('HEXISTS', old_copies_key(id), ARGV[i]) == 0 then
    -- Left over from a create that was given up before the server carried it out, or whose process died.
    remember_old_copy(id, ARGV[i], '', seconds())
  end
end

if server.online then
  -- Meetings placed here that the answer can't know yet keep their reservation; one that it lists is no more pending.
  local load = base * server.multiplier
  local recent = redis.call('ZRANGE', recent_key(id), 0, -1, 'WITHSCORES')
  for i = 1, #recent, 2 do
    local meeting_id, since = recent[i], tonumber(recent[i + 1])
    local p = redis.call('HMGET', pending_key(meeting_id), 'server_id', 'since', 'reserved')
    local pending = p[1] == id
    if alive[meeting_id] then
      if (pending and tonumber(p[2]) or since) < asked then
        redis.call('ZREM', recent_key(id), meeting_id)
        if pending then redis.call('DEL', pending_key(meeting_id)) end
      end
    elseif pending and tonumber(p[2]) + stale > asked then
      load = load + tonumber(p[3])
    elseif since >= asked then
      load = load + amount * server.multiplier
    elseif pending then
      -- Not counted any more, and still to be found alive or absent.
      redis.call('HSET', pending_key(meeting_id), 'reserved', 0)
    else
      redis.call('ZREM', recent_key(id), meeting_id)
    end
  end
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

-- What may be ended here: copies of meetings that are over, or live elsewhere for certain.
local reply = { happened }
local copies = redis.call('HGETALL', old_copies_key(id))
for i = 1, #copies, 2 do
  local holder = meeting_holder(copies[i])
  local placing = holder and redis.call('HGET', pending_key(copies[i]), 'server_id') == holder
  if holder == id and not placing then
    redis.call('HDEL', old_copies_key(id), copies[i])
  elseif not placing then
    reply[#reply + 1] = copies[i]
    reply[#reply + 1] = copies[i + 1]
  end
end
return reply
