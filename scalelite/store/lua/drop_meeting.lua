-- Removes a meeting's record, if it still points to that server.
-- ARGV: meeting id, server id, "ended" (the server said so), "absent" (the poller's proof) or "cleared" (by an operator),
--       time (s) before which the absence was not yet asked for, age (s) at which a pending create counts as failed,
--       "1" to remember a copy that may still run there
-- Reply: 1 if the meeting is not recorded there any more, else 0
local id, server_id, why, asked, stale, remember = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local m = redis.call('HMGET', meeting_key(id), 'server_id', 'voice_bridge', 'moderator_pw')
if m[1] ~= server_id then
  return 0
end
local p = redis.pcall('HMGET', pending_key(id), 'server_id', 'since')
local pending = not p.err and p[1] == server_id
if why == 'absent' then
  if pending and tonumber(p[2]) + stale > asked then
    return 0
  end
  local recent = redis.call('ZSCORE', recent_key(server_id), id)
  if recent and tonumber(recent) >= asked then
    return 0
  end
end
-- A create that is not settled may yet be carried out, though the server does not know the meeting now.
if remember == '1' or (pending and why ~= 'absent') then
  remember_old_copy(server_id, id, m[3], seconds())
end
-- It may have been moved here in doubt. Whoever ends it means all of it.
if not pending or why == 'ended' or not restore_elsewhere(id, server_id) then
  forget_meeting(id, server_id, m[2])
end
return 1
