-- First half of create: finds the meeting, or places it and marks it pending, in one step.
-- ARGV: meeting id, tenant id, moderator password for a new record, TTL (s), load of a new meeting,
--       "keep:ID" or "move:ID" (what a question to the cordoned server ID gave) or "",
--       "1" if a tag is required, number of tags, number of servers not to be chosen, then the tags, those servers,
--       and the voice bridge candidates
-- Reply: {word, ...}: "existing" and "new" with meeting and server, "ask" with meeting and server,
--        "conflict", "no_servers", "no_tagged_server", "no_bridge"
local id, tenant, password, ttl, amount = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local verdict, required, tag_count, excluded_count = ARGV[6], ARGV[7] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
local tags, excluded, bridges = {}, {}, {}
for i = 10, 9 + tag_count do tags[ARGV[i]] = true end
for i = 10 + tag_count, 9 + tag_count + excluded_count do excluded[ARGV[i]] = true end
for i = 10 + tag_count + excluded_count, #ARGV do bridges[#bridges + 1] = ARGV[i] end

-- The least loaded server that fits; equal loads go by id. Scalelite's rule: being in server_load is what counts.
local function choose()
  local offset, found_any, untagged = 0, false, nil
  while true do
    local ids = redis.call('ZRANGE', ns .. 'server_load', offset, offset + 31)
    for _, server_id in ipairs(ids) do
      if not excluded[server_id] then
        local server = read_server(server_id)
        if server then
          found_any = true
          if tags[server.tag ~= '' and server.tag or 'none'] then
            return server
          end
          if server.tag == '' and not untagged then
            untagged = server
            if tag_count == 0 and not required then return server end
          end
        end
      end
    end
    if #ids < 32 then break end
    offset = offset + 32
  end
  if required then
    return nil, found_any and 'no_tagged_server' or 'no_servers'
  end
  return untagged, 'no_servers'
end

-- A call on its way that ends an old copy would end the new meeting as well.
local function exclude_ending(now)
  local ending = redis.call('HGETALL', ending_key(id))
  for i = 1, #ending, 2 do
    if tonumber(ending[i + 1]) > now then
      excluded[ending[i]] = true
    end
  end
end

local function take_bridge()
  local key = ns .. 'voice_bridges'
  for _, number in ipairs(bridges) do
    local owner = redis.call('HGET', key, number)
    if not owner or owner == id then
      redis.call('HSET', key, number, id)
      return number
    end
  end
  -- All are taken: one whose meeting is gone may be taken over.
  for _, number in ipairs(bridges) do
    local owner = redis.call('HGET', key, number)
    if redis.call('EXISTS', meeting_key(owner)) == 0 then
      redis.call('HSET', key, number, id)
      return number
    end
  end
  return nil
end

-- `former` is the server that surely had the meeting before: {id, moderator password, tenant}, or {}.
local function mark_pending(server, former, now)
  local reserved = amount * server.multiplier
  redis.call('DEL', pending_key(id))
  redis.call('HSET', pending_key(id), 'server_id', server.id, 'attempts', 1, 'uncertain', 0,
    'since', decimal(now), 'reserved', decimal(reserved), 'previous', former[1] or '',
    'previous_pw', former[2] or '', 'previous_tenant', former[3] or '')
  redis.call('EXPIRE', pending_key(id), ttl)
  redis.call('ZADD', recent_key(server.id), decimal(now), id)
  redis.call('EXPIRE', recent_key(server.id), RECENT_TTL)
  add_load(server.id, reserved)
end

local m = redis.call('HMGET', meeting_key(id), 'server_id', 'moderator_pw', 'voice_bridge', 'tenant_id')
if m[1] then
  local owner = m[4] or ''
  if owner ~= '' and tenant ~= '' and owner ~= tenant then
    return { 'conflict' }
  end
  local old_id = m[1]
  local server = read_server(old_id)
  if server and server.online and server.state ~= 'disabled' and verdict ~= 'move:' .. old_id then
    local meeting = { old_id, m[2] or '', m[3] or '', owner }
    local pending = redis.call('EXISTS', pending_key(id))
    if server.state == 'cordoned' and pending == 0 and verdict ~= 'keep:' .. old_id then
      return { 'ask', meeting, server_reply(server), 0 }
    end
    if pending == 1 then
      redis.call('HINCRBY', pending_key(id), 'attempts', 1)
      redis.call('HSET', pending_key(id), 'since', decimal(seconds()))
    end
    return { 'existing', meeting, server_reply(server), pending }
  end
  -- Its server is offline, disabled or gone, or does not run it: placed anew as if it were new, save that it keeps
  -- its number.
  local now = seconds()
  excluded[old_id] = true
  exclude_ending(now)
  local former, chosen, why = { old_id, m[2], owner }, nil, nil
  local p = redis.call('HMGET', pending_key(id), 'server_id', 'previous', 'previous_pw', 'previous_tenant')
  if p[1] == old_id and p[2] ~= '' then
    -- It is not known to have got as far as there. If the server where it was is back, it had better stay.
    former = { p[2], p[3], p[4] }
    local server = not excluded[p[2]] and read_server(p[2])
    if server and server.online and server.state == 'enabled' then
      chosen, password = server, p[3]
    end
  end
  if not chosen then
    chosen, why = choose()
  end
  if not chosen then
    return { why }
  end
  owner = owner ~= '' and owner or tenant
  remember_old_copy(old_id, id, m[2], now)
  redis.call('ZREM', recent_key(old_id), id)
  redis.call('HSET', meeting_key(id), 'server_id', chosen.id, 'moderator_pw', password, 'tenant_id', owner)
  redis.call('EXPIRE', meeting_key(id), ttl)
  redis.call('SADD', ns .. 'meetings', id)
  mark_pending(chosen, former, now)
  return { 'new', { chosen.id, password, m[3] or '', owner }, server_reply(chosen), 1 }
end

local now = seconds()
exclude_ending(now)
local chosen, why = choose()
if not chosen then
  return { why }
end
local bridge = take_bridge()
if not bridge then
  return { 'no_bridge' }
end
redis.call('DEL', meeting_key(id))
redis.call('HSET', meeting_key(id), 'server_id', chosen.id, 'moderator_pw', password,
  'voice_bridge', bridge, 'tenant_id', tenant)
redis.call('EXPIRE', meeting_key(id), ttl)
redis.call('SADD', ns .. 'meetings', id)
mark_pending(chosen, {}, now)
return { 'new', { chosen.id, password, bridge, tenant }, server_reply(chosen), 1 }
