-- ARGV: tenant id, meeting id. Reply: {recording-ready URL, analytics URL, time (s) at which SQL could not take them},
--       each may be nil
return redis.call('HMGET', callbacks_key(ARGV[1], ARGV[2]), 'recording_ready_url', 'analytics_callback_url',
  'unsaved_at')
