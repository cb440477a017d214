-- ARGV: name. Reply: who has the lease, or nil
return redis.call('GET', ns .. 'balancer:lease:' .. ARGV[1])
