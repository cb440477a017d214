-- One slice of the listed meetings. ARGV: cursor, how many to look at. Reply: {next cursor, {id, problem, detail ...}, ...}
local slice = redis.call('SSCAN', ns .. 'meetings', ARGV[1], 'COUNT', ARGV[2])
local reply = { slice[1] }
for _, id in ipairs(slice[2]) do
  for _, problem in ipairs(meeting_problems(id)) do
    table.insert(problem, 1, id)
    reply[#reply + 1] = problem
  end
end
return reply
