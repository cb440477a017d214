-- Sets fields of a server; an empty value removes one. ARGV: server id, field, value, field, value ...
-- Reply: 1, or 0 if there is no such server
local key = ns .. 'server:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then
  return 0
end
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', key, ARGV[i])
  else
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  end
end
return 1
