-- Whether a token is for this recording and format; if so, and it is to be spent, it is good no more.
-- ARGV: token, record id, format, 1 to spend it
-- Reply: 1 or 0
local key = ns .. 'protector_token_' .. ARGV[1]
local value = redis.pcall('GET', key)
if type(value) ~= 'string' then
  return 0
end
local read, holds = pcall(cjson.decode, value)
if not read or type(holds) ~= 'table' or holds['record_id'] ~= ARGV[2] or holds['format'] ~= ARGV[3] then
  return 0
end
if ARGV[4] == '1' then
  redis.call('DEL', key)
end
return 1
