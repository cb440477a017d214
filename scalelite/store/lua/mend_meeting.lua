-- Mends a meeting, by what is wrong with it at this moment. ARGV: meeting id, TTL (s). Reply: how many things
local id, mended = ARGV[1], 0
for _, problem in ipairs(meeting_problems(id)) do
  local what = problem[1]
  local done = true
  if what == 'meeting_gone' then redis.call('SREM', ns .. 'meetings', id)
  elseif what == 'orphan' then forget_meeting(id, problem[2], redis.call('HGET', meeting_key(id), 'voice_bridge'))
  elseif what == 'meeting_field' then redis.call('HDEL', meeting_key(id), problem[2])
  elseif what == 'immortal' then redis.call('EXPIRE', meeting_key(id), ARGV[2])
  elseif what == 'unlisted' then redis.call('SADD', ns .. 'meetings', id)
  elseif what == 'no_bridge' then redis.call('HSETNX', ns .. 'voice_bridges', problem[2], id)
  else done = false end
  mended = mended + (done and 1 or 0)
end
return mended
