"""Validators and converters of the plan's options, with their error messages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

from attrs import Attribute

from rollout_sdk.exceptions import ConfigurationError

__all__ = [
    "OTHER",
    "Duration",
    "as_burst",
    "as_clip",
    "as_duration",
    "as_grace",
    "as_horizon",
    "as_segments",
    "as_window",
    "check_choice",
    "check_flag",
    "check_metric",
    "check_number",
    "parse_duration",
]

Duration: TypeAlias = float | str
"""A number of seconds, or text such as "90s", "30m", "1h 30m", "2d", "1w"."""

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])\s*")


def parse_duration(value: object, subject: str = "duration") -> float:
    """Parse a duration as seconds.

    Raises:
        ConfigurationError: The value is neither a number of seconds of at least 0 nor such text.
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
    """Format seconds: 5400 is "1h 30m"."""
    if seconds < 1:
        return f"{seconds:.3g}s"
    left, parts = round(seconds), []
    for unit in ("w", "d", "h", "m", "s"):
        number, left = divmod(left, _SECONDS[unit])
        if number:
            parts.append(f"{number}{unit}")
    # Two units are precise enough for people.
    return " ".join(parts[:2]) or "0s"


_LONGEST_METRIC = 128


def check_metric(owner: Any, _: Attribute[str], metric: object) -> None:
    """Reject a metric without a usable name."""
    if not (isinstance(metric, str) and 0 < len(metric) <= _LONGEST_METRIC and metric.isprintable()):
        raise ConfigurationError(
            f"{type(owner).__name__} has the metric {metric!r:.60}. A metric is a printable text of 1 to {_LONGEST_METRIC} "
            "characters. Write 'click'."
        )


def check_number(owner: Any, attribute: Attribute[Any], value: object) -> None:
    """Reject values other than finite numbers; None means the metric's default."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigurationError(
            f"{attribute.name}={value!r:.60} of {type(owner).__name__}({owner.metric!r:.40}) is not a number. "
            "It is a finite number in the metric's own unit. Write 0.01."
        )


def check_choice(*choices: str) -> Any:
    """Return a validator that rejects all other values."""

    def check(owner: Any, attribute: Attribute[Any], value: object) -> None:
        if value not in choices:
            raise ConfigurationError(
                f"{attribute.name}={value!r:.40} of {type(owner).__name__}({owner.metric!r:.40}) is unknown. "
                f"It must be {' or '.join(map(repr, choices))}."
            )

    return check


def check_flag(owner: Any, attribute: Attribute[Any], value: object) -> None:
    """Reject values other than True and False."""
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{attribute.name}={value!r:.40} of {type(owner).__name__}({owner.metric!r:.40}) is neither True nor False."
        )


def as_clip(value: Any) -> tuple[float, float] | None:
    """Validate bounds for values, or None."""
    if value is None:
        return None
    low, high = value if isinstance(value, Sequence) and len(value) == 2 and not isinstance(value, str) else (1, 0)
    if not all(isinstance(end, Real) and not isinstance(end, bool) for end in (low, high)) or not low < high:
        raise ConfigurationError(
            f"clip={value!r:.60} is not a range. Values are moved into it before they are summed, so that no single outlier "
            "decides. Write clip=(0, 100)."
        )
    return float(low), float(high)


def as_window(value: Duration) -> float:
    """Parse an attribution window as seconds."""
    return parse_duration(value, "window")


def as_grace(value: Duration) -> float:
    """Parse a grace period without data as seconds."""
    return parse_duration(value, "grace")


def as_burst(value: Duration | None) -> float | None:
    """Parse the time in which errors of one arm count once, as seconds; None leaves it to the share."""
    return None if value is None else parse_duration(value, "burst")


def as_horizon(value: Any) -> int | float | None:
    """Parse a planned end: a number of units (int), or a duration in seconds (float); None for no planned end."""
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


_MOST_ATTRIBUTES, _MOST_SEGMENTS, _LONGEST_SEGMENT = 4, 20, 60
OTHER = "other"
"""Segment of the calls whose value is not listed."""


def as_segments(value: Any) -> dict[str, tuple[str, ...]]:
    """Validate the values by which each attribute is split, as texts; {} for none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > _MOST_ATTRIBUTES:
        raise ConfigurationError(
            f"segments={value!r:.80} does not list up to {_MOST_ATTRIBUTES} attributes with their values. Each further "
            "segment makes all of them less certain. Write segments={'country': ['NL', 'DE']}."
        )
    return {_attribute(name): _segments(name, values) for name, values in value.items()}


def _attribute(name: object) -> str:
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(
            f"segments= has the attribute {name!r:.60}, which is neither a parameter nor a path into one. "
            "Segments are read from the arguments of a call. Write 'country' or 'request.user.country'."
        )
    return name


def _segments(name: str, values: object) -> tuple[str, ...]:
    listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str | bytes) else []
    texts = tuple(str(each) for each in listed if isinstance(each, str | bool | Integral))
    fits = all(0 < len(text) <= _LONGEST_SEGMENT and text.isprintable() and text != OTHER for text in texts)
    if not 0 < len(listed) <= _MOST_SEGMENTS or len(set(texts)) < len(listed) or not fits:
        raise ConfigurationError(
            f"segments= has {values!r:.80} for {name!r}. It lists 1 to {_MOST_SEGMENTS} different texts, numbers or booleans; "
            f"calls with another value are {OTHER!r}. Write segments={{{name!r}: ['NL', 'DE']}}."
        )
    return texts
