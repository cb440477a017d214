-- The call that ends an old copy has been answered, or was never sent.
-- ARGV: server id, meeting id, what begin_end_copy replied. Reply: 1 if no such call is on its way any more, else 0
if redis.call('HGET', ending_key(ARGV[2]), ARGV[1]) ~= ARGV[3] then
  return 0
end
return redis.call('HDEL', ending_key(ARGV[2]), ARGV[1])
