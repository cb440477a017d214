-- ARGV: tenant id, meeting id. Reply: {recording-ready URL, analytics URL}, each may be nil
return redis.call('HMGET', ns .. 'balancer:callbacks:' .. ARGV[1] .. ':' .. ARGV[2],
  'recording_ready_url', 'analytics_callback_url')
