-- Puts a server into an administrative state; a state that it has already changes nothing.
-- ARGV: server id, "enabled", "cordoned" or "disabled"
-- Reply: the state it had, or "" if there is no such server
local id, wanted = ARGV[1], ARGV[2]
local server = read_server(id)
if not server then
  return ''
end
if server.state == wanted and not server.legacy then
  return server.state
end
local source = server.state == 'cordoned' and 'cordoned_server_load' or 'server_load'
local load = server.state ~= 'disabled' and redis.call('ZSCORE', ns .. source, id) or false
if not load and wanted ~= 'disabled' then
  load = redis.call('ZSCORE', ns .. (wanted == 'enabled' and 'cordoned_server_load' or 'server_load'), id)
end
redis.call('HSET', ns .. 'server:' .. id, 'state', wanted)
redis.call('ZREM', ns .. 'cordoned_server_load', id)
if wanted == 'enabled' then
  redis.call('SADD', ns .. 'server_enabled', id)
else
  redis.call('SREM', ns .. 'server_enabled', id)
  redis.call('ZREM', ns .. 'server_load', id)
end
if load and wanted == 'enabled' then
  redis.call('ZADD', ns .. 'server_load', load, id)
elseif load and wanted == 'cordoned' then
  redis.call('ZADD', ns .. 'cordoned_server_load', load, id)
end
return server.state
