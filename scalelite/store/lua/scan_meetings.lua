-- One slice of the recorded meetings; ids whose record has expired are taken off the list on the way.
-- ARGV: cursor, how many to look at. Reply: {next cursor, {id, server id, moderator_pw, voice_bridge, tenant id}, ...}
local slice = redis.call('SSCAN', ns .. 'meetings', ARGV[1], 'COUNT', ARGV[2])
local reply = { slice[1] }
for _, id in ipairs(slice[2]) do
  local m = redis.pcall('HMGET', meeting_key(id), 'server_id', 'moderator_pw', 'voice_bridge', 'tenant_id')
  if m[1] and not m.err then
    reply[#reply + 1] = { id, m[1], m[2] or '', m[3] or '', m[4] or '' }
  elseif redis.call('EXISTS', meeting_key(id)) == 0 then
    redis.call('SREM', ns .. 'meetings', id)
  end
end
return reply
