"""How Valkey counts: a window of a minute in slots of a quarter of a second, one hash for each limit."""

SLOT_MS = 250
SLOTS = 240  # a minute of them

WINDOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local slot = math.floor(now / 250)
local first = slot - 240
local function numbers(text)
  local r, i, o = string.match(text, '(%-?%d+) (%-?%d+) (%-?%d+)')
  return {tonumber(r), tonumber(i), tonumber(o)}
end
local function text(n) return string.format('%d %d %d', n[1], n[2], n[3]) end
local function window(key)
  local got = redis.call('HMGET', key, 'from', 'sum', 'last')
  if not got[1] then return {0, 0, 0}, slot, slot end
  local from, sum, last = tonumber(got[1]), numbers(got[2]), tonumber(got[3])
  if last < first then
    redis.call('DEL', key)
    return {0, 0, 0}, slot, slot
  end
  if from < first then
    local old = {}
    for s = from, first - 1 do old[#old + 1] = s end
    for _, value in ipairs(redis.call('HMGET', key, unpack(old))) do
      if value then
        local n = numbers(value)
        for m = 1, 3 do sum[m] = sum[m] - n[m] end
      end
    end
    redis.call('HDEL', key, unpack(old))
    redis.call('HSET', key, 'from', first, 'sum', text(sum))
    from = first
  end
  return sum, from, last
end
"""
# KEYS: the reservation, then window and leases of each limit. ARGV: holder, requests, input and output tokens, seconds of
# the lease, then of each limit its four figures, -1 where there is none.
TAKE = (
    WINDOW
    + """
local asked = {tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])}
local lease = tonumber(ARGV[5])
local count = (#KEYS - 1) / 2
local sums, froms, lasts, busy = {}, {}, {}, {}
local refused, metric, wait = 0, 0, -1
for n = 1, count do
  local key, leases, at = KEYS[2 * n], KEYS[2 * n + 1], 5 + 4 * (n - 1)
  sums[n], froms[n], lasts[n] = window(key)
  local most = tonumber(ARGV[at + 4])
  busy[n] = 0
  if most >= 0 then
    redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
    busy[n] = redis.call('ZCARD', leases)
  end
  if asked[1] > 0 then
    for m = 1, 3 do
      local limit = tonumber(ARGV[at + m])
      local over = sums[n][m] + asked[m] - limit
      if limit >= 0 and asked[m] > 0 and over > 0 then
        local after = 1e12
        if asked[m] <= limit then
          for s = froms[n], slot do
            local value = redis.call('HGET', key, s)
            if value then over = over - numbers(value)[m] end
            if over <= 0 then
              after = (s + 241) * 250 - now
              break
            end
          end
        end
        if after > wait then refused, metric, wait = n, m, after end
      end
    end
    if lease > 0 and most >= 0 and busy[n] >= most and wait < 1000 then refused, metric, wait = n, 4, 1000 end
  end
end
if refused == 0 and asked[1] > 0 then
  local kept = {slot, asked[2], asked[3]}
  for n = 1, count do
    local key, leases = KEYS[2 * n], KEYS[2 * n + 1]
    local here = numbers(redis.call('HGET', key, slot) or '0 0 0')
    for m = 1, 3 do
      here[m] = here[m] + asked[m]
      sums[n][m] = sums[n][m] + asked[m]
    end
    redis.call('HSET', key, slot, text(here), 'sum', text(sums[n]), 'from', froms[n], 'last', slot)
    redis.call('PEXPIRE', key, 61000)
    lasts[n] = slot
    if lease > 0 and tonumber(ARGV[9 + 4 * (n - 1)]) >= 0 then
      redis.call('ZADD', leases, now + lease * 1000, ARGV[1])
      redis.call('EXPIRE', leases, lease)
      busy[n] = busy[n] + 1
    end
    kept[#kept + 1] = key
  end
  redis.call('SET', KEYS[1], table.concat(kept, ' '), 'PX', 61000)
end
local answer = {refused, metric, wait}
for n = 1, count do
  local sum = sums[n]
  local used = sum[1] + sum[2] + sum[3] > 0
  for _, value in ipairs({sum[1], sum[2], sum[3], used and (lasts[n] + 241) * 250 - now or 0, busy[n]}) do
    answer[#answer + 1] = value
  end
end
return answer
"""
)
# KEYS: the reservation. ARGV: requests to give back, input and output tokens that were used.
CORRECT = (
    WINDOW
    + """
local kept = redis.call('GETDEL', KEYS[1])
if not kept then return 0 end
local parts = {}
for part in string.gmatch(kept, '%S+') do parts[#parts + 1] = part end
local back = {tonumber(ARGV[1]), tonumber(parts[2]) - tonumber(ARGV[2]), tonumber(parts[3]) - tonumber(ARGV[3])}
for n = 4, #parts do
  local sum = window(parts[n])
  local value = redis.call('HGET', parts[n], parts[1])
  if value then
    local here = numbers(value)
    for m = 1, 3 do
      here[m] = here[m] - back[m]
      sum[m] = sum[m] - back[m]
    end
    redis.call('HSET', parts[n], parts[1], text(here), 'sum', text(sum))
  end
end
return 1
"""
)
