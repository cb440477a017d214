-- What is wrong with servers and tenants. Reply: for each {id, problem, detail ...}
local ids, reply = {}, {}
for _, key in ipairs({ 'servers', 'server_enabled' }) do
  for _, id in ipairs(redis.call('SMEMBERS', ns .. key)) do ids[id] = true end
end
for _, key in ipairs({ 'server_load', 'cordoned_server_load' }) do
  for _, id in ipairs(redis.call('ZRANGE', ns .. key, 0, -1)) do ids[id] = true end
end
for id in pairs(ids) do
  for _, problem in ipairs(server_problems(id)) do
    table.insert(problem, 1, id)
    reply[#reply + 1] = problem
  end
end
for _, id in ipairs(redis.call('SMEMBERS', ns .. 'tenants')) do
  local kind = type_of(ns .. 'tenant:' .. id)
  if kind == 'none' then
    reply[#reply + 1] = { id, 'tenant_gone' }
  elseif kind == 'hash' then
    for _, name in ipairs(unknown_fields(ns .. 'tenant:' .. id, TENANT_FIELDS)) do
      reply[#reply + 1] = { id, 'tenant_field', name }
    end
  end
end
return reply
