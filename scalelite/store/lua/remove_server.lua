-- ARGV: server id, "1" to remove it although meetings are recorded there
-- Reply: -1 if there is none, else the number of meetings recorded there; removed if that is 0 or it is forced
local id = ARGV[1]
if redis.call('EXISTS', ns .. 'server:' .. id) == 0 then
  return -1
end
local count = 0
for _, meeting_id in ipairs(redis.call('SMEMBERS', ns .. 'meetings')) do
  if redis.call('HGET', meeting_key(meeting_id), 'server_id') == id then
    count = count + 1
  end
end
if count == 0 or ARGV[2] == '1' then
  redis.call('DEL', ns .. 'server:' .. id, ns .. id, recent_key(id), old_copies_key(id))
  redis.call('SREM', ns .. 'servers', id)
  redis.call('SREM', ns .. 'server_enabled', id)
  redis.call('ZREM', ns .. 'server_load', id)
  redis.call('ZREM', ns .. 'cordoned_server_load', id)
end
return count
