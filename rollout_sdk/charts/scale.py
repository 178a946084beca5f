"""From values to positions, and the values worth a tick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import frozen

__all__ = ["Scale", "log_ticks", "spread", "ticks", "time_ticks"]

_DAY_S, _MINUTE_S = 86_400.0, 60.0
_TIME_STEPS_S = (
    1,
    5,
    15,
    60,
    300,
    900,
    1_800,
    3_600,
    10_800,
    21_600,
    43_200,
    *(day * 86_400 for day in (1, 2, 7, 14, 28, 91, 182, 364)),
)


@frozen
class Scale:
    """A linear scale.

    Attributes:
        low: The value at `start`.
        high: The value at `end`.
        start: Position of the lowest value, in user units of the SVG.
        end: Position of the highest.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The position of a value; what lies outside is drawn at the border."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.low <= value <= self.high


def spread(values: Sequence[float], *, around: Sequence[float] = (), share: float = 0.06) -> tuple[float, float]:
    """The lowest and the highest finite value, with some room on both sides; `around` are values that must be seen too."""
    finite = [value for value in (*values, *around) if math.isfinite(value) and abs(value) < 1e300]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values between two others: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    found = [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]
    # Where few numbers are between the two, the next number to a multiple can be outside.
    slack = (high - low) * 1e-9
    return [each for each in found if low - slack <= each <= high + slack] or [low]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` powers of ten between two values, as exponents."""
    first, last = math.floor(low), math.ceil(high)
    step = max(1, math.ceil((last - first) / count))
    return [float(each) for each in range(first, last + 1) if each % step == 0 and low <= each <= high]


def time_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """About `count` round times between two others, in seconds since 1970, with their names in UTC."""
    length = high - low
    step = next((each for each in _TIME_STEPS_S if each * count >= length), _TIME_STEPS_S[-1] * max(1, int(length / 3e8)))
    first = math.ceil(low / step)
    found = [number * float(step) for number in range(first, math.floor(high / step) + 1)]
    return [(each, _clock(each, step)) for each in found] or [(low, _clock(low, 60))]


def _clock(seconds: float, step: float) -> str:
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    # A year outside the calendar.
    except (OverflowError, ValueError, OSError):
        return ""
    is_midnight = not seconds % _DAY_S
    if step >= _DAY_S or is_midnight:
        return f"{at.day} {at:%b}"
    return f"{at:%H:%M}" if step >= _MINUTE_S else f"{at:%H:%M:%S}"
