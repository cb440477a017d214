-- Shared by the scripts that include it. KEYS[1] is the namespace prefix ("scalelite:" or "").
local ns = KEYS[1]

local function seconds()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

local function decimal(number)
  return string.format('%.17g', number)
end

-- The server as Scalelite reads it; a record of the time before states existed has none.
local function read_server(id)
  local h = redis.call('HMGET', ns .. 'server:' .. id, 'url', 'secret', 'tag', 'online', 'load_multiplier', 'state')
  if not h[1] then
    return nil
  end
  local state = h[6]
  if not state or state == '' then
    state = redis.call('SISMEMBER', ns .. 'server_enabled', id) == 1 and 'enabled' or 'disabled'
  end
  return {
    id = id, url = h[1], secret = h[2] or '', tag = h[3] or '', online = h[4] == 'true',
    multiplier = tonumber(h[5] or '') or 1.0, state = state, legacy = not h[6] or h[6] == ''
  }
end

-- Load known for new meetings; only servers that take them are in server_load.
local function add_load(server, amount)
  redis.call('ZADD', ns .. 'server_load', 'XX', 'INCR', decimal(amount * server.multiplier), server.id)
end

local function server_reply(server)
  return { server.id, server.url, server.secret, server.tag, server.online and 1 or 0, server.state }
end

local function meeting_key(id) return ns .. 'meeting:' .. id end
local function pending_key(id) return ns .. 'balancer:pending:' .. id end
local function recent_key(server_id) return ns .. 'balancer:recent:' .. server_id end
local function old_copies_key(server_id) return ns .. 'balancer:old_copies:' .. server_id end

local OLD_COPIES_TTL = 604800

-- A copy that may still run on a server that does not hold the meeting any more; the poller ends it.
local function remember_old_copy(server_id, meeting_id, moderator_pw, now)
  redis.call('HSET', old_copies_key(server_id), meeting_id,
    cjson.encode({ moderator_pw = moderator_pw or '', since = now }))
  redis.call('EXPIRE', old_copies_key(server_id), OLD_COPIES_TTL)
end

local function forget_meeting(id, server_id, voice_bridge)
  redis.call('DEL', meeting_key(id), pending_key(id))
  redis.call('SREM', ns .. 'meetings', id)
  redis.call('ZREM', recent_key(server_id), id)
  if voice_bridge and voice_bridge ~= '' and redis.call('HGET', ns .. 'voice_bridges', voice_bridge) == id then
    redis.call('HDEL', ns .. 'voice_bridges', voice_bridge)
  end
end
