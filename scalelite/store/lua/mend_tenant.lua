-- Mends a tenant, by what is wrong with it at this moment. ARGV: tenant id. Reply: how many things
local key, mended = ns .. 'tenant:' .. ARGV[1], 0
local kind = type_of(key)
if kind == 'none' then
  return redis.call('SREM', ns .. 'tenants', ARGV[1]) + redis.call('DEL', ns .. 'tenant_settings:' .. ARGV[1])
end
if kind == 'hash' then
  for _, name in ipairs(unknown_fields(key, TENANT_FIELDS)) do mended = mended + redis.call('HDEL', key, name) end
end
return mended
