-- URLs that SQL could not take. ARGV: how many at most
-- Reply: a list of {tenant id, meeting id, recording-ready URL, analytics URL, time (s)}, URLs may be nil
local rows = {}
for _, member in ipairs(redis.call('SRANDMEMBER', ns .. 'balancer:unsaved_callbacks', ARGV[1])) do
  local named = cjson.decode(member)
  local kept = redis.call('HMGET', callbacks_key(named[1], named[2]), 'recording_ready_url', 'analytics_callback_url',
    'unsaved_at')
  if kept[3] then
    rows[#rows + 1] = { named[1], named[2], kept[1], kept[2], kept[3] }
  else
    redis.call('SREM', ns .. 'balancer:unsaved_callbacks', member)
  end
end
return rows
