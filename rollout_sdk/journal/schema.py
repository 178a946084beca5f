"""The journal's lines: one JSON object each, with `event` and schema version `v` first.

| event        | one for                                | fields besides `t` (seconds since 1970) and `rollout`                     |
|--------------|----------------------------------------|---------------------------------------------------------------------------|
| `journal`    | file                                   | `sdk`, `pid`, `host`                                                      |
| `rollout`    | rollout and file                       | `strategy`, `control`, `variants`, `phase`, `status`, `shares`            |
| `decision`   | call (or row of a batch)               | `id`, `strategy`, `phase`, `variant`, `served`, `reason`, `propensity`, `share`, `bucket`, `unit`, `runs` (each [variant, seconds, error type, seconds to first item]), `error`, `shadows`, `blend`, `items`, `teams`, `closed_early`, `excluded` |
| `shadow`     | submitted shadow run                   | `id`, `phase`, `variant`, `end`, `duration_s`, `wait_s`, `error`, `match`, `difference`, `difference_reason`, `comparator`, `bucket`, `unit`, `excluded` |
| `outcome`    | recorded outcome                       | `metric`, `value`, `id`, `phase`, `variant`, `bucket`, `unit`, `item`     |
| `lost`       | facts that were dropped since the last | `count`                                                                   |
| `transition` | change of phase or status              | `action`, `status`, `revision`, `from_phase`, `to_phase`, `shares`, `actor`, `reason`, `strategy` |

Fields that are empty (null, false, or no items) are left out. Units and items are pseudonyms; payloads are nowhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from rollout_sdk.records import RecordedEvent, RoutedEvent, ShadowedEvent, TransitionedEvent

__all__ = ["SCHEMA", "as_record", "encode"]

SCHEMA = 1
"""Version of the lines; raised when a field changes its meaning, never when one is added."""

_NUMBERS = (int, float)
_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def encode(record: Mapping[str, Any]) -> bytes:
    """One line of a record, without its newline; empty fields are left out."""
    # Numbers are kept, zero included; False, None and empty texts and lists are not.
    kept = {name: value for name, value in record.items() if value or (value.__class__ in _NUMBERS)}
    return _encoder.encode(kept).encode("ascii")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


@singledispatch
def as_record(event: object) -> dict[str, Any]:
    """The fields of an event as they stand in the journal."""
    raise TypeError(f"{event!r:.80} is no event. The journal takes the events of rollout_sdk.records. Pass one of them.")


@as_record.register
def _(event: RoutedEvent) -> dict[str, Any]:
    decision = event.decision
    return {
        "event": "decision",
        "v": SCHEMA,
        "t": round(decision.time_s, 6),
        "rollout": decision.rollout,
        "id": decision.id,
        "strategy": decision.strategy,
        "phase": decision.phase,
        "variant": decision.variant,
        "served": event.served,
        "reason": decision.reason,
        "propensity": _finite(decision.propensity),
        "share": decision.share,
        "bucket": decision.bucket,
        "unit": event.unit,
        "runs": [[run.variant, round(run.duration_s, 9), run.error, run.first_item_s] for run in event.runs],
        "error": event.error,
        "shadows": decision.shadows,
        "blend": decision.blend,
        "items": event.items,
        "teams": event.teams,
        "closed_early": event.closed_early,
        "excluded": event.excluded,
    }


@as_record.register
def _(event: ShadowedEvent) -> dict[str, Any]:
    comparison = event.comparison
    return {
        "event": "shadow",
        "v": SCHEMA,
        "t": round(event.decision.time_s, 6),
        "rollout": event.decision.rollout,
        "id": event.decision.id,
        "phase": event.decision.phase,
        "variant": event.variant,
        "end": event.end,
        "duration_s": _finite(event.duration_s),
        "wait_s": _finite(event.wait_s),
        "error": event.error,
        # A mismatch must not be left out as empty.
        "match": None if comparison is None else int(comparison.match),
        "difference": None if comparison is None else _finite(comparison.difference),
        "difference_reason": None if comparison is None else comparison.reason,
        "comparator": None if comparison is None else comparison.name,
        "bucket": event.decision.bucket,
        "unit": event.unit,
        "excluded": event.excluded,
    }


@as_record.register
def _(event: RecordedEvent) -> dict[str, Any]:
    return {
        "event": "outcome",
        "v": SCHEMA,
        "t": round(event.time_s, 6),
        "rollout": event.rollout,
        "metric": event.metric,
        "value": event.value,
        "id": event.decision_id,
        "phase": event.phase,
        "variant": event.variant,
        "bucket": event.bucket,
        "unit": event.unit,
        "item": event.item,
    }


@as_record.register
def _(event: TransitionedEvent) -> dict[str, Any]:
    return {
        "event": "transition",
        "v": SCHEMA,
        "t": round(event.time_s, 6),
        "rollout": event.rollout,
        "strategy": event.strategy,
        "action": event.action,
        "status": event.status,
        "revision": event.revision,
        "from_phase": event.from_phase,
        "to_phase": event.to_phase,
        "shares": dict(event.shares),
        "actor": event.actor,
        "reason": event.reason,
    }
