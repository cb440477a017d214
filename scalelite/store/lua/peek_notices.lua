-- ARGV: how many at most. Reply: the oldest notices
return redis.call('LRANGE', ns .. 'balancer:unsaved_notices', 0, tonumber(ARGV[1]) - 1)
