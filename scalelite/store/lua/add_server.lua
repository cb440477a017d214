-- ARGV: server id, URL, secret, load multiplier, tag ("": none)
-- Reply: 1, or 0 if the id is taken
local id = ARGV[1]
if redis.call('SISMEMBER', ns .. 'servers', id) == 1 or redis.call('EXISTS', ns .. 'server:' .. id) == 1 then
  return 0
end
redis.call('HSET', ns .. 'server:' .. id, 'url', ARGV[2], 'secret', ARGV[3], 'online', 'false', 'load_multiplier', ARGV[4])
if ARGV[5] ~= '' then
  redis.call('HSET', ns .. 'server:' .. id, 'tag', ARGV[5])
end
redis.call('SADD', ns .. 'servers', id)
return 1
