-- ARGV: notice (JSON), as it was read
return redis.call('LREM', ns .. 'balancer:unsaved_notices', 1, ARGV[1])
