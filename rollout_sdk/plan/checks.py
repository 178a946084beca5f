"""Validators and converters of the plan's options, and their messages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

from attrs import Attribute

from rollout_sdk.exceptions import ConfigurationError

__all__ = [
    "Duration",
    "as_burst",
    "as_clip",
    "as_duration",
    "as_grace",
    "as_horizon",
    "as_window",
    "check_choice",
    "check_flag",
    "check_metric",
    "check_number",
    "parse_duration",
]

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


_LONGEST_METRIC = 128


def check_metric(owner: Any, _: Attribute[str], metric: object) -> None:
    """Refuse a metric without a usable name."""
    if not (isinstance(metric, str) and 0 < len(metric) <= _LONGEST_METRIC and metric.isprintable()):
        raise ConfigurationError(
            f"{type(owner).__name__} has the metric {metric!r:.60}. A metric is a printable text of 1 to {_LONGEST_METRIC} "
            "characters. Write 'click'."
        )


def check_number(owner: Any, attribute: Attribute[Any], value: object) -> None:
    """Refuse what is not a finite number; None is left to the metric."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigurationError(
            f"{attribute.name}={value!r:.60} of {type(owner).__name__}({owner.metric!r:.40}) is not a number. "
            "It is a finite number in the metric's own unit. Write 0.01."
        )


def check_choice(*choices: str) -> Any:
    """A validator that refuses every other value."""

    def check(owner: Any, attribute: Attribute[Any], value: object) -> None:
        if value not in choices:
            raise ConfigurationError(
                f"{attribute.name}={value!r:.40} of {type(owner).__name__}({owner.metric!r:.40}) is unknown. "
                f"It must be {' or '.join(map(repr, choices))}."
            )

    return check


def check_flag(owner: Any, attribute: Attribute[Any], value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{attribute.name}={value!r:.40} of {type(owner).__name__}({owner.metric!r:.40}) is neither True nor False."
        )


def as_clip(value: Any) -> tuple[float, float] | None:
    """Bounds for values, or None."""
    if value is None:
        return None
    low, high = value if isinstance(value, Sequence) and len(value) == 2 and not isinstance(value, str) else (1, 0)
    if not all(isinstance(end, Real) and not isinstance(end, bool) for end in (low, high)) or not low < high:
        raise ConfigurationError(
            f"clip={value!r:.60} is not a range. Values are moved into it before they are summed, so that one outlier decides "
            "nothing. Write clip=(0, 100)."
        )
    return float(low), float(high)


def as_window(value: Duration) -> float:
    """Seconds of an attribution window."""
    return parse_duration(value, "window")


def as_grace(value: Duration) -> float:
    """Seconds without data that are nothing to report."""
    return parse_duration(value, "grace")


def as_burst(value: Duration | None) -> float | None:
    """Seconds in which the errors of one arm count once; None leaves it to the share."""
    return None if value is None else parse_duration(value, "burst")


def as_horizon(value: Any) -> int | float | None:
    """A planned end: a number of units (int), or seconds (float) of a duration; None plans none."""
    if value is None:
        return None
    if isinstance(value, str):
        return float(parse_duration(value, "horizon"))
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ConfigurationError(
            f"horizon={value!r:.40} is neither a number of units nor a duration. It says when a planned test ends. "
            "Write horizon=20000 or horizon='14d'."
        )
    return int(value) if isinstance(value, Integral) else float(value)
