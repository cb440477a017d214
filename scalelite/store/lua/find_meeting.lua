-- Where a meeting lives, in one step; optionally counts a join.
-- ARGV: meeting id, tenant id, "1" if the tenant must match, load to add if its server takes joins ("0": none)
-- Reply: {} if unknown, else {server id, moderator_pw, voice_bridge, tenant id} and, if its server is known, its reply.
local id, tenant, strict, amount = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local m = redis.call('HMGET', ns .. 'meeting:' .. id, 'server_id', 'moderator_pw', 'voice_bridge', 'tenant_id')
if not m[1] or (strict and (m[4] or '') ~= tenant) then
  return {}
end
local server = read_server(m[1])
if not server then
  return { { m[1], m[2] or '', m[3] or '', m[4] or '' } }
end
if amount > 0 and server.online and server.state ~= 'disabled' then
  add_load(server.id, amount * server.multiplier)
end
return { { m[1], m[2] or '', m[3] or '', m[4] or '' }, server_reply(server) }
