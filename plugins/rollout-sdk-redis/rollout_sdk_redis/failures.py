"""Cures of Redis errors, for messages."""

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
    (
        (RedisTimeoutError, RedisConnectionError, OSError),
        "Check the server, the network and the address; the store is tried again.",
    ),
    ((ResponseError, RedisError), "Check the server's log and its memory."),
)


def cure_of(error: Exception) -> str:
    """Return what to do about an error, in one sentence."""
    for kinds, cure in _CURES:
        if isinstance(error, kinds):
            return cure
    return "The stored data was written by another program, or is damaged. Correct the address or the namespace."
