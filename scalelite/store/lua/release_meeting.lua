-- A create did not succeed: gives record and reservation back if nobody else needs them.
-- ARGV: meeting id, server id, "refused" (the server surely did not create it) or "unknown" (it may have, or may yet),
--       moderator password, voice bridge, tenant id, TTL (s)
-- Reply: "released", "restored" (the record points to its former server again) or "kept"
local id, server_id, verdict = ARGV[1], ARGV[2], ARGV[3]
local p = redis.call('HMGET', pending_key(id), 'server_id', 'uncertain', 'reserved')

if verdict == 'unknown' then
  local holder, now = meeting_holder(id), seconds()
  if holder and holder ~= server_id then
    remember_old_copy(server_id, id, ARGV[4], now)
    return 'kept'
  end
  -- Given back or ended meanwhile.
  if not holder and not record_again(id, server_id, ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), now) then
    return 'kept'
  end
  if p[1] == server_id then
    redis.call('HINCRBY', pending_key(id), 'attempts', -1)
    redis.call('HSET', pending_key(id), 'uncertain', 1)
  else
    mark_uncertain(id, server_id, tonumber(ARGV[7]), now)
  end
  return 'kept'
end

if p[1] ~= server_id then
  return 'kept'
end
local attempts = redis.call('HINCRBY', pending_key(id), 'attempts', -1)
if attempts > 0 or p[2] == '1' then
  return 'kept'
end
add_load(server_id, -tonumber(p[3]))
local m = redis.call('HMGET', meeting_key(id), 'server_id', 'voice_bridge')
if m[1] ~= server_id then
  redis.call('DEL', pending_key(id))
  redis.call('ZREM', recent_key(server_id), id)
  return 'kept'
end
if restore_meeting(id, server_id) then
  return 'restored'
end
forget_meeting(id, server_id, m[2])
return 'released'
