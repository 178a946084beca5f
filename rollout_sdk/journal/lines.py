"""Events as lines of the journal, as its schema says."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from json import dumps
from json.encoder import encode_basestring_ascii as _text
from math import isfinite
from typing import Any, SupportsFloat

from attrs import evolve

from rollout_sdk.formatting import brief
from rollout_sdk.journal.schema import FIELDS, SCHEMA
from rollout_sdk.records import (
    BreakerEvent,
    Comparison,
    RecordedEvent,
    RoutedEvent,
    RoutedRows,
    Run,
    ShadowedEvent,
    TransitionedEvent,
)

__all__ = ["DecisionTemplate", "as_line", "line"]

_NUMBERS = (int, float)
_MOST_FIELDS, _LONGEST_LABEL = 100, 128
_REQUIRED = {event: frozenset(name for name, field in fields.items() if field.required) for event, fields in FIELDS.items()}
_TIME_MARK, _BUCKET_MARK, _DURATION_MARK = 8_765_432_109.123456, 987_654_321_012_345_678, 345_678_901.987654321
_ID_MARK, _UNIT_MARK = (secrets.token_hex(16) for _ in range(2))
_EARLIEST, _LATEST = 2.0**30, 2.0**33
"""Seconds since 1970 (from 2004 to 2242) of which a number holds 20 to 22 bits of a second: so few that a million times as many
microseconds are exact."""
_DIGITS = [f"{number:03d}" for number in range(1_000)]
_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def line(event: str, time_s: float, **fields: Any) -> bytes:
    """One line, without its newline; empty fields are left out, but for those without which a line is damaged."""
    required = _REQUIRED[event]
    # Numbers are kept, zero included; False, None and empty texts and lists are not.
    kept = {name: value for name, value in fields.items() if value or value.__class__ in _NUMBERS or name in required}
    return _encoder.encode({"event": event, "v": SCHEMA, "t": round(time_s, 6), **kept}).encode("ascii")


def as_line(event: object) -> bytes:
    """The line of an event.

    Raises:
        TypeError: It is not an event, or a field has the wrong type.
    """
    write = _WRITERS.get(event.__class__)
    if write is None:
        raise TypeError(
            f"{brief(event)} is not an event. The journal takes the events of rollout_sdk.records. Pass one of them."
        )
    return write(event)


def _finite(value: SupportsFloat | None) -> float | None:
    # A comparator or a strategy may give numpy's numbers.
    number = None if value is None else float(value)
    return number if number is not None and isfinite(number) else None


def _rate(rate: float) -> float | None:
    # Nearly all of them are 1, which is left out.
    return rate if rate < 1.0 else None


def _number(value: SupportsFloat) -> str:
    number = float(value)
    return repr(number) if isfinite(number) else "null"


def _list(texts: Iterable[str | None]) -> str:
    return f"[{','.join(['null' if text is None else _text(text) for text in texts])}]"


def _numbers(numbers: Sequence[int]) -> str:
    """Write small whole numbers, of which most are there many times."""
    texts = {number: str(number) for number in dict.fromkeys(numbers)}
    return f"[{','.join(map(texts.__getitem__, numbers))}]"


def _run(run: Run) -> str:
    error = "null" if run.error is None else _text(run.error)
    first = "null" if run.first_item_s is None else f"{run.first_item_s:.9f}"
    return f"[{_text(run.variant)},{run.duration_s:.9f},{error},{first}]"


def _decision(event: RoutedEvent) -> bytes:
    """Written by hand: there is one for every call, and an encoder that looks at each value costs three times as much."""
    decision = event.decision
    share = "" if decision.share is None else f',"share":{_number(decision.share)}'
    fingerprint = f',"fingerprint":{_text(decision.fingerprint)}' if decision.fingerprint else ""
    head = (
        f'{{"event":"decision","v":{SCHEMA},"t":{decision.time_s:.6f}'
        f',"rollout":{_text(decision.rollout)},"id":{_text(decision.id)},"strategy":{_text(decision.strategy)}'
        f',"phase":{_text(decision.phase)}{fingerprint},"variant":{_text(decision.variant)},"served":{_text(event.served)}'
        f',"reason":{_text(decision.reason)},"propensity":{_number(decision.propensity)}{share},"bucket":{decision.bucket}'
    )
    parts = [head]
    if event.unit is not None:
        parts.append(f'"unit":{_text(event.unit)}')
    if event.runs:
        parts.append(f'"runs":[{",".join([_run(run) for run in event.runs])}]')
    if event.error is not None:
        parts.append(f'"error":{_text(event.error)}')
    if decision.shadows:
        parts.append(f'"shadows":{_list(decision.shadows)}')
    if decision.blend:
        parts.append(f'"blend":{_list(decision.blend)}')
    if event.items:
        parts.append(f'"items":{_list(event.items)}')
    if event.teams:
        parts.append(f'"teams":{_list(event.teams)}')
    if event.rule is not None:
        parts.append(f'"rule":{dumps(event.rule, separators=(",", ":"), allow_nan=False)}')
    parts += _rare(event)
    return (",".join(parts) + "}").encode("ascii")


class DecisionTemplate:
    """Writes the lines of decisions that differ in time, id, bucket, unit and duration of their only run: as `as_line`."""

    __slots__ = ("_between",)

    def __init__(self, like: RoutedEvent) -> None:
        """Prepare what they share: the line of a decision with marks in the place of what differs.

        Args:
            like: One of them.
        """
        (run,) = like.runs
        has_unit = like.unit is not None
        marked = evolve(
            like,
            decision=evolve(like.decision, time_s=_TIME_MARK, id=_ID_MARK, bucket=_BUCKET_MARK),
            unit=_UNIT_MARK if has_unit else None,
            runs=(evolve(run, duration_s=_DURATION_MARK),),
        )
        text = _decision(marked).decode("ascii")
        between = []
        for mark in (f"{_TIME_MARK:.6f}", _ID_MARK, str(_BUCKET_MARK), _UNIT_MARK, f"{_DURATION_MARK:.9f}"):
            # Without a unit, its place is just before the duration's.
            before, text = ("", text) if mark is _UNIT_MARK and not has_unit else text.split(mark)
            between.append(before)
        self._between = (*between, text)

    def each(
        self,
        times_ns: Iterable[int],
        ids: Iterable[str],
        buckets: Iterable[int],
        units: Iterable[str],
        durations_s: Iterable[float],
    ) -> list[bytes]:
        """Return the lines of many decisions; ids and units need no escapes in JSON. Without a unit, it is empty."""
        start, a, b, c, d, end = self._between
        lines: list[bytes] = []
        add, second, prefix = lines.append, -1, ""
        for time_ns, id_, bucket, unit, duration_s in zip(times_ns, ids, buckets, units, durations_s, strict=False):
            time_s, whole = time_ns / 1e9, time_ns // 1_000_000_000
            if whole != second:
                second, prefix = whole, f"{start}{whole}."
            micros = round((time_s - whole) * 1e6)
            # Of the times of our days, all of this is exact, and takes half the time.
            if _EARLIEST < time_s < _LATEST and micros < 1_000_000:
                head = f"{prefix}{_DIGITS[micros // 1_000]}{_DIGITS[micros % 1_000]}"
            else:
                head = f"{start}{time_s:.6f}"
            add(f"{head}{a}{id_}{b}{bucket}{c}{unit}{d}{duration_s:.9f}{end}".encode("ascii"))
        return lines


def _rows(event: RoutedRows) -> bytes:
    decision = event.like[0].decision
    like = ",".join([_decision(each).decode("ascii") for each in event.like])
    parts = [
        f'{{"event":"rows","v":{SCHEMA},"t":{decision.time_s:.6f},"rollout":{_text(decision.rollout)},"like":[{like}]',
        f'"kind":{_numbers(event.kind)}',
        f'"ids":{_list(event.ids)}',
        f'"buckets":{_numbers(event.buckets)}',
    ]
    if event.units.count(None) < len(event.units):
        parts.append(f'"units":{_list(event.units)}')
    if event.covariates:
        parts.append(f'"covs":[{",".join(["null" if value is None else _number(value) for value in event.covariates])}]')
    return (",".join(parts) + "}").encode("ascii")


def _rare(event: RoutedEvent) -> list[str]:
    """What most calls have nothing of."""
    parts = []
    if event.closed_early:
        parts.append('"closed_early":true')
    if event.excluded:
        parts.append('"excluded":true')
    if event.withheld is not None:
        parts.append(f'"withheld":{_text(event.withheld)}')
    if event.answered:
        parts.append('"answered":true')
    if event.no_evidence:
        parts.append('"no_evidence":true')
    if event.unmeasured is not None:
        parts.append(f'"unmeasured":{_text(event.unmeasured)}')
    if event.covariate is not None:
        parts.append(f'"cov":{_number(event.covariate)}')
    if event.segments:
        parts.append(f'"segments":{{{",".join([f"{_text(name)}:{_text(segment)}" for name, segment in event.segments])}}}')
    if event.rate < 1.0:
        parts.append(f'"rate":{event.rate!r}')
    return parts


def _shadow(event: ShadowedEvent) -> bytes:
    decision, comparison = event.decision, event.comparison
    return line(
        "shadow",
        decision.time_s,
        rollout=decision.rollout,
        id=decision.id,
        phase=decision.phase,
        fingerprint=decision.fingerprint,
        variant=event.variant,
        end=event.end,
        duration_s=_finite(event.duration_s),
        wait_s=_finite(event.wait_s),
        error=event.error,
        # A number: a mismatch must not be left out as empty.
        match=None if comparison is None else int(comparison.match),
        difference=None if comparison is None else _finite(comparison.difference),
        difference_reason=None if comparison is None else comparison.reason,
        comparator=None if comparison is None else comparison.name,
        fields=None if comparison is None else _parts(comparison),
        labels=None if comparison is None else [str(label)[:_LONGEST_LABEL] for label in comparison.labels or ()],
        bucket=decision.bucket,
        unit=event.unit,
        excluded=event.excluded,
        first_item_s=_finite(event.first_item_s),
        control_error=event.control_error,
        control_duration_s=_finite(event.control_duration_s),
        control_first_item_s=_finite(event.control_first_item_s),
        rate=_rate(event.rate),
    )


def _parts(comparison: Comparison) -> dict[str, Any]:
    """What was found in each field: whether it matches, the difference, and the reason."""
    found = list(comparison.fields.items())[:_MOST_FIELDS]
    return {name[:_LONGEST_LABEL]: [int(each.match), _finite(each.difference), each.reason] for name, each in found}


def _outcome(event: RecordedEvent) -> bytes:
    return line(
        "outcome",
        event.time_s,
        rollout=event.rollout,
        metric=event.metric,
        value=event.value,
        id=event.decision_id,
        phase=event.phase,
        fingerprint=event.fingerprint,
        variant=event.variant,
        bucket=event.bucket,
        unit=event.unit,
        item=event.item,
        position=event.position,
        event_id=event.event_id,
        decided=event.decided_s,
        excluded=event.excluded,
        shadow=event.shadow,
        source=event.source,
        details=dict(event.details),
        rate=_rate(event.rate),
        call_rate=_rate(event.call_rate),
    )


def _breaker(event: BreakerEvent) -> bytes:
    return line(
        "breaker",
        event.time_s,
        rollout=event.rollout,
        variant=event.variant,
        action=event.action,
        failures=event.failures,
        runs=event.runs,
        cooldown_s=event.cooldown_s,
    )


def _transition(event: TransitionedEvent) -> bytes:
    return line(
        "transition",
        event.time_s,
        rollout=event.rollout,
        id=event.id,
        strategy=event.strategy,
        action=event.action,
        status=event.status,
        revision=event.revision,
        from_phase=event.from_phase,
        to_phase=event.to_phase,
        shares=dict(event.shares),
        actor=event.actor,
        reason=event.reason,
        shadow=event.shadow or None,
        verdict=event.evidence,
        invalid=event.invalid,
        version=event.version,
        fingerprint=event.fingerprint,
        replaced=event.replaced,
    )


_WRITERS: Mapping[type, Callable[[Any], bytes]] = {
    RoutedEvent: _decision,
    RoutedRows: _rows,
    ShadowedEvent: _shadow,
    RecordedEvent: _outcome,
    BreakerEvent: _breaker,
    TransitionedEvent: _transition,
}
