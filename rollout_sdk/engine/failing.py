"""Answers that are failures, by `failed_if=`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rollout_sdk.concurrency.synchronous import answered
from rollout_sdk.engine.batches.rows import each_row, has_rows
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout

__all__ = ["FailedIf", "failing_rows", "failing_share", "is_failing"]

_HALF = 0.5

FailedIf = Callable[[Any], Any] | None
"""Whether an answer (of a row, with `batch=`) is a failure."""


def is_failing(rollout: Rollout, answer: Any) -> bool:
    """Whether an answer is a failure; where `failed_if` itself fails, it is not, and that is a fault."""
    assert rollout.failed_if is not None
    try:
        return bool(answered("failed_if=", rollout.failed_if(answer), (answer,)))
    except BaseException as error:
        if not is_fault(error):
            raise
        rollout.failed("failed_if", error)
        return False


def failing_rows(rollout: Rollout, answers: Any, indices: Sequence[int]) -> list[int]:
    """Those of a batch's rows whose answers are failures; none where there is not one answer for each row."""
    if rollout.failed_if is None or not has_rows(answers, len(indices)):
        return []
    return [index for index, answer in zip(indices, each_row(answers), strict=True) if is_failing(rollout, answer)]


def failing_share(rollout: Rollout) -> float:
    """The share of a batch's rows from which on the batch is a failed run to the circuit breakers."""
    breaker = next(iter(rollout.local_state.breakers.values()), None)
    return _HALF if breaker is None else breaker.settings.failure_share
