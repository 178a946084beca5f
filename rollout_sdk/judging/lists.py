"""Interleaved lists, kept until their clicks have come: which ranker each of them prefers.

Only the last lists are kept. A click on an older one is counted as unknown.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from attrs import define, field

__all__ = ["LISTS", "Lists", "Page"]

LISTS = "lists"
"""Label of the number of lists, by candidate; no metric of a list may have this label."""

_MOST_LISTS = 20_000


class _Two(Protocol):
    """A list, seen as one of two rankers."""

    @property
    def is_won_fairly(self) -> bool:
        """Whether equal rankers win equally many lists."""

    def preference(self, clicks: Mapping[Any, float]) -> float:
        """Return 1 if the candidate wins, -1 if the control does, 0 for a tie; or something between."""


class Page(Protocol):
    """An interleaved list; see `rollout_sdk.interleaving.Interleaved`."""

    @property
    def keys(self) -> Sequence[Any]:
        """Keys of the shown items, in order."""

    def between(self, control: str, candidate: str) -> _Two:
        """Return the list as one of two rankers."""


@define
class _List:
    phase: str
    bucket: int
    time_s: float
    page: Page
    clicks: dict[str, dict[Any, float]] = field(factory=dict)
    preferred: dict[tuple[str, str], float] = field(factory=dict)


@define(eq=False)
class Lists:
    """The last interleaved lists of a rollout.

    Attributes:
        control: Name of the control.
        candidates: Names of the candidates.
        won: Number of lists by (phase, metric, candidate, 1 if the candidate wins or -1 if the control does).
        unfair: (phase, candidate) with a clicked list that equal rankers would not win equally often.
    """

    control: str = ""
    candidates: tuple[str, ...] = ()
    won: Counter[tuple[str, str, str, int]] = field(factory=Counter)
    unfair: set[tuple[str, str]] = field(factory=set)
    _kept: OrderedDict[str, _List] = field(factory=OrderedDict)

    def add(self, decision: str, page: Page, blend: Sequence[str], phase: str, bucket: int, time_s: float) -> None:
        """Keep a list.

        Args:
            decision: Id of the decision.
            page: The list.
            blend: The rankers, the control first.
            phase: Phase of the decision.
            bucket: Bucket of the unit.
            time_s: Time of the decision.
        """
        self.control, *others = blend
        self.candidates = tuple(others)
        self._kept[decision] = _List(phase, bucket, time_s, page)
        if len(self._kept) > _MOST_LISTS:
            self._kept.popitem(last=False)

    def clicked(
        self, decision: str, metric: str, named: str | int | None, value: float
    ) -> Iterator[tuple[str, str, int, float, float]] | None:
        """Credit a click; for every candidate, what that changes: phase, candidate, bucket, half the change, time.

        None if the list is not known, or the item was not on it.
        """
        kept = self._kept.get(decision)
        if kept is None or named is None:
            return None
        keys = kept.page.keys
        item = (keys[named] if named < len(keys) else None) if isinstance(named, int) else named
        if item is None or item not in keys:
            return None
        clicks = kept.clicks.setdefault(metric, {})
        clicks[item] = clicks.get(item, 0.0) + value
        return self._changes(kept, metric, clicks)

    def _changes(self, kept: _List, metric: str, clicks: Mapping[Any, float]) -> Iterator[tuple[str, str, int, float, float]]:
        for candidate in self.candidates:
            # Half of it, because a preference runs from -1/2 to 1/2 (Chapelle et al., TOIS 2012).
            two = kept.page.between(self.control, candidate)
            now, before = two.preference(clicks) / 2, kept.preferred.get((metric, candidate), 0.0)
            kept.preferred[metric, candidate] = now
            if not two.is_won_fairly:
                self.unfair.add((kept.phase, candidate))
            if now != before:
                for value, step in ((before, -1), (now, 1)):
                    if value:
                        self.won[kept.phase, metric, candidate, 1 if value > 0 else -1] += step
                yield kept.phase, candidate, kept.bucket, now - before, kept.time_s
