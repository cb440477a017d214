-- A create did not succeed: gives record and reservation back if nobody else needs them.
-- ARGV: meeting id, server id, "refused" (the server surely did not create it) or "unknown" (it may have)
-- Reply: "released", "restored" (the record points to its former server again) or "kept"
local id, server_id, verdict = ARGV[1], ARGV[2], ARGV[3]
local p = redis.call('HMGET', pending_key(id), 'server_id', 'uncertain', 'reserved')
if p[1] ~= server_id then
  return 'kept'
end
local attempts = redis.call('HINCRBY', pending_key(id), 'attempts', -1)
if verdict == 'unknown' then
  redis.call('HSET', pending_key(id), 'uncertain', 1)
  return 'kept'
end
if attempts > 0 or p[2] == '1' then
  return 'kept'
end
-- Once the poller has given up counting the reservation, it is not in the load any more.
if redis.call('ZSCORE', recent_key(server_id), id) then
  add_load(server_id, -tonumber(p[3]))
end
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
