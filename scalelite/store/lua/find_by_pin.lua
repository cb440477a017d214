-- The meeting of a dial-in PIN, in one step with the count of wrong ones. No counter grows beyond its limit, and each
-- ends with its time, so callers make no more records than `most for all` allows.
-- ARGV: seconds that a wrong PIN counts, most for one caller (0: no limit), most for all (0: no limit),
--       how many names of the caller, the names, the numbers that the PIN may stand for
-- Reply: {"locked"}, {"unknown"}, or {"found", {meeting id, server id, moderator_pw, voice_bridge, tenant id}} and, if
-- its server is known, its reply
local window, most, most_for_all, names = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local counters = {}
if most_for_all > 0 then
  counters[1] = { ns .. 'balancer:dialin:all', most_for_all }
end
if most > 0 then
  for i = 5, 4 + names do
    counters[#counters + 1] = { ns .. 'balancer:dialin:caller:' .. ARGV[i], most }
  end
end
for _, counter in ipairs(counters) do
  if (tonumber(redis.call('GET', counter[1]) or 0)) >= counter[2] then
    return { 'locked' }
  end
end

for i = 5 + names, #ARGV do
  local id = redis.call('HGET', ns .. 'voice_bridges', ARGV[i])
  if id then
    local m = redis.pcall('HMGET', meeting_key(id), 'server_id', 'moderator_pw', 'voice_bridge', 'tenant_id')
    if not m.err and m[1] then
      local server = read_server(m[1])
      local reply = { 'found', { id, m[1], m[2] or '', m[3] or '', m[4] or '' } }
      if server then
        reply[3] = server_reply(server)
      end
      return reply
    end
  end
end

local locked = false
for _, counter in ipairs(counters) do
  local count = redis.call('INCR', counter[1])
  if count == 1 then
    redis.call('EXPIRE', counter[1], window)
  end
  locked = locked or count >= counter[2]
end
return { locked and 'locked' or 'unknown' }
