-- ARGV: server id, version. Reply: 1, or 0 if there is no such server
if redis.call('EXISTS', ns .. 'server:' .. ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', ns .. 'server:' .. ARGV[1], 'bbb_version', ARGV[2])
return 1
