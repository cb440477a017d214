-- Of records of meetings, those that are not listed. ARGV: meeting ids. Reply: {id, problem, detail ...} for each problem
local reply = {}
for _, id in ipairs(ARGV) do
  if redis.call('SISMEMBER', ns .. 'meetings', id) == 0 then
    for _, problem in ipairs(meeting_problems(id)) do
      table.insert(problem, 1, id)
      reply[#reply + 1] = problem
    end
  end
end
return reply
