-- ARGV: setting id. Reply: 1, or 0 if there is no such setting
local key = ns .. 'tenant_setting:' .. ARGV[1]
local tenant_id = redis.call('HGET', key, 'tenant_id')
if redis.call('DEL', key) == 0 then
  return 0
end
if tenant_id then
  redis.call('SREM', ns .. 'tenant_settings:' .. tenant_id, ARGV[1])
end
return 1
