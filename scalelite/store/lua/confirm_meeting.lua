-- Second half of create: the server says that the meeting lives.
-- ARGV: meeting id, server id, moderator password, voice bridge, tenant id, TTL (s)
-- Reply: "ok", or "moved" if another server holds the meeting by now, or it was given up and is being ended here; our
-- copy is then remembered, to be ended.
local id, server_id, password, bridge, tenant, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local holder, now = redis.call('HGET', meeting_key(id), 'server_id'), seconds()
if holder and holder ~= server_id then
  remember_old_copy(server_id, id, password, now)
  return 'moved'
end
if not holder then
  -- Given back or ended meanwhile, and yet it lives: take it up again. If it does not, the poller will see.
  if not record_again(id, server_id, password, bridge, tenant, ttl, now) then
    return is_being_ended(server_id, id, now) and 'moved' or 'ok'
  end
end
redis.call('EXPIRE', meeting_key(id), ttl)
redis.call('DEL', pending_key(id))
redis.call('HDEL', old_copies_key(server_id), id)
redis.call('ZADD', recent_key(server_id), decimal(now), id)
redis.call('EXPIRE', recent_key(server_id), RECENT_TTL)
return 'ok'
