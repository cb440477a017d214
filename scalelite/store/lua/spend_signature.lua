-- ARGV: signature, seconds to remember it. Reply: 1, or 0 if it has been seen
if redis.call('SET', ns .. 'balancer:api:signature:' .. ARGV[1], '1', 'NX', 'EX', ARGV[2]) then
  return 1
end
return 0
