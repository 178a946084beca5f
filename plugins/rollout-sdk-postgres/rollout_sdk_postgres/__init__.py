"""Postgres for rollout_sdk: the state of rollouts, shared by many machines."""

from __future__ import annotations

from rollout_sdk_postgres.store import PostgresStore

__all__ = ["PostgresStore", "rollout_open_store"]


def rollout_open_store(url: str) -> PostgresStore:
    """Return the store at an address: `postgresql://` or `postgres://`.

    Raises:
        ConfigurationError: The address is not valid.
    """
    return PostgresStore(url)
