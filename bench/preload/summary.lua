-- What became of the requests of one run of wrk, as a line of JSON.
done = function(summary)
   local errors = summary.errors
   io.write(string.format('{"requests":%d,"microseconds":%d,"failed":%d}\n', summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
