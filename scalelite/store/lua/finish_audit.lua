-- Replaces an entry of the audit log, its time apart. ARGV: its number, entry (JSON). Reply: 1, or 0 if it is gone
local key = ns .. 'balancer:audit'
local entry = redis.call('HGET', key, ARGV[1])
if not entry then
  return 0
end
redis.call('HSET', key, ARGV[1], string.match(entry, '^%S+') .. ' ' .. ARGV[2])
return 1
