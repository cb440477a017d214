-- One slice of the voice bridges. ARGV: cursor, how many to look at.
-- Reply: {next cursor, number, meeting id, ...} of those whose meeting has no record
local slice = redis.call('HSCAN', ns .. 'voice_bridges', ARGV[1], 'COUNT', ARGV[2])
local reply = { slice[1] }
for i = 1, #slice[2], 2 do
  if redis.call('EXISTS', meeting_key(slice[2][i + 1])) == 0 then
    reply[#reply + 1] = slice[2][i]
    reply[#reply + 1] = slice[2][i + 1]
  end
end
return reply
