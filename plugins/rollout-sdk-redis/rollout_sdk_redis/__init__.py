"""Redis for rollout_sdk: the state of rollouts, shared by many machines."""

from __future__ import annotations

from rollout_sdk_redis.store import RedisStore

__all__ = ["RedisStore", "rollout_open_store"]


def rollout_open_store(url: str) -> RedisStore:
    """Return the store at an address: `redis://`, `rediss://` (TLS), and both with `+sentinel` or `+cluster`.

    Raises:
        ConfigurationError: The address is not valid.
    """
    return RedisStore(url)
