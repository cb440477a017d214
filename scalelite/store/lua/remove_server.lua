-- ARGV: server id, "1" to remove it although meetings are recorded there, and their records with it; one of a
--       create in doubt that had moved the meeting there goes back to the former server
-- Reply: -1 if there is none, else the number of meetings recorded there; removed if that is 0 or it is forced
local id = ARGV[1]
if redis.call('EXISTS', ns .. 'server:' .. id) == 0 then
  return -1
end
local recorded = {}
for _, meeting_id in ipairs(redis.call('SMEMBERS', ns .. 'meetings')) do
  if meeting_holder(meeting_id) == id then
    recorded[#recorded + 1] = meeting_id
  end
end
if #recorded == 0 or ARGV[2] == '1' then
  for _, meeting_id in ipairs(recorded) do
    if not restore_elsewhere(meeting_id, id) then
      forget_meeting(meeting_id, id, redis.call('HGET', meeting_key(meeting_id), 'voice_bridge'))
    end
  end
  redis.call('DEL', ns .. 'server:' .. id, recent_key(id), old_copies_key(id))
  -- Only the counters: with an id such as "meetings" the key is somebody else's.
  redis.pcall('HDEL', ns .. id, 'healthy_counter', 'unhealthy_counter')
  redis.call('SREM', ns .. 'servers', id)
  redis.call('SREM', ns .. 'server_enabled', id)
  redis.call('ZREM', ns .. 'server_load', id)
  redis.call('ZREM', ns .. 'cordoned_server_load', id)
end
return #recorded
