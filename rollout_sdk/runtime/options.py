"""The options of a runtime: what they are converted to, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.telemetry.settings import Telemetry

__all__ = ["as_key", "as_places", "as_plugins", "check"]

_LONGEST_KEY = 64


def as_key(value: str | bytes | None) -> bytes | None:
    """Return the bytes of a key, which must not be empty or too long."""
    if value is None:
        return None
    # With the original bytes of the environment.
    key = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    if not 0 < len(key) <= _LONGEST_KEY:
        raise ConfigurationError(
            f"The runtime's key has {len(key)} bytes. A key has 1 to {_LONGEST_KEY}. "
            "Make one with: python -c 'import secrets; print(secrets.token_hex(16))'"
        )
    return key


def as_plugins(plugins: Sequence[object]) -> tuple[object, ...]:
    """Return a list of plugins as a tuple."""
    # A string would pass as a sequence of letters.
    if isinstance(plugins, str):
        raise ConfigurationError(
            f"plugins={plugins!r:.60} of Runtime is not a list. It lists plugins, or names of installed ones. "
            "Write plugins=[...]."
        )
    return tuple(plugins)


def as_places(places: Sequence[str]) -> tuple[str, ...]:
    """Return places of context variables as a tuple."""
    # A string is a single place.
    return (places,) if isinstance(places, str) else tuple(places)


def check(durability: str, telemetry: Telemetry, key: bytes | None, exit_deadline_s: Any) -> None:
    """Refuse options that contradict each other, or that do not exist.

    Raises:
        ConfigurationError: The durability is unknown, the exit deadline is not a time, or units are to be hashed without a key.
    """
    is_number = isinstance(exit_deadline_s, int | float) and not isinstance(exit_deadline_s, bool)
    if not is_number or not 0 <= exit_deadline_s < math.inf:
        raise ConfigurationError(
            f"exit_deadline_s={exit_deadline_s!r:.60} of Runtime is not a time. It is a finite number of seconds, 0 or more, "
            "that the exit of the process may wait. Write exit_deadline_s=1.0."
        )
    if durability not in ("flush", "call"):
        raise ConfigurationError(
            f"durability={durability!r:.60} of Runtime is unknown. It must be 'flush' or 'call'. See Runtime."
        )
    if telemetry.unit_id == "hash" and key is None:
        raise ConfigurationError(
            "Telemetry(unit_id='hash') needs a key, and Runtime has none. A hash without a key is undone by trying ids: "
            "set ROLLOUT_KEY or Runtime(key=...), or leave the unit out."
        )
