"""The lines of a journal in order, with every outcome of a unit as one of a call: the unit's last one before it.

A judge counts outcomes by call. Which call an outcome of a unit goes to, only the whole journal tells: the unit may have been
served by another process, and an import writes its outcomes days later, into a file that is read before the calls.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush
from typing import Any, NamedTuple, TypeAlias

from rollout_sdk.analysis.facts import in_order
from rollout_sdk.journal import Journal

__all__ = ["in_order_by_call"]

_Record: TypeAlias = dict[str, Any]

_COMMON = frozenset({"event", "rollout", "metric", "unit", "fingerprint", "seen_by"})
"""Fields whose texts are those of many outcomes."""


class _Call(NamedTuple):
    """A call of a unit; of several at one time, the last in this order is the last one, as in the report's tables."""

    time_s: float
    fingerprint: str
    phase: str
    variant: str
    is_excluded: bool
    bucket: int
    decision: str
    rate: float


class _Calls:
    """The calls of the units that have outcomes of their own."""

    def __init__(self, journal: Journal, key: str | None) -> None:
        """Read the journal for such outcomes, and only if there are some, for the calls."""
        self._of: dict[tuple[str, str], list[_Call]] = {}
        for record in journal.only("outcome", having="unit"):
            if key in (None, record["rollout"]) and _is_of_unit(record):
                self._of[record["rollout"], record["unit"]] = []
        for record in journal.only("decision") if self._of else ():
            if (calls := self._of_unit(record)) is not None:
                calls.append(_call(record))
        for calls in self._of.values():
            calls.sort()

    def __bool__(self) -> bool:
        return bool(self._of)

    def _of_unit(self, record: Mapping[str, Any]) -> list[_Call] | None:
        unit = record.get("unit")
        return None if unit is None else self._of.get((record["rollout"], unit))

    def of(self, record: Mapping[str, Any]) -> bool:
        """Whether outcomes may go to a call."""
        return self._of_unit(record) is not None

    def call_of(self, record: Mapping[str, Any]) -> _Call | None:
        """The unit's last call before an outcome; None if there is none."""
        calls = self._of_unit(record) or []
        index = bisect_right(calls, record["t"], key=lambda call: call.time_s) - 1
        return calls[index] if index >= 0 else None


def _joined(record: _Record, call: _Call | None) -> _Record:
    """The outcome of a unit as an outcome of a call; without a call if there is none."""
    if call is None:
        return {**record, "unit": None}
    return {
        **record,
        "id": call.decision,
        "phase": call.phase,
        "variant": call.variant,
        "bucket": call.bucket,
        "decided": call.time_s,
        "excluded": call.is_excluded,
        "fingerprint": call.fingerprint,
        "call_rate": call.rate,
    }


class _Packed(NamedTuple):
    """An outcome that waits, in a fifth of the memory that its line takes: all of an import wait at once.

    It is sorted by its time, and then by when it came.
    """

    time_s: float
    number: int
    names: tuple[str, ...]
    values: tuple[Any, ...]
    call: _Call


class _Packing:
    """Packs outcomes; what many of them have in common is in memory once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._texts: dict[str, str] = {}

    def packed(self, record: _Record, number: int, call: _Call) -> _Packed:
        names = tuple(record)
        texts = self._texts
        values = tuple(texts.setdefault(value, value) if name in _COMMON else value for name, value in record.items())
        return _Packed(record["t"], number, self._names.setdefault(names, names), values, call)


def _unpacked(packed: _Packed, seen_s: float) -> _Record:
    record = _joined(dict(zip(packed.names, packed.values, strict=True)), packed.call)
    record["seen_s"] = seen_s
    return record


def _is_of_unit(record: Mapping[str, Any]) -> bool:
    """Whether an outcome names a unit, and no call."""
    return not isinstance(record.get("id"), str) and isinstance(record.get("unit"), str)


def _call(record: Mapping[str, Any]) -> _Call:
    return _Call(
        record.get("t", 0.0),
        record.get("fingerprint", ""),
        record["phase"],
        record["variant"],
        bool(record.get("excluded")),
        record.get("bucket", 0),
        record["id"],
        record.get("rate", 1.0),
    )


def in_order_by_call(
    journal: Journal, key: str | None, progress: Callable[[int, int], None] | None = None
) -> Iterator[dict[str, Any]]:
    """The lines as `in_order` gives them, with the outcomes of units as outcomes of calls.

    Such an outcome comes where its line is; if its call comes later, it comes after the call, at the time of the outcome. One
    without an earlier call is of nothing known.

    Args:
        journal: The journal; without outcomes of units, it is read once, and outcomes of calls are not decoded twice.
        key: Key of the rollout; None: all.
        progress: Called with the bytes read so far, and with how many there are.
    """
    calls = _Calls(journal, key)
    lines = in_order(journal, key, progress)
    return _by_call(lines, calls) if calls else lines


def _by_call(lines: Iterator[_Record], calls: _Calls) -> Iterator[_Record]:
    came: set[str] = set()
    awaiting: dict[str, list[_Packed]] = defaultdict(list)
    due: list[_Packed] = []
    packing = _Packing()
    seen_s, number = 0.0, 0
    for record in lines:
        while due and due[0].time_s <= record["seen_s"]:
            outcome = heappop(due)
            seen_s = max(seen_s, outcome.time_s)
            yield _unpacked(outcome, seen_s)
        seen_s = record["seen_s"]
        if record["event"] == "outcome" and _is_of_unit(record):
            call = calls.call_of(record)
            if call is None or call.decision in came:
                yield _joined(record, call)
            else:
                awaiting[call.decision].append(packing.packed(record, 0, call))
            continue
        yield record
        if record["event"] == "decision" and calls.of(record):
            came.add(record["id"])
            for each in awaiting.pop(record["id"], ()):
                number += 1
                heappush(due, each._replace(number=number))
    for outcome in sorted(due):
        yield _unpacked(outcome, seen_s)
