-- Keeps an entry of the audit log, and drops the one that is too many.
-- ARGV: entry (JSON), how many are kept. Reply: its number
local key = ns .. 'balancer:audit'
local number = redis.call('HINCRBY', key, 'last', 1)
redis.call('HSET', key, number, decimal(seconds()) .. ' ' .. ARGV[1])
redis.call('HDEL', key, number - tonumber(ARGV[2]))
return number
