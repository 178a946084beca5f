"""The journal's lines: one JSON object each, in ASCII, with `event` and schema version `v` first.

| event        | one for                                | fields besides `t` (seconds since 1970)                                   |
|--------------|----------------------------------------|---------------------------------------------------------------------------|
| `journal`    | file                                   | `sdk`, `pid`, `host`                                                      |
| `rollout`    | rollout and file                       | `rollout`, `strategy`, `control`, `variants`, `phase`, `status`, `revision`, `shares`, `shadow` (share of the calls that are shadowed by plan) |
| `decision`   | call (or row of a batch)               | `rollout`, `id`, `strategy`, `phase`, `variant`, `served`, `reason`, `propensity`, `share`, `bucket`, `unit`, `runs` (each [variant, seconds, error type, seconds to first item]), `error`, `shadows`, `blend`, `items`, `teams`, `rule` (how clicks are credited where it is not by team), `closed_early`, `excluded`, `withheld`, `answered` |
| `shadow`     | submitted shadow run                   | `rollout`, `id`, `phase`, `variant`, `end`, `duration_s`, `wait_s`, `error`, `match` (1 or 0), `difference`, `difference_reason`, `comparator`, `bucket`, `unit`, `excluded` |
| `outcome`    | recorded outcome                       | `rollout`, `metric`, `value`, `id`, `phase`, `variant`, `bucket`, `unit`, `item` or `position`, `decided` (time of the decision), `excluded` |
| `breaker`    | opening or closing of a breaker        | `rollout`, `variant`, `action`, `failures`, `runs`, `cooldown_s`          |
| `lost`       | facts that are not here, since the last such line | `count`                                                        |
| `transition` | change of phase or status              | `rollout`, `strategy`, `action`, `status`, `revision`, `from_phase`, `to_phase`, `shares`, `actor`, `reason`, `shadow`, `verdict` (with every number behind it) |

Fields that are empty (null, false, or no items) are left out. Numbers are finite. Units and items are pseudonyms; payloads
are nowhere. A rollout's start is its `rollout` line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from json.encoder import encode_basestring_ascii as _text
from math import isfinite
from sys import float_info
from typing import Any, SupportsFloat

from attrs import frozen

from rollout_sdk.records import BreakerEvent, RecordedEvent, RoutedEvent, Run, ShadowedEvent, TransitionedEvent

__all__ = ["FIELDS", "SCHEMA", "Field", "as_line", "line"]

SCHEMA = 1
"""Version of the lines; raised when a field changes its meaning, never when one is added."""

# Reading ------------------------------------------------------------------------------------------------------------------


@frozen
class Field:
    """What a field holds.

    Attributes:
        holds: Whether a value is one of the field's.
        required: Whether a line without it is damaged.
        plain: A class all of whose values are the field's, so that nobody need ask; None when there is none.
    """

    holds: Callable[[Any], bool]
    required: bool = False
    plain: type | None = None


_MOST = float_info.max


def _is_text(value: Any) -> bool:
    return value.__class__ is str


def _is_number(value: Any) -> bool:
    # NaN, infinity and integers that no float can hold are none: they would make nonsense of every sum.
    kind = value.__class__
    return (kind is float or kind is int) and -_MOST <= value <= _MOST


def _is_count(value: Any) -> bool:
    return value.__class__ is int and _is_number(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list(of: Callable[[Any], bool], value: Any) -> bool:
    return value.__class__ is list and all(map(of, value))


def _is_text_or_none(value: Any) -> bool:
    return value is None or value.__class__ is str


def _is_shares(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_run(value: Any) -> bool:
    if value.__class__ is not list or len(value) != 4:
        return False
    variant, duration_s, error, first_item_s = value
    return (
        variant.__class__ is str
        and _is_number(duration_s)
        and (error is None or error.__class__ is str)
        and (first_item_s is None or _is_number(first_item_s))
    )


_TEXT, _FLAG = Field(_is_text, plain=str), Field(_is_flag, plain=bool)
_NUMBER, _COUNT = Field(_is_number), Field(_is_count)
_A_TEXT = Field(_is_text, required=True, plain=str)
_A_NUMBER, _A_COUNT = (Field(kind, required=True) for kind in (_is_number, _is_count))
_TEXTS, _TEAMS, _RUNS = (Field(partial(_is_list, kind)) for kind in (_is_text, _is_text_or_none, _is_run))
_SHARES = Field(_is_shares, required=True)
_TABLE = Field(_is_table)

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "journal": {"t": _NUMBER, "sdk": _TEXT, "pid": _COUNT, "host": _TEXT},
    "rollout": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "strategy": _A_TEXT,
        "control": _A_TEXT,
        "variants": _TEXTS,
        "phase": _A_TEXT,
        "status": _TEXT,
        "revision": _COUNT,
        "shares": _SHARES,
        "shadow": _NUMBER,
    },
    "decision": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "id": _A_TEXT,
        "strategy": _A_TEXT,
        "phase": _A_TEXT,
        "variant": _A_TEXT,
        "served": _A_TEXT,
        "reason": _A_TEXT,
        "propensity": _NUMBER,
        "share": _NUMBER,
        "bucket": _A_COUNT,
        "unit": _TEXT,
        "runs": _RUNS,
        "error": _TEXT,
        "shadows": _TEXTS,
        "blend": _TEXTS,
        "items": _TEXTS,
        "teams": _TEAMS,
        "rule": _TABLE,
        "closed_early": _FLAG,
        "excluded": _FLAG,
        "withheld": _TEXT,
        "answered": _FLAG,
    },
    "shadow": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "id": _A_TEXT,
        "phase": _A_TEXT,
        "variant": _A_TEXT,
        "end": _A_TEXT,
        "duration_s": _NUMBER,
        "wait_s": _NUMBER,
        "error": _TEXT,
        "match": _COUNT,
        "difference": _NUMBER,
        "difference_reason": _TEXT,
        "comparator": _TEXT,
        "bucket": _COUNT,
        "unit": _TEXT,
        "excluded": _FLAG,
    },
    "outcome": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "metric": _A_TEXT,
        "value": _A_NUMBER,
        "id": _TEXT,
        "phase": _TEXT,
        "variant": _TEXT,
        "bucket": _COUNT,
        "unit": _TEXT,
        "item": _TEXT,
        "position": _COUNT,
        "decided": _NUMBER,
        "excluded": _FLAG,
    },
    "breaker": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "variant": _A_TEXT,
        "action": _A_TEXT,
        "failures": _A_COUNT,
        "runs": _A_COUNT,
        "cooldown_s": _NUMBER,
    },
    "lost": {"t": _NUMBER, "count": _A_COUNT},
    "transition": {
        "t": _NUMBER,
        "rollout": _A_TEXT,
        "strategy": _TEXT,
        "action": _A_TEXT,
        "status": _TEXT,
        "revision": _COUNT,
        "from_phase": _TEXT,
        "to_phase": _A_TEXT,
        "shares": _SHARES,
        "actor": _TEXT,
        "reason": _TEXT,
        "shadow": _NUMBER,
        "verdict": _TABLE,
    },
}
"""What a reader may rely on: every field of every event, in the order of the table above."""

# Writing ------------------------------------------------------------------------------------------------------------------

_NUMBERS = (int, float)
_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def line(event: str, time_s: float, **fields: Any) -> bytes:
    """One line, without its newline; empty fields are left out."""
    # Numbers are kept, zero included; False, None and empty texts and lists are not.
    kept = {name: value for name, value in fields.items() if value or value.__class__ in _NUMBERS}
    return _encoder.encode({"event": event, "v": SCHEMA, "t": round(time_s, 6), **kept}).encode("ascii")


def as_line(event: object) -> bytes:
    """The line of an event.

    Raises:
        TypeError: It is no event, or a field of it is not what the event promises.
    """
    write = _WRITERS.get(event.__class__)
    if write is None:
        raise TypeError(f"{event!r:.80} is no event. The journal takes the events of rollout_sdk.records. Pass one of them.")
    return write(event)


def _finite(value: SupportsFloat | None) -> float | None:
    # A comparator or a strategy may give numpy's numbers.
    number = None if value is None else float(value)
    return number if number is not None and isfinite(number) else None


def _number(value: SupportsFloat) -> str:
    number = float(value)
    return repr(number) if isfinite(number) else "null"


def _list(texts: Iterable[str | None]) -> str:
    return f"[{','.join(['null' if text is None else _text(text) for text in texts])}]"


def _run(run: Run) -> str:
    error = "null" if run.error is None else _text(run.error)
    first = "null" if run.first_item_s is None else f"{run.first_item_s:.9f}"
    return f"[{_text(run.variant)},{run.duration_s:.9f},{error},{first}]"


def _decision(event: RoutedEvent) -> bytes:
    """Written by hand: there is one for every call, and an encoder that looks at each value costs three times as much."""
    decision = event.decision
    share = "" if decision.share is None else f',"share":{_number(decision.share)}'
    head = (
        f'{{"event":"decision","v":{SCHEMA},"t":{decision.time_s:.6f}'
        f',"rollout":{_text(decision.rollout)},"id":{_text(decision.id)},"strategy":{_text(decision.strategy)}'
        f',"phase":{_text(decision.phase)},"variant":{_text(decision.variant)},"served":{_text(event.served)}'
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
        parts.append(f'"rule":{json.dumps(event.rule, separators=(",", ":"), allow_nan=False)}')
    if event.closed_early:
        parts.append('"closed_early":true')
    if event.excluded:
        parts.append('"excluded":true')
    if event.withheld is not None:
        parts.append(f'"withheld":{_text(event.withheld)}')
    if event.answered:
        parts.append('"answered":true')
    return (",".join(parts) + "}").encode("ascii")


def _shadow(event: ShadowedEvent) -> bytes:
    decision, comparison = event.decision, event.comparison
    return line(
        "shadow",
        decision.time_s,
        rollout=decision.rollout,
        id=decision.id,
        phase=decision.phase,
        variant=event.variant,
        end=event.end,
        duration_s=_finite(event.duration_s),
        wait_s=_finite(event.wait_s),
        error=event.error,
        # A number: a mismatch must not be left out as empty.
        match=None if comparison is None else int(bool(comparison.match)),
        difference=None if comparison is None else _finite(comparison.difference),
        difference_reason=None if comparison is None else comparison.reason,
        comparator=None if comparison is None else comparison.name,
        bucket=decision.bucket,
        unit=event.unit,
        excluded=event.excluded,
    )


def _outcome(event: RecordedEvent) -> bytes:
    return line(
        "outcome",
        event.time_s,
        rollout=event.rollout,
        metric=event.metric,
        value=event.value,
        id=event.decision_id,
        phase=event.phase,
        variant=event.variant,
        bucket=event.bucket,
        unit=event.unit,
        item=event.item,
        position=event.position,
        decided=event.decided_s,
        excluded=event.excluded,
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
    )


_WRITERS: Mapping[type, Callable[[Any], bytes]] = {
    RoutedEvent: _decision,
    ShadowedEvent: _shadow,
    RecordedEvent: _outcome,
    BreakerEvent: _breaker,
    TransitionedEvent: _transition,
}
