-- Shared by the scripts that look for what does not fit together, and by those that mend it.
local function set_of(...)
  local set = {}
  for _, name in ipairs({ ... }) do set[name] = true end
  return set
end

-- Scalelite refuses a record with any other field. "enabled" is of the time before states.
local SERVER_FIELDS = set_of('url', 'secret', 'tag', 'online', 'load_multiplier', 'state', 'meetings', 'users',
  'largest_meeting', 'videos', 'bbb_version', 'enabled')
local MEETING_FIELDS = set_of('server_id', 'moderator_pw', 'voice_bridge', 'tenant_id')
local TENANT_FIELDS = set_of('name', 'secrets', 'lrs_endpoint', 'lrs_username', 'lrs_password', 'kc_token_url',
  'kc_client_id', 'kc_client_secret', 'kc_username', 'kc_password')

local function type_of(key) return redis.call('TYPE', key).ok end

local function unknown_fields(key, known)
  local unknown = {}
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if not known[name] then unknown[#unknown + 1] = name end
  end
  return unknown
end

local function server_exists(id) return type_of(ns .. 'server:' .. id) == 'hash' end

-- Whether the bare id still holds the poller's counters of a server without record, and nothing else: Scalelite leaves
-- them when it removes a server, and an id such as "meetings" is somebody else's key.
local function counters_left(id)
  if type_of(ns .. 'server:' .. id) ~= 'none' or type_of(ns .. id) ~= 'hash' then
    return false
  end
  return #unknown_fields(ns .. id, set_of('healthy_counter', 'unhealthy_counter')) == 0
end

-- Whether there are settings of a tenant that has no record: Scalelite leaves them when it removes a tenant.
local function settings_left(id)
  return type_of(ns .. 'tenant:' .. id) == 'none' and type_of(ns .. 'tenant_settings:' .. id) ~= 'none'
end

-- The id of the tenant that a setting is of if that has no record, else false.
local function gone_tenant_of(setting_id)
  local key = ns .. 'tenant_setting:' .. setting_id
  if type_of(key) ~= 'hash' then
    return false
  end
  local tenant_id = redis.call('HGET', key, 'tenant_id') or ''
  return type_of(ns .. 'tenant:' .. tenant_id) == 'none' and tenant_id
end

-- {problem, detail ...} for each thing that is wrong with a server.
local function server_problems(id)
  local key, found = ns .. 'server:' .. id, {}
  local function problem(...) found[#found + 1] = { ... } end
  local listed = redis.call('SISMEMBER', ns .. 'servers', id) == 1
  local enabled = redis.call('SISMEMBER', ns .. 'server_enabled', id) == 1
  local load = redis.call('ZSCORE', ns .. 'server_load', id)
  local cordoned_load = redis.call('ZSCORE', ns .. 'cordoned_server_load', id)
  local kind = type_of(key)
  if kind ~= 'hash' and kind ~= 'none' then
    problem('server_type', kind)
    return found
  end
  if kind == 'none' or not listed then
    if listed then problem('server_gone') end
    if enabled then problem('stale_enabled') end
    if load then problem('stale_load', 'server_load') end
    if cordoned_load then problem('stale_load', 'cordoned_server_load') end
    if counters_left(id) then problem('counters_left') end
    return found
  end
  local server = read_server(id)
  local state = server and server.state
  for _, name in ipairs(unknown_fields(key, SERVER_FIELDS)) do problem('server_field', name) end
  if not server then
    problem('server_url')
    return found
  end
  if load and (state ~= 'enabled' or not server.online) then problem('stale_load', 'server_load') end
  if cordoned_load and (state ~= 'cordoned' or not server.online) then problem('stale_load', 'cordoned_server_load') end
  if enabled and state ~= 'enabled' then problem('stale_enabled') end
  if not enabled and state == 'enabled' then problem('not_enabled') end
  if state ~= 'disabled' and not server.online then
    local answered = redis.call('HEXISTS', key, 'meetings') == 1 or redis.call('HEXISTS', key, 'bbb_version') == 1
    problem(answered and 'server_offline' or 'never_answered')
  end
  return found
end

-- {problem, detail ...} for each thing that is wrong with a meeting.
local function meeting_problems(id)
  local key, found = meeting_key(id), {}
  local kind = type_of(key)
  if kind == 'none' then
    return { { 'meeting_gone' } }
  end
  if kind ~= 'hash' then
    return { { 'meeting_type', kind } }
  end
  local m = redis.call('HMGET', key, 'server_id', 'voice_bridge')
  if not m[1] or not server_exists(m[1]) then
    return { { 'orphan', m[1] or '' } }
  end
  for _, name in ipairs(unknown_fields(key, MEETING_FIELDS)) do found[#found + 1] = { 'meeting_field', name } end
  if redis.call('TTL', key) == -1 then found[#found + 1] = { 'immortal' } end
  if redis.call('SISMEMBER', ns .. 'meetings', id) == 0 then found[#found + 1] = { 'unlisted' } end
  if m[2] and m[2] ~= '' and not redis.call('HGET', ns .. 'voice_bridges', m[2]) then
    found[#found + 1] = { 'no_bridge', m[2] }
  end
  return found
end
