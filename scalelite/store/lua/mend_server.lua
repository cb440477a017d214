-- Mends what can be mended of a server, by what is wrong with it at this moment. ARGV: server id. Reply: how many things
local id, mended = ARGV[1], 0
for _, problem in ipairs(server_problems(id)) do
  local what = problem[1]
  local done = true
  if what == 'server_gone' then redis.call('SREM', ns .. 'servers', id)
  elseif what == 'stale_enabled' then redis.call('SREM', ns .. 'server_enabled', id)
  elseif what == 'not_enabled' then redis.call('SADD', ns .. 'server_enabled', id)
  elseif what == 'stale_load' then redis.call('ZREM', ns .. problem[2], id)
  elseif what == 'counters_left' then redis.call('DEL', ns .. id)
  elseif what == 'server_field' then redis.call('HDEL', ns .. 'server:' .. id, problem[2])
  else done = false end
  mended = mended + (done and 1 or 0)
end
return mended
