-- ARGV: tenant id, name, secrets joined by ":". Reply: 1, or 0 if the id or the name is taken
local id, name = ARGV[1], ARGV[2]
if tenant_exists(id) or other_of_name(name, id) then
  return 0
end
redis.call('DEL', ns .. 'tenant_settings:' .. id)
redis.call('HSET', tenant_key(id), 'name', name, 'secrets', ARGV[3])
redis.call('HSET', name_key(name), 'id', id)
redis.call('SADD', ns .. 'tenants', id)
return 1
