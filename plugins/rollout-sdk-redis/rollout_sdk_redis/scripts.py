"""The scripts that run in the server, each atomically.

All keys of a namespace have one hash tag, and each script names all keys that it uses, so that it runs in a cluster. Revisions
and epochs are compared as texts, or as floating-point numbers up to 2**53 - 1, which are exact.
"""

from __future__ import annotations

__all__ = ["CHECK", "CLAIM", "GATHER", "HISTORY", "KEYS", "LAYOUT", "LOAD", "NOTE", "NOTED", "PUBLISH", "SWAP", "TOO_NEW"]

LAYOUT = 1
"""The version of what keys there are and what is in them."""

TOO_NEW = "LAYOUT "
"""How the error begins that every script returns, with the version that it found, if a later version has written the keys."""

CHECK = f"""
local layout, known = redis.call('GET', KEYS[1]), '{LAYOUT}'
if layout and layout ~= known then return redis.error_reply('{TOO_NEW}' .. layout) end
"""
"""What each script begins with: a check before it would miss what comes between. Early processes have set no version."""

# Returns 1: done; 0: another swap came first; otherwise the stored epoch, which a document's epoch must not be below.
SWAP = """
local stored = redis.call('HMGET', KEYS[3], 'revision', 'epoch')
if (stored[1] or '') ~= ARGV[1] then return 0 end
if stored[2] and tonumber(ARGV[3]) < tonumber(stored[2]) then return stored[2] end
redis.call('HSET', KEYS[3], 'revision', ARGV[2], 'epoch', ARGV[3], 'document', ARGV[4])
if not layout then redis.call('SET', KEYS[1], known) end
redis.call('RPUSH', KEYS[4], ARGV[5])
redis.call('SADD', KEYS[2], ARGV[6])
if stored[2] ~= ARGV[3] then redis.call('DEL', KEYS[5], KEYS[6], KEYS[7], KEYS[8]) end
-- A user that may not publish can still swap: other processes see it at their next poll.
redis.pcall('PUBLISH', ARGV[7], ARGV[6])
return 1
"""

# The time of sending precedes each text: a publication that was sent earlier and arrives later, over another connection after
# the server was frozen, changes nothing. The cursor follows the clock, so that cursors from before a loss or a restore are
# behind later ones.
PUBLISH = """
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return 0 end
local cursor
for place = 3, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[3], ARGV[place]) or '0 '
  local space = string.find(old, ' ', 1, true)
  local is_new = tonumber(string.sub(old, 1, space - 1)) <= tonumber(ARGV[2])
  if is_new and (space == 2 or string.sub(old, space + 1) ~= ARGV[place + 1]) then
    if not cursor then
      local now = redis.call('TIME')
      local last = tonumber(redis.call('HGET', KEYS[2], 'cursor') or 0)
      cursor = string.format('%.0f', math.max(now[1] * 1000000 + now[2], last + 1))
      redis.call('HSET', KEYS[2], 'cursor', cursor)
    end
    redis.call('HSET', KEYS[3], ARGV[place], ARGV[2] .. ' ' .. ARGV[place + 1])
    redis.call('ZADD', KEYS[4], cursor, ARGV[place])
  elseif is_new then
    redis.call('HSET', KEYS[3], ARGV[place], ARGV[2] .. ' ' .. ARGV[place + 1])
  end
end
return 1
"""

# A cursor that is ahead belongs to another store: returning a part twice is better than never.
GATHER = """
local stored = redis.call('HMGET', KEYS[2], 'epoch', 'cursor')
local cursor = stored[2] or '0'
local found = {cursor}
if stored[1] ~= ARGV[1] then return found end
local after = ARGV[2]
if tonumber(after) > tonumber(cursor) then after = '0' end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. after, '+inf')) do
  found[#found + 1] = name
  found[#found + 1] = redis.call('HGET', KEYS[3], name)
end
return found
"""

CLAIM = """
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return {} end
local own = {}
for place = 4, #ARGV do
  local is_new = redis.call('HSETNX', KEYS[3], ARGV[place], ARGV[2])
  if is_new == 1 then redis.call('RPUSH', KEYS[4], ARGV[place]) end
  if is_new == 1 or redis.call('HGET', KEYS[3], ARGV[place]) == ARGV[2] then own[#own + 1] = ARGV[place] end
end
for _ = 1, redis.call('LLEN', KEYS[4]) - tonumber(ARGV[3]) do redis.call('HDEL', KEYS[3], redis.call('LPOP', KEYS[4])) end
return own
"""

LOAD = "return redis.call('HMGET', KEYS[2], 'revision', 'document')"

HISTORY = "return redis.call('LRANGE', KEYS[2], 0, -1)"

KEYS = "return redis.call('SMEMBERS', KEYS[2])"

NOTE = "return redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])"

NOTED = "return redis.call('HGET', KEYS[2], ARGV[1])"
