-- The last entries of the audit log, the newest first. ARGV: how many. Reply: {"time JSON", ...}
local key = ns .. 'balancer:audit'
local last = tonumber(redis.call('HGET', key, 'last') or '0')
local reply = {}
for number = last, math.max(1, last - tonumber(ARGV[1]) + 1), -1 do
  local entry = redis.call('HGET', key, number)
  if entry then
    reply[#reply + 1] = entry
  end
end
return reply
