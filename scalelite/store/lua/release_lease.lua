-- ARGV: name, holder. Reply: 1 if the lease was the holder's
local key = ns .. 'balancer:lease:' .. ARGV[1]
if redis.call('GET', key) == ARGV[2] then
  return redis.call('DEL', key)
end
return 0
