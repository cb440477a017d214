-- Removes a tenant with its settings. ARGV: tenant id. Reply: 1, or 0 if there is no such tenant
local id = ARGV[1]
if not tenant_exists(id) then
  return 0
end
local name = redis.call('HGET', tenant_key(id), 'name')
redis.call('DEL', tenant_key(id))
redis.call('SREM', ns .. 'tenants', id)
if name then
  give_up_name(name, id)
end
for _, setting_id in ipairs(redis.call('SMEMBERS', ns .. 'tenant_settings:' .. id)) do
  redis.call('DEL', ns .. 'tenant_setting:' .. setting_id)
end
redis.call('DEL', ns .. 'tenant_settings:' .. id)
return 1
