-- The servers that getMeetings asks: online and not disabled. Reply: for each {id, URL, secret, ids of old copies ...}
local reply = {}
for _, id in ipairs(redis.call('SMEMBERS', ns .. 'servers')) do
  local server = read_server(id)
  if server and server.online and server.state ~= 'disabled' then
    local row = { id, server.url, server.secret }
    for _, meeting_id in ipairs(redis.call('HKEYS', old_copies_key(id))) do
      if meeting_holder(meeting_id) ~= id then
        row[#row + 1] = meeting_id
      end
    end
    reply[#reply + 1] = row
  end
end
return reply
