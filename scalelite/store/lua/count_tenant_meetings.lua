-- ARGV: tenant id. Reply: how many meetings are recorded as its own
local count = 0
for _, id in ipairs(redis.call('SMEMBERS', ns .. 'meetings')) do
  if redis.pcall('HGET', meeting_key(id), 'tenant_id') == ARGV[1] then
    count = count + 1
  end
end
return count
