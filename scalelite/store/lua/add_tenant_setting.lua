-- Records a setting, in place of those of the same tenant, parameter and kind: of several, any one would count.
-- ARGV: setting id, tenant id, parameter, value, "true" or "false" for an override
-- Reply: {1, id of a replaced setting ...}, or {0} if there is no such tenant
local setting_id, tenant_id = ARGV[1], ARGV[2]
if not tenant_exists(tenant_id) then
  return { 0 }
end
local reply = { 1 }
for _, other in ipairs(redis.call('SMEMBERS', ns .. 'tenant_settings:' .. tenant_id)) do
  local s = redis.pcall('HMGET', ns .. 'tenant_setting:' .. other, 'param', 'override')
  if not s.err and s[1] == ARGV[3] and (s[2] == 'true') == (ARGV[5] == 'true') then
    redis.call('DEL', ns .. 'tenant_setting:' .. other)
    redis.call('SREM', ns .. 'tenant_settings:' .. tenant_id, other)
    reply[#reply + 1] = other
  end
end
redis.call('HSET', ns .. 'tenant_setting:' .. setting_id,
  'param', ARGV[3], 'value', ARGV[4], 'override', ARGV[5], 'tenant_id', tenant_id)
redis.call('SADD', ns .. 'tenant_settings:' .. tenant_id, setting_id)
return reply
