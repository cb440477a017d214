-- All servers, or the one of ARGV[1]. Reply: for each {id, effective state, load or "", field, value, field, value ...}
local reply = {}
local ids = ARGV[1] ~= '' and { ARGV[1] } or redis.call('SMEMBERS', ns .. 'servers')
for _, id in ipairs(ids) do
  local fields = redis.pcall('HGETALL', ns .. 'server:' .. id)
  if not fields.err and #fields > 0 then
    local server = read_server(id)
    local state = server and server.state or 'disabled'
    local load = false
    if state == 'cordoned' then
      load = redis.call('ZSCORE', ns .. 'cordoned_server_load', id)
    elseif state == 'enabled' then
      load = redis.call('ZSCORE', ns .. 'server_load', id)
    end
    local row = { id, state, load or '' }
    for i = 1, #fields do row[i + 3] = fields[i] end
    reply[#reply + 1] = row
  end
end
return reply
