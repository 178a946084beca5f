"""What can be done about an error of Redis."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["cure_of"]

# Subclasses first.
_CURES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((AuthenticationError,), "Correct the user and the password in its address."),
    ((NoPermissionError,), "Give its user the keys, channel and commands that the README of rollout-sdk-redis lists."),
    ((ReadOnlyError,), "It is a replica. Name the master, or its Sentinels: redis+sentinel://host:26379/name-of-the-master."),
    ((RedisTimeoutError, RedisConnectionError, OSError), "See to the server, the network and the address; it is asked again."),
    ((ResponseError, RedisError), "See to the server's log and its memory."),
)


def cure_of(error: Exception) -> str:
    """What to do about an error, in one sentence."""
    for kinds, cure in _CURES:
        if isinstance(error, kinds):
            return cure
    return "What is stored there was written by something else, or is damaged. Correct the address or the namespace."
