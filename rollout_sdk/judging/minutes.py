"""The pace of one arm, minute by minute: what says that the control is failing right now, and when it was.

An outage hits both arms, and the ratio of two error rates is known best while everything fails. Nothing can be learnt from it,
so the judge must know when it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import define, field

__all__ = ["CALLS", "MINUTE_S", "Minutes"]

MINUTE_S = 60
CALLS = ""
"""Label under which the calls themselves are counted."""

_KEPT_MINUTES = 60
_MOST_TROUBLED = 1_000
_TROUBLED_SHARE = 0.2
_LEAST_CALLS = 20


@define
class Minutes:
    """Calls and events of one arm in one phase.

    Attributes:
        counts: By minute since 1970: calls (under the empty label) and events by label. The last hour is here, and of the
            control every minute in which more than a fifth of at least 20 calls had an event.
        before: The sum of all other minutes.
    """

    counts: dict[int, Counter[str]] = field(factory=dict)
    before: Counter[str] = field(factory=Counter)

    def merge(self, other: Minutes) -> None:
        """Add another process's."""
        self.before.update(other.before)
        for minute, counts in other.counts.items():
            self.counts.setdefault(minute, Counter()).update(counts)

    def fold(self, minute: int, *, keep_troubled: bool) -> None:
        """Add up what is older than an hour at this minute; of the control, its troubled minutes stay."""
        newest = max(self.counts, default=minute)
        old = [each for each in self.counts if each < min(newest, minute - _KEPT_MINUTES)]
        troubled = [each for each in old if _is_troubled(self.counts[each], _TROUBLED_SHARE)] if keep_troubled else []
        for each in {*old} - {*sorted(troubled)[-_MOST_TROUBLED:]}:
            self.before.update(self.counts.pop(each))

    def since(self, minute: int) -> Counter[str]:
        """Calls and events from this minute on."""
        found: Counter[str] = Counter()
        for each, counts in self.counts.items():
            if each >= minute:
                found.update(counts)
        return found

    def until(self, minute: int) -> Counter[str]:
        """Calls and events before this minute."""
        found = Counter(self.before)
        for each, counts in self.counts.items():
            if each < minute:
                found.update(counts)
        return found

    def outages(self, label: str, ceiling: float) -> frozenset[int]:
        """The minutes in which more than a share `ceiling` of at least 20 calls had this event."""
        return frozenset(minute for minute, counts in self.counts.items() if _is_troubled(counts, ceiling, label))

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        return {"counts": [[minute, dict(counts)] for minute, counts in self.counts.items()], "before": dict(self.before)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Minutes:
        """The minutes that `as_dict` wrote."""
        return cls({int(minute): Counter(counts) for minute, counts in table["counts"]}, Counter(table["before"]))


def _is_troubled(counts: Counter[str], share: float, label: str | None = None) -> bool:
    if counts[CALLS] < _LEAST_CALLS:
        # Fewer calls say nothing: one error among three would be an outage, and leave out the control's errors alone.
        return False
    events = max((number for name, number in counts.items() if name != CALLS), default=0) if label is None else counts[label]
    return events > share * counts[CALLS]
