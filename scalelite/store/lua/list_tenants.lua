-- All tenants, or the one of ARGV[1]: whole records, each with its settings.
-- Reply: for each {id, {field, value ...}, {setting id, param, value, override}, ...}
local reply = {}
local ids = ARGV[1] ~= '' and { ARGV[1] } or redis.call('SMEMBERS', ns .. 'tenants')
for _, id in ipairs(ids) do
  local fields = redis.pcall('HGETALL', ns .. 'tenant:' .. id)
  if not fields.err and #fields > 0 then
    local row = { id, fields }
    local setting_ids = redis.pcall('SMEMBERS', ns .. 'tenant_settings:' .. id)
    for _, setting_id in ipairs(setting_ids.err and {} or setting_ids) do
      local s = redis.pcall('HMGET', ns .. 'tenant_setting:' .. setting_id, 'param', 'value', 'override')
      if not s.err and s[1] then
        row[#row + 1] = { setting_id, s[1], s[2] or '', s[3] or '' }
      end
    end
    reply[#reply + 1] = row
  end
end
return reply
