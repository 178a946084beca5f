"""`Disagreements`: which pairs of answers are kept for people to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Disagreements"]

_DAY_S = 86_400.0
_PERIODS = {"hour": 3_600.0, "day": _DAY_S, "week": 7 * _DAY_S}


def _number(owner: Any, attribute: Any, value: Any) -> None:
    is_whole = attribute.name != "max_age_s"
    if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float) or not value >= 1:
        kind = "whole number" if is_whole else "number"
        raise ConfigurationError(
            f"{attribute.name}={value!r:.40} of {type(owner).__name__} is not a {kind} of at least 1. "
            "Write keep=Disagreements(50, redact=...)."
        )


def _function(owner: Any, attribute: Any, value: Any) -> None:  # noqa: ARG001
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"redact={value!r:.60} of Disagreements is not callable. It is a function of what is kept, and returns what may be "
            "kept of it. Write redact=lambda value: ..., or redact=None if nothing of it is confidential."
        )


def _known_period(owner: Any, attribute: Any, value: Any) -> None:  # noqa: ARG001
    if value is not None and value not in _PERIODS:
        raise ConfigurationError(
            f"per={value!r:.40} of Disagreements is not one of {', '.join(_PERIODS)}. Write keep=Disagreements(50, per='day', "
            "redact=...)."
        )


@frozen
class Disagreements:
    """Keeps a random sample of the pairs that do not match, with the calls' arguments, for people to look at.

    Where `judge.preference` decides, it also keeps as many of the pairs that are drawn for people to compare, which
    `rollout audit KEY` asks about.

    Everything else that the SDK writes is without payloads; this is not, so nothing is kept without `keep=`. The pairs are in
    the journal's folder, in a file for each process that its user alone can read (mode 0600). `rollout disagreements KEY` shows
    them, without telling which answer is whose.

    Attributes:
        most: Number of pairs that are kept: a uniform sample of all that the processes with the same journal folder have seen,
            or that they have seen in each period. People are asked for that many labels, all together.
        per: The period, of UTC: "hour", "day" or "week"; None: as long as pairs are kept (`max_age_s`). With "day", people get
            that many new pairs a day.
        redact: Called with the arguments (a mapping of names), and with each of the two answers; what it returns is kept. None
            keeps everything as it is.
        max_bytes: Size of a process's file, one for each period; longer answers are cut.
        max_age_s: Seconds after which a pair is no longer shown, and is deleted at the next opportunity.
    """

    most: int = field(default=50, validator=_number)
    redact: Callable[[Any], Any] | None = field(kw_only=True, validator=_function)
    per: Literal["hour", "day", "week"] | None = field(default=None, kw_only=True, validator=_known_period)
    max_bytes: int = field(default=1 << 20, kw_only=True, validator=_number)
    max_age_s: float = field(default=30 * _DAY_S, kw_only=True, validator=_number)

    @property
    def period_s(self) -> float | None:
        """The period in seconds; None without one."""
        return None if self.per is None else _PERIODS[self.per]
