-- Writes one-time tokens, in Scalelite's layout.
-- ARGV: seconds that they live, then each token and its value in turn
for i = 2, #ARGV, 2 do
  redis.call('SET', ns .. 'protector_token_' .. ARGV[i], ARGV[i + 1], 'EX', ARGV[1])
end
