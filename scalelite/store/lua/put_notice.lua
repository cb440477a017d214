-- ARGV: notice (JSON), how many may wait, seconds to keep them. Reply: 1, or 0 if too many wait
local key = ns .. 'balancer:unsaved_notices'
if redis.call('LLEN', key) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('RPUSH', key, ARGV[1])
redis.call('EXPIRE', key, ARGV[3])
return 1
