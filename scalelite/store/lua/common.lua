-- Shared by the scripts that include it. KEYS[1] is the namespace prefix ("scalelite:" or "").
-- A record whose key holds a foreign type is read with pcall where others are read as well: it counts as missing, and
-- the others are not held up by it.
local ns = KEYS[1]

local function seconds()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

local function decimal(number)
  return string.format('%.17g', number)
end

local STATES = { enabled = true, cordoned = true, disabled = true }

-- The server as Scalelite reads it; a record of the time before states existed has none. Nothing is placed on, and
-- nobody sent to, a server whose state is not understood.
local function read_server(id)
  local h = redis.pcall('HMGET', ns .. 'server:' .. id, 'url', 'secret', 'tag', 'online', 'load_multiplier', 'state')
  if h.err or not h[1] then
    return nil
  end
  local state, legacy = h[6], false
  if not STATES[state] then
    legacy = true
    local enabled = (not state or state == '') and redis.call('SISMEMBER', ns .. 'server_enabled', id) == 1
    state = enabled and 'enabled' or 'disabled'
  end
  local multiplier = tonumber(h[5] or '')
  if not multiplier or multiplier == 0 or multiplier - multiplier ~= 0 then
    multiplier = 1
  end
  return {
    id = id, url = h[1], secret = h[2] or '', tag = h[3] or '', online = h[4] == 'true',
    multiplier = multiplier, state = state, legacy = legacy
  }
end

-- Only servers that take new meetings are in server_load.
local function add_load(server_id, amount)
  redis.call('ZADD', ns .. 'server_load', 'XX', 'INCR', decimal(amount), server_id)
end

local function server_reply(server)
  return { server.id, server.url, server.secret, server.tag, server.online and 1 or 0, server.state }
end

local function meeting_key(id) return ns .. 'meeting:' .. id end
local function pending_key(id) return ns .. 'balancer:pending:' .. id end
local function recent_key(server_id) return ns .. 'balancer:recent:' .. server_id end
local function old_copies_key(server_id) return ns .. 'balancer:old_copies:' .. server_id end
local function ending_key(id) return ns .. 'balancer:ending:' .. id end
local function callbacks_key(tenant, id) return ns .. 'balancer:callbacks:' .. tenant .. ':' .. id end

-- The id of the server that holds the meeting, or false.
local function meeting_holder(id)
  local holder = redis.pcall('HGET', meeting_key(id), 'server_id')
  return type(holder) == 'string' and holder
end

-- Seconds, for servers that are never polled again.
local RECENT_TTL = 86400
local OLD_COPIES_TTL = 604800

-- A copy that may still run on a server that does not hold the meeting any more; the poller ends it.
local function remember_old_copy(server_id, meeting_id, moderator_pw, now)
  redis.call('HSET', old_copies_key(server_id), meeting_id,
    cjson.encode({ moderator_pw = moderator_pw or '', since = now }))
  redis.call('EXPIRE', old_copies_key(server_id), OLD_COPIES_TTL)
end

-- Whether a call that ends a copy of the meeting there may be on its way: it would end a new meeting as well.
local function is_being_ended(server_id, id, now)
  return tonumber(redis.call('HGET', ending_key(id), server_id) or 0) > now
end

-- Records a meeting that lives, or may live, though its record has gone; not on a server that has gone as well. A
-- number that another meeting has got meanwhile is lost to it. What is being ended there becomes an old copy instead.
-- Reply: whether it is recorded
local function record_again(id, server_id, password, bridge, tenant, ttl, now)
  if not read_server(server_id) then
    return false
  end
  if is_being_ended(server_id, id, now) then
    remember_old_copy(server_id, id, password, now)
    return false
  end
  if bridge ~= '' then
    redis.call('HSETNX', ns .. 'voice_bridges', bridge, id)
    if redis.call('HGET', ns .. 'voice_bridges', bridge) ~= id then
      bridge = ''
    end
  end
  redis.call('HSET', meeting_key(id), 'server_id', server_id, 'moderator_pw', password,
    'voice_bridge', bridge, 'tenant_id', tenant)
  redis.call('EXPIRE', meeting_key(id), ttl)
  redis.call('SADD', ns .. 'meetings', id)
  return true
end

-- A meeting for which nothing was reserved may just have been created: the poller has to see.
local function mark_uncertain(id, server_id, ttl, now)
  redis.call('DEL', pending_key(id))
  redis.call('HSET', pending_key(id), 'server_id', server_id, 'attempts', 0, 'uncertain', 1, 'since', decimal(now),
    'reserved', 0, 'previous', '', 'previous_pw', '', 'previous_tenant', '')
  redis.call('EXPIRE', pending_key(id), ttl)
  redis.call('ZADD', recent_key(server_id), decimal(now), id)
  redis.call('EXPIRE', recent_key(server_id), RECENT_TTL)
end

local function forget_meeting(id, server_id, voice_bridge)
  redis.call('DEL', meeting_key(id), pending_key(id))
  redis.call('SREM', ns .. 'meetings', id)
  redis.call('ZREM', recent_key(server_id), id)
  if voice_bridge and voice_bridge ~= '' and redis.call('HGET', ns .. 'voice_bridges', voice_bridge) == id then
    redis.call('HDEL', ns .. 'voice_bridges', voice_bridge)
  end
end

-- The create that moved the meeting to this server came to nothing: points the record to its former server again.
-- Reply: whether there is such a server
local function restore_meeting(id, server_id)
  local p = redis.call('HMGET', pending_key(id), 'server_id', 'previous', 'previous_pw', 'previous_tenant')
  if p[1] ~= server_id or not p[2] or p[2] == '' or not read_server(p[2]) then
    return false
  end
  redis.call('HSET', meeting_key(id), 'server_id', p[2], 'moderator_pw', p[3], 'tenant_id', p[4])
  redis.call('HDEL', old_copies_key(p[2]), id)
  redis.call('DEL', pending_key(id))
  redis.call('ZREM', recent_key(server_id), id)
  return true
end

-- As restore_meeting, if the former server is another one: this one has not got the meeting, or is given up.
local function restore_elsewhere(id, server_id)
  return redis.call('HGET', pending_key(id), 'previous') ~= server_id and restore_meeting(id, server_id)
end
