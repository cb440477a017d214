-- ARGV: tenant id, meeting id, seconds to keep them, name, URL, name, URL ...
local key = ns .. 'balancer:callbacks:' .. ARGV[1] .. ':' .. ARGV[2]
for i = 4, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', key, ARGV[3])
return 1
