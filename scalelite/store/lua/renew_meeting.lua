-- The server knows the meeting, though it did not list it under this id (it may trim ids, or have been told since).
-- ARGV: meeting id, server id, time (s) at which it had not been asked yet, TTL (s). Reply: 1 if it is recorded there
local id, server_id, asked = ARGV[1], ARGV[2], tonumber(ARGV[3])
if meeting_holder(id) ~= server_id then
  return 0
end
redis.call('EXPIRE', meeting_key(id), ARGV[4])
local p = redis.call('HMGET', pending_key(id), 'server_id', 'since')
if p[1] == server_id and tonumber(p[2]) < asked then
  redis.call('DEL', pending_key(id))
end
return 1
