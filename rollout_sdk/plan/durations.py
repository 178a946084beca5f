"""Durations as people write them: "30m", "2d", or a number of seconds."""

from __future__ import annotations

import math
import re
from numbers import Real
from typing import TypeAlias

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Duration", "as_duration", "parse_duration"]

Duration: TypeAlias = float | str
"""A number of seconds, or a text such as "90s", "30m", "1h 30m", "2d", "1w"."""

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])\s*")


def parse_duration(value: object, subject: str = "duration") -> float:
    """A duration in seconds.

    Raises:
        ConfigurationError: It is neither a number of seconds from 0 on nor such a text.
    """
    seconds = None
    if isinstance(value, str):
        text = value.strip().lower()
        if text and not _PART.sub("", text):
            seconds = math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    elif not isinstance(value, bool) and isinstance(value, Real):
        seconds = float(value)
    if seconds is None or not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigurationError(
            f"The {subject} is {value!r:.60}. A duration is a number of seconds, or a number with s, m, h, d or w. "
            "Write 1800 or '30m'."
        )
    return seconds + 0.0


def as_duration(seconds: float) -> str:
    """Seconds as a text: 5400 is "1h 30m"."""
    if seconds < 1:
        return f"{seconds:.3g}s"
    left, parts = round(seconds), []
    for unit in ("w", "d", "h", "m", "s"):
        number, left = divmod(left, _SECONDS[unit])
        if number:
            parts.append(f"{number}{unit}")
    # Two units say enough to a person.
    return " ".join(parts[:2]) or "0s"
