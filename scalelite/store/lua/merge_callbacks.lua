-- ARGV: tenant id, meeting id, seconds to keep them, time (s) at which SQL could not take them or "", name, URL,
--       name, URL ...
local key = callbacks_key(ARGV[1], ARGV[2])
for i = 5, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
if ARGV[4] ~= '' then
  redis.call('HSET', key, 'unsaved_at', ARGV[4])
  redis.call('SADD', ns .. 'balancer:unsaved_callbacks', cjson.encode({ ARGV[1], ARGV[2] }))
  redis.call('EXPIRE', ns .. 'balancer:unsaved_callbacks', ARGV[3])
end
redis.call('EXPIRE', key, ARGV[3])
return 1
