-- All that is known of a meeting. ARGV: meeting id
-- Reply: {now (s), {server id, number, tenant id, TTL (s)} or {}, {server id, since, attempts, uncertain, previous} or {},
--         when it was placed or confirmed there, or "", {server id, since} of each old copy ...}
local id = ARGV[1]
local record, pending, recent = {}, {}, ''
local m = redis.call('HMGET', meeting_key(id), 'server_id', 'voice_bridge', 'tenant_id')
if m[1] then
  record = { m[1], m[2] or '', m[3] or '', redis.call('TTL', meeting_key(id)) }
  recent = redis.call('ZSCORE', recent_key(m[1]), id) or ''
end
local p = redis.call('HMGET', pending_key(id), 'server_id', 'since', 'attempts', 'uncertain', 'previous')
if p[1] then
  pending = { p[1], p[2] or '0', p[3] or '0', p[4] or '0', p[5] or '' }
end
local reply = { decimal(seconds()), record, pending, recent }
for _, server_id in ipairs(redis.call('SMEMBERS', ns .. 'servers')) do
  local copy = redis.call('HGET', old_copies_key(server_id), id)
  if copy then
    reply[#reply + 1] = { server_id, decimal(cjson.decode(copy).since) }
  end
end
return reply
