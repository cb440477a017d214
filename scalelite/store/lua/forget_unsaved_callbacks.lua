-- SQL has taken them, or never will. ARGV: tenant id, meeting id, time (s) at which they were kept: later ones stay
local key = callbacks_key(ARGV[1], ARGV[2])
if redis.call('HGET', key, 'unsaved_at') == ARGV[3] then
  redis.call('DEL', key)
  redis.call('SREM', ns .. 'balancer:unsaved_callbacks', cjson.encode({ ARGV[1], ARGV[2] }))
end
return 1
