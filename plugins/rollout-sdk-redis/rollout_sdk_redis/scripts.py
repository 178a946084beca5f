"""The scripts that run in the server, each atomically.

All keys of a namespace have one hash tag, and each script names all keys that it uses, so that it runs in a cluster. Revisions
and epochs are compared as texts, or as floating-point numbers up to 2**53 - 1, which are exact.
"""

from __future__ import annotations

__all__ = ["CLAIM", "GATHER", "PUBLISH", "SWAP"]

# Returns 1: done; 0: another swap came first; otherwise the stored epoch, which a document's epoch must not be below.
SWAP = """
local stored = redis.call('HMGET', KEYS[2], 'revision', 'epoch')
if (stored[1] or '') ~= ARGV[1] then return 0 end
if stored[2] and tonumber(ARGV[3]) < tonumber(stored[2]) then return stored[2] end
redis.call('HSET', KEYS[2], 'revision', ARGV[2], 'epoch', ARGV[3], 'document', ARGV[4])
redis.call('RPUSH', KEYS[3], ARGV[5])
redis.call('SADD', KEYS[1], ARGV[6])
if stored[2] ~= ARGV[3] then redis.call('DEL', KEYS[4], KEYS[5], KEYS[6], KEYS[7]) end
-- A user that may not publish can still swap: other processes see it at their next poll.
redis.pcall('PUBLISH', ARGV[7], ARGV[6])
return 1
"""

# The time of sending precedes each text: a publication that was sent earlier and arrives later, over another connection after
# the server was frozen, changes nothing. The cursor follows the clock, so that cursors from before a loss or a restore are
# behind later ones.
PUBLISH = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local cursor
for place = 3, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[2], ARGV[place]) or '0 '
  local space = string.find(old, ' ', 1, true)
  local is_new = tonumber(string.sub(old, 1, space - 1)) <= tonumber(ARGV[2])
  if is_new and (space == 2 or string.sub(old, space + 1) ~= ARGV[place + 1]) then
    if not cursor then
      local now = redis.call('TIME')
      local last = tonumber(redis.call('HGET', KEYS[1], 'cursor') or 0)
      cursor = string.format('%.0f', math.max(now[1] * 1000000 + now[2], last + 1))
      redis.call('HSET', KEYS[1], 'cursor', cursor)
    end
    redis.call('HSET', KEYS[2], ARGV[place], ARGV[2] .. ' ' .. ARGV[place + 1])
    redis.call('ZADD', KEYS[3], cursor, ARGV[place])
  elseif is_new then
    redis.call('HSET', KEYS[2], ARGV[place], ARGV[2] .. ' ' .. ARGV[place + 1])
  end
end
return 1
"""

# A cursor that is ahead belongs to another store: returning a part twice is better than never.
GATHER = """
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'cursor')
local cursor = stored[2] or '0'
local found = {cursor}
if stored[1] ~= ARGV[1] then return found end
local after = ARGV[2]
if tonumber(after) > tonumber(cursor) then after = '0' end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. after, '+inf')) do
  found[#found + 1] = name
  found[#found + 1] = redis.call('HGET', KEYS[2], name)
end
return found
"""

CLAIM = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return {} end
local own = {}
for place = 4, #ARGV do
  local is_new = redis.call('HSETNX', KEYS[2], ARGV[place], ARGV[2])
  if is_new == 1 then redis.call('RPUSH', KEYS[3], ARGV[place]) end
  if is_new == 1 or redis.call('HGET', KEYS[2], ARGV[place]) == ARGV[2] then own[#own + 1] = ARGV[place] end
end
for _ = 1, redis.call('LLEN', KEYS[3]) - tonumber(ARGV[3]) do redis.call('HDEL', KEYS[2], redis.call('LPOP', KEYS[3])) end
return own
"""
