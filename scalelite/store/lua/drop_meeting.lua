-- Removes a meeting's record, if it still points to that server.
-- ARGV: meeting id, server id, "ended" (the server said so), "absent" (the poller's proof) or "cleared" (by an operator),
--       time (s) before which the absence was not yet asked for, age (s) at which a pending create counts as failed,
--       "1" to remember a copy that may still run there
-- Reply: 1 if removed, else 0
local id, server_id, why, asked, stale, remember = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local m = redis.call('HMGET', meeting_key(id), 'server_id', 'voice_bridge', 'moderator_pw')
if m[1] ~= server_id then
  return 0
end
if why == 'absent' then
  local since = redis.call('HGET', pending_key(id), 'since')
  if since and tonumber(since) + stale > asked then
    return 0
  end
  local recent = redis.call('ZSCORE', recent_key(server_id), id)
  if not since and recent and tonumber(recent) >= asked then
    return 0
  end
end
if remember == '1' then
  remember_old_copy(server_id, id, m[3], seconds())
end
forget_meeting(id, server_id, m[2])
return 1
