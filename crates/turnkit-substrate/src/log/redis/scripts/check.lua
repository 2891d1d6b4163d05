-- ARGV: a nonce. Does what the other scripts do: writes under the prefix, and publishes there.
write_even_if_full()
redis.call('SET', P .. 'check', ARGV[11], 'PX', 10000)
wake('n', ARGV[11])
return { 'checked' }
