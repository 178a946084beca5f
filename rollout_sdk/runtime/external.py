"""For processes and warehouses without the decorated function: outcomes, and pseudonyms of units."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

from rollout_sdk.assignment import UnitHash, canonical, unit_hash
from rollout_sdk.assignment import pseudonym as written
from rollout_sdk.exceptions import ConfigurationError, OutcomeError
from rollout_sdk.formatting import brief
from rollout_sdk.recording import outcomes
from rollout_sdk.recording.outcome_checks import odd_time
from rollout_sdk.runtime import Runtime, default_runtime

__all__ = ["pseudonym", "record"]


def _hash_of(runtime: Runtime, rollout: str, layer: str | None) -> UnitHash:
    """Return the hash of a rollout's units: its own, or its layer's."""
    known = runtime.rollouts.get(rollout)
    return unit_hash(rollout, layer, runtime.key) if known is None or layer is not None else known.unit_hash


def record(
    metric: str,
    value: float,
    *,
    decision_id: str | None = None,
    unit: Hashable = None,
    token: str | None = None,
    rollout: str | None = None,
    layer: str | None = None,
    item: Hashable = None,
    position: int | None = None,
    event_id: Hashable = None,
    variant: str | None = None,
    source: Literal["", "human"] = "",
    time_s: float | None = None,
) -> None:
    """Record an outcome in a process that does not decorate the function; the default runtime journals it.

    With the store of the serving processes (`ROLLOUT_STORE`), a canary counts it within seconds as well. Outcomes by unit count
    in the verdicts of `rollout report` and `rollout replay` only, because only the journal has the unit's decision.

    See `RolloutController.record`; the rollout is read from the id or the token.

    Args:
        metric: Name of the metric.
        value: The measured value, a finite number.
        decision_id: The decision's id; or
        unit: the unit, with `rollout`: its last decision before the outcome is credited; or
        token: the token of an item in an interleaved answer.
        rollout: With `unit`, the key of the rollout.
        layer: With `unit`, the name of the rollout's layer, if it has one and is not decorated in this process.
        item: Key of the item, in an interleaved answer.
        position: With `decision_id`, the item's position in the answer, from 0, instead of `item`.
        event_id: Identifies the event that the outcome came from: an event that is recorded again counts once.
        variant: With `decision_id`, the variant whose answer was judged, if it was a shadow's.
        source: As in `RolloutController.record`; a preference of a person needs `variant`, the name of the candidate.
        time_s: Time of the measurement, in seconds since 1970; now by default.

    Raises:
        OutcomeError: Metric, value or unit are not valid, or not exactly one of `decision_id`, `unit` and `token` is given.
        ConfigurationError: The default runtime keeps no journal, so that the outcome would be lost.
    """
    runtime = default_runtime()
    if runtime.journal is None:
        raise ConfigurationError(
            f"The outcome {brief(metric)} has nowhere to go: the default runtime keeps no journal. "
            "Reports are computed from the journal alone. Set ROLLOUT_JOURNAL to its folder."
        )
    now_s = runtime.time_ns() / 1e9

    def hash_of() -> tuple[str, UnitHash]:
        if not (isinstance(rollout, str) and rollout):
            raise OutcomeError(
                f"The outcome {brief(metric)} of a unit names no rollout. A unit is in many rollouts. Pass rollout=, its key."
            )
        return rollout, _hash_of(runtime, rollout, layer)

    event = outcomes.outcome_of(
        f"The outcome {brief(metric)}",
        metric,
        value,
        key=runtime.key,
        time_s=now_s if time_s is None else time_s,
        decision_id=decision_id,
        unit=unit,
        token=token,
        item=item,
        position=position,
        event_id=event_id,
        variant=variant,
        source=source,
        rollout=rollout,
        hash_of=hash_of,
    )
    if time_s is not None and (strange := odd_time(event, now_s)) is not None:
        runtime.failed("outcome", OutcomeError(strange))
    runtime.conclude_outcome(event)


def pseudonym(rollout: str, unit: Hashable, *, layer: str | None = None) -> str:
    """Return the pseudonym of a unit in the journal and everything derived from it, for joins with other tables.

    It is computed with the secret of the default runtime (`ROLLOUT_KEY`), and does not reveal the unit.

    Args:
        rollout: Key of the rollout.
        unit: The unit, as in calls.
        layer: Name of the rollout's layer, if it has one and is not decorated in this process.

    Raises:
        OutcomeError: The unit is not valid.
    """
    raw = canonical(unit)
    if raw is None:
        raise OutcomeError(
            f"The unit is {brief(unit)}. A unit is a non-empty text, a number, a UUID, a date, bytes or a tuple of these."
        )
    return written(_hash_of(default_runtime(), rollout, layer)(raw))
