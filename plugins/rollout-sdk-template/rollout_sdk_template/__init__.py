"""A strategy, a store and an observer, to copy and change."""

from __future__ import annotations

from collections.abc import Mapping

from rollout_sdk_template.observer import Failures
from rollout_sdk_template.store import JSONFileStore
from rollout_sdk_template.strategy import OnlyFor

__all__ = ["Failures", "JSONFileStore", "OnlyFor", "rollout_open_store", "rollout_strategies"]


def rollout_strategies() -> Mapping[str, type]:
    """Return the strategy by its entry-point name: `strategy="template"`."""
    return {"template": OnlyFor}


def rollout_open_store(url: str) -> JSONFileStore | None:
    """Return the store at an address such as `template:///var/lib/app/rollouts.json`."""
    _, separator, path = url.partition("://")
    return JSONFileStore(path) if separator and path else None
