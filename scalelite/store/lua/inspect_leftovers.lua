-- What removed servers and tenants have left. ARGV: names of keys, without the namespace.
-- Reply: for each {id, problem, detail ...}
local reply = {}
for _, name in ipairs(ARGV) do
  local setting_id = name:match('^tenant_setting:(.*)$')
  local tenant_id = name:match('^tenant_settings:(.*)$')
  if setting_id then
    local gone = gone_tenant_of(setting_id)
    if gone then reply[#reply + 1] = { setting_id, 'setting_left', gone } end
  elseif tenant_id then
    if settings_left(tenant_id) then reply[#reply + 1] = { tenant_id, 'settings_left' } end
  elseif counters_left(name) then
    reply[#reply + 1] = { name, 'counters_left' }
  end
end
return reply
