-- An old copy is about to be ended: until that is over, no create may place the meeting there.
-- ARGV: server id, meeting id, seconds after which a call that is sent now is surely over
-- Reply: what finish_end_copy takes, or "" if the copy must be left alone: the meeting lives there again, or is being
-- placed elsewhere, which may come to nothing
local server_id, id = ARGV[1], ARGV[2]
local holder = meeting_holder(id)
local placing = holder and redis.call('HGET', pending_key(id), 'server_id') == holder
if holder == server_id or placing or redis.call('HEXISTS', old_copies_key(server_id), id) == 0 then
  return ''
end
local now = seconds()
-- If an earlier call may still be on its way, the answer to this one does not say that all is over.
local token = is_being_ended(server_id, id, now) and 'several' or decimal(now + tonumber(ARGV[3]))
redis.call('HSET', ending_key(id), server_id, decimal(now + tonumber(ARGV[3])))
redis.call('EXPIRE', ending_key(id), math.ceil(tonumber(ARGV[3])))
return token
