-- The tenant of a name, with its settings, in one step. ARGV: name
-- Reply: {} or {id, {field, value ...}, {param, value, override}, ...}
local id = redis.call('HGET', ns .. 'tenant_name:' .. ARGV[1], 'id')
if not id then
  return {}
end
local fields = redis.call('HGETALL', ns .. 'tenant:' .. id)
if #fields == 0 then
  return {}
end
local reply = { id, fields }
for _, setting_id in ipairs(redis.call('SMEMBERS', ns .. 'tenant_settings:' .. id)) do
  local s = redis.call('HMGET', ns .. 'tenant_setting:' .. setting_id, 'param', 'value', 'override')
  if s[1] then
    reply[#reply + 1] = { s[1], s[2] or '', s[3] or '' }
  end
end
return reply
