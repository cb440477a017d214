-- Sets fields of a tenant, an empty value removes one; with the name, its index.
-- ARGV: tenant id, field, value, field, value ... Reply: 1, 0 if the name is taken, -1 if there is no such tenant
local id = ARGV[1]
if not tenant_exists(id) then
  return -1
end
for i = 2, #ARGV, 2 do
  if ARGV[i] == 'name' then
    local name, before = ARGV[i + 1], redis.call('HGET', tenant_key(id), 'name')
    if name ~= before then
      if other_of_name(name, id) then
        return 0
      end
      if before then
        give_up_name(before, id)
      end
      redis.call('HSET', name_key(name), 'id', id)
    end
  end
end
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', tenant_key(id), ARGV[i])
  else
    redis.call('HSET', tenant_key(id), ARGV[i], ARGV[i + 1])
  end
end
return 1
