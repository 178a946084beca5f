"""A journal as the facts it was written from: one rollout's lines in order, and each line as the event it was."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import Factory, frozen

from rollout_sdk.analysis.early import Early
from rollout_sdk.journal import Journal
from rollout_sdk.journal.parts import writer_of
from rollout_sdk.judging import Evidence
from rollout_sdk.judging.ingest import add_call
from rollout_sdk.records import Comparison, Decision, RecordedEvent, RoutedEvent, Run, ShadowedEvent
from rollout_sdk.records.events import identity_of

__all__ = [
    "Read",
    "add_line",
    "add_outcome_line",
    "compared",
    "identity_in",
    "in_order",
    "recorded",
    "routed",
    "set_of",
    "shadowed",
    "stands_for",
]

_TELL_EVERY = 10_000
_TIMED = ("decision", "transition")


@frozen
class Read:
    """How far a journal was read.

    Attributes:
        seen_s: Time of the last line of each process.
        early: Outcomes that wait for their calls.
        served: Rollouts of which calls were read; outcomes of others wait until there are too many.
    """

    seen_s: dict[str, float] = Factory(dict)
    early: Early = Factory(Early)
    served: set[str] = Factory(set)


def stands_for(record: Mapping[str, Any]) -> int:
    """How many such lines there would be, had all been kept: rates are halves of halves, so that counts stay whole."""
    rate = record.get("rate")
    return 1 if rate is None else round(1 / rate)


def set_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Rollout and fingerprint of a line: the set of arms that it belongs to."""
    return record["rollout"], record.get("fingerprint", "")


def in_order(
    journal: Journal,
    key: str | None,
    progress: Callable[[int, int], None] | None,
    before: Read | None = None,
) -> Iterator[dict[str, Any]]:
    """The rollout's lines by time, of all processes (key None: those of all rollouts).

    Each process wrote its own in the order in which it saw them. Outcomes come after their calls, also of another process.

    Of a transition, every process that followed it wrote a line: only the first of them is given.

    `before` is what was read before of a journal that is read as it is written; it is kept up to date.
    """
    read = Read() if before is None else before
    known_s, early = read.seen_s, read.early
    processes: dict[str, list[Path]] = {}
    for path in journal.files:
        processes.setdefault(writer_of(path), []).append(path)
    total = 0 if progress is None else sum(map(journal.size, journal.files))
    journal.begin()

    def lines(process: str, number: int, paths: list[Path]) -> Iterator[tuple[float, int, int, dict[str, Any]]]:
        # Shadows and outcomes carry another time than that at which they were written.
        latest, count = known_s.get(process, 0.0), 0
        for record in (record for path in paths for record in journal.records_of(path)):
            if (rollout := record.get("rollout")) is not None and key in (None, rollout):
                if record["event"] in _TIMED:
                    latest = known_s[process] = max(latest, record.get("t", latest))
                count += 1
                record.setdefault("t", latest)
                if record["event"] == "outcome":
                    latest = known_s[process] = max(latest, early.not_before(record))
                record["seen_s"], record["seen_by"] = latest, process
                yield latest, number, count, record

    streams = [lines(process, number, paths) for number, (process, paths) in enumerate(processes.items())]
    seen: set[str] = set()
    for count, (_, _, _, record) in enumerate(heapq.merge(*streams)):
        if progress is not None and count % _TELL_EVERY == 0:
            # Of compressed files, more is read than there is.
            progress(min(journal.bytes, total), total)
        if record["event"] == "transition" and _was_seen(record, seen):
            continue
        if record["event"] == "outcome" and early.kept(record):
            yield from early.too_many()
            continue
        yield record
        if record["event"] == "decision":
            yield from early.came(record)
    yield from early.end(is_followed=before is not None, served=read.served)
    if progress is not None:
        progress(total, total)


def _was_seen(transition: Mapping[str, Any], seen: set[str]) -> bool:
    """Whether another process wrote of the same change."""
    change = transition.get("id")
    if change is None:
        return False
    is_known = change in seen
    seen.add(change)
    return is_known


def _decided(record: Mapping[str, Any]) -> Decision:
    return Decision(
        variant=record["variant"],
        id=record["id"],
        rollout=record["rollout"],
        phase=record["phase"],
        bucket=record.get("bucket", 0),
        # Only a shadow may have none.
        time_s=record.get("t", record.get("seen_s", 0.0)),
        fingerprint=record.get("fingerprint", ""),
    )


def routed(record: Mapping[str, Any]) -> RoutedEvent:
    """The call that a line tells of."""
    return RoutedEvent(
        decision=_decided(record),
        served=record["served"],
        runs=tuple(Run(*run) for run in record.get("runs", ())),
        error=record.get("error"),
        unit=record.get("unit"),
        closed_early=record.get("closed_early", False),
        excluded=record.get("excluded", False),
        withheld=record.get("withheld"),
        answered=record.get("answered", False),
        no_evidence=record.get("no_evidence", False),
        unmeasured=record.get("unmeasured"),
        covariate=record.get("cov"),
        segments=tuple(record.get("segments", {}).items()),
        rate=record.get("rate", 1.0),
    )


def add_line(evidence: Evidence, record: Mapping[str, Any], exposure: Mapping[str, float]) -> None:
    """Add the call that a line tells of to the evidence: the same as `add_routed` does with its event, in half the time.

    Args:
        evidence: The evidence to add to.
        record: The line.
        exposure: Share of the phase's calls in which each arm is exposed.
    """
    get = record.get
    add_call(
        evidence,
        exposure,
        phase=record["phase"],
        arm=record["variant"],
        decision=record["id"],
        bucket=record["bucket"],
        time_s=record["t"],
        runs=get("runs", ()),
        unit=get("unit"),
        excluded=get("excluded", False),
        no_evidence=get("no_evidence", False),
        withheld=get("withheld"),
        answered=get("answered", False),
        closed_early=get("closed_early", False),
        unmeasured=get("unmeasured"),
        covariate=get("cov"),
    )


def identity_in(record: Mapping[str, Any]) -> int:
    """`RecordedEvent.identity` of the outcome that a line tells of, without the event."""
    get = record.get
    what = get("item")
    if get("shadow", False):
        variant, source = get("variant"), get("source", "")
        what = f"{variant} {source}" if source else variant
    elif what is None:
        what = get("position")
    whom = get("id")
    if whom is None:
        whom = get("unit")
    return identity_of(record["rollout"], record["metric"], record["value"], get("t", 0.0), whom, what, get("event_id"))


def add_outcome_line(evidence: Evidence, record: Mapping[str, Any]) -> None:
    """Add the outcome that a line tells of to the evidence: the same as `add_outcome` does with its event."""
    get = record.get
    if get("excluded", False):
        return
    item = get("item")
    evidence.add_outcome(
        record["metric"],
        record["value"],
        decision=get("id"),
        phase_name=get("phase"),
        arm=get("variant"),
        bucket=get("bucket"),
        decided_s=get("decided"),
        time_s=get("t", 0.0),
        fingerprint=get("fingerprint", ""),
        identity=identity_in(record),
        factor=get("call_rate", 1.0) / get("rate", 1.0),
        shadow=get("shadow", False),
        source=get("source", ""),
        details=get("details", {}),
        item=get("position") if item is None else item,
        unit=get("unit"),
    )


def shadowed(record: Mapping[str, Any], control: str = "control") -> ShadowedEvent:
    """The shadow run that a line tells of; while no candidate serves, the call itself had the control."""
    return ShadowedEvent(
        decision=_decided({**record, "variant": control}),
        variant=record["variant"],
        end=record["end"],
        duration_s=record.get("duration_s"),
        error=record.get("error"),
        comparison=compared(record),
        unit=record.get("unit"),
        excluded=record.get("excluded", False),
        first_item_s=record.get("first_item_s"),
        control_error=record.get("control_error"),
        control_duration_s=record.get("control_duration_s"),
        control_first_item_s=record.get("control_first_item_s"),
        rate=record.get("rate", 1.0),
    )


def compared(record: Mapping[str, Any]) -> Comparison | None:
    """The comparison that a shadow's line tells of; None where there is none."""
    if record.get("match") is None:
        return None
    labels = record.get("labels", ())
    return Comparison(
        match=bool(record["match"]),
        difference=record.get("difference"),
        reason=record.get("difference_reason"),
        name=record.get("comparator", "default"),
        fields={name: Comparison(bool(match), *rest) for name, (match, *rest) in record.get("fields", {}).items()},
        labels=(labels[0], labels[1]) if len(labels) == 2 else None,
    )


def recorded(record: Mapping[str, Any]) -> RecordedEvent:
    """The outcome that a line tells of."""
    return RecordedEvent(
        rollout=record["rollout"],
        metric=record["metric"],
        value=record["value"],
        time_s=record.get("t", 0.0),
        decision_id=record.get("id"),
        phase=record.get("phase"),
        variant=record.get("variant"),
        bucket=record.get("bucket"),
        unit=record.get("unit"),
        item=record.get("item"),
        position=record.get("position"),
        decided_s=record.get("decided"),
        excluded=record.get("excluded", False),
        fingerprint=record.get("fingerprint", ""),
        event_id=record.get("event_id"),
        rate=record.get("rate", 1.0),
        call_rate=record.get("call_rate", 1.0),
        shadow=record.get("shadow", False),
        source=record.get("source", ""),
        details=record.get("details", {}),
    )
