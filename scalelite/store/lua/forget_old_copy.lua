-- ARGV: server id, meeting id. Reply: 1 if a copy was remembered
return redis.call('HDEL', old_copies_key(ARGV[1]), ARGV[2])
