-- Shared by the scripts that change tenants. The name is an index, `tenant_name:NAME`, that find_tenant goes by.
local function tenant_key(id) return ns .. 'tenant:' .. id end
local function name_key(name) return ns .. 'tenant_name:' .. name end

local function tenant_exists(id)
  return redis.call('EXISTS', tenant_key(id)) == 1
end

-- The id of a tenant of that name other than `id`, or false. Scalelite lets two have one name, with one index.
local function other_of_name(name, id)
  local holder = redis.call('HGET', name_key(name), 'id')
  if holder and holder ~= id and tenant_exists(holder) then
    return holder
  end
  for _, other in ipairs(redis.call('SMEMBERS', ns .. 'tenants')) do
    if other ~= id and redis.pcall('HGET', tenant_key(other), 'name') == name then
      return other
    end
  end
  return false
end

-- The tenant no longer has that name; another one of the same name gets the index.
local function give_up_name(name, id)
  local holder = redis.call('HGET', name_key(name), 'id')
  if holder and holder ~= id then
    return
  end
  redis.call('DEL', name_key(name))
  local heir = other_of_name(name, id)
  if heir then
    redis.call('HSET', name_key(name), 'id', heir)
  end
end
