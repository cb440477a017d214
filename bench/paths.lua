-- wrk: asks for the paths in a file, one after another and round and round: a path a line, and after a tab the host
-- that is asked, if it matters.
local requests = {}
count, sent = 0, 0

-- Milliseconds that each connection rests between an answer and the next request.
local pause = tonumber(os.getenv('BENCH_PAUSE') or '0')
if pause > 0 then
  function delay()
    return pause
  end
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  for line in io.lines(args[1]) do
    count = count + 1
    local path, host = line:match('^([^\t]*)\t?(.*)$')
    requests[count] = wrk.format('GET', path, {Host = host ~= '' and host or wrk.headers['Host']})
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % count + 1]
end

function done(summary, latency)
  local left = 0
  for _, thread in ipairs(threads) do
    left = left + thread:get('count') - thread:get('sent')
  end
  local errors = summary.errors
  -- Requests, microseconds, p50, p99 and longest latency in microseconds, error answers, missing answers, paths not asked for.
  print(string.format('BENCH %d %d %d %d %d %d %d %d',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, left))
end
