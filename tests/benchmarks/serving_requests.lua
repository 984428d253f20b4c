-- For wrk: asks what the file of its first argument says, line by line and over again ("key body"), one text a request.
-- At the end it prints what it counted as JSON in a line of its own.

local requests, at = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local key, body = line:match("^(%S+) (.*)$")
    local headers = {["Authorization"] = "Bearer " .. key, ["Content-Type"] = "application/json"}
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
