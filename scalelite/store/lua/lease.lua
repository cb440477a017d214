-- Takes or renews a lease. ARGV: name, holder, milliseconds. Reply: 1 if the holder has it now, else 0
local key = ns .. 'balancer:lease:' .. ARGV[1]
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[2] then
  return 0
end
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
return 1
