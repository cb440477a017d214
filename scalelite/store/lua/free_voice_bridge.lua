-- ARGV: number, meeting id. Reply: 1 if the number was freed; not if the meeting has a record (again)
if redis.call('EXISTS', meeting_key(ARGV[2])) == 0 and redis.call('HGET', ns .. 'voice_bridges', ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', ns .. 'voice_bridges', ARGV[1])
end
return 0
