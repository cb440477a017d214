-- Removes a setting of a tenant that has no record. ARGV: setting id. Reply: how many things
return gone_tenant_of(ARGV[1]) and redis.call('DEL', ns .. 'tenant_setting:' .. ARGV[1]) or 0
