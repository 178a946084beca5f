"""Applies `measure=`: numbers taken from answers, recorded as outcomes of their decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.engine.batches.rows import each_row, has_rows
from rollout_sdk.plan import ITEMS_PER_S
from rollout_sdk.records import RecordedEvent
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.engine.call import Call
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.engine.steps import Result

__all__ = ["record_measured"]

_LONGEST_METRIC = 128


def record_measured(calls: Sequence[Call], answer: Any, ran: Result, *, shadow: str | None = None) -> None:
    """Record what `measure=` finds in an answer, or in the answers of a batch's rows.

    Args:
        calls: The calls, or rows, that were answered; those that are not analysed are left out.
        answer: The answer; for several rows, one for each; of a stream, the list of its items.
        ran: The run that gave it.
        shadow: The variant, if it ran in the background.
    """
    rollout = calls[0].rollout
    answers = [answer]
    if rollout.by_row:
        if not has_rows(answer, len(calls)):
            return
        answers = list(each_row(answer))
    for call, each in zip(calls, answers, strict=True):
        if not call.is_excluded:
            for metric, value in {**_pace(rollout, answer, ran), **_measured(rollout, each)}.items():
                _record(call, metric, value, shadow)


def _pace(rollout: Rollout, items: Any, ran: Result) -> Mapping[str, float]:
    """Return how many items a stream has given per second after the first, if that is judged.

    The wait for the first is a metric of its own. Streams with fewer than two items have no pace.
    """
    if not rollout.paced or ran.first_item_s is None or len(items) < 2:
        return {}
    seconds = ran.duration_s - ran.first_item_s
    return {ITEMS_PER_S: (len(items) - 1) / seconds} if seconds > 0 else {}


def _measured(rollout: Rollout, answer: Any) -> Mapping[str, float]:
    """Return numbers by metric; what `measure=` raises, or gives besides, is a fault, and nothing is recorded."""
    assert rollout.measure is not None
    try:
        found = answered("measure=", rollout.measure(answer), (answer,))
        values = {metric: float(value) for metric, value in found.items()}
        if not all(isinstance(name, str) and 0 < len(name) <= _LONGEST_METRIC and name.isprintable() for name in values):
            raise TypeError("measure= gave a metric without a usable name")
        if not all(map(math.isfinite, values.values())):
            raise ValueError("measure= gave a number that is not finite")
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("measure", error)
        return {}
    return values


def _record(call: Call, metric: str, value: float, shadow: str | None) -> None:
    decision, rollout = call.full_decision(), call.rollout
    event = RecordedEvent(
        rollout=rollout.key,
        metric=metric,
        value=value,
        time_s=rollout.time_ns() / 1e9,
        decision_id=decision.id,
        phase=decision.phase,
        variant=decision.variant if shadow is None else shadow,
        bucket=decision.bucket,
        decided_s=decision.time_s,
        fingerprint=decision.fingerprint,
        rate=call.rate,
        call_rate=call.rate,
        shadow=shadow is not None,
        measured=True,
    )
    # Under overload, those of calls that are not drawn are not kept either.
    if event.drawn(event.rate) is not None:
        rollout.record(event)
