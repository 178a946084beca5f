"""The traffic that a plan is asked about, read from a journal: what the control's calls were like, in one pass."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field, frozen

from rollout_sdk.analysis.facts import recorded, routed
from rollout_sdk.analysis.of_units import in_order_by_call
from rollout_sdk.analysis.replay import meant, only_rollout
from rollout_sdk.analysis.togo import spread_of
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal import read_journal
from rollout_sdk.judging import Evidence, Traffic, UnitSample
from rollout_sdk.judging.ingest import add_routed, unit_cell
from rollout_sdk.plan import ERROR_RATE, LATENCY_MEAN, MEASURED, Criteria
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Measured", "measure"]

_DAY_S = 86_400.0
_FOLD_EVERY_S = 60.0
_PHASE, _CONTROL = "0", "control"


@frozen
class Measured:
    """What a journal says about the traffic.

    Attributes:
        rollout: Key of the rollout.
        days: Time from its first call to its last, in days.
        units: Different units.
        calls: Their calls.
        traffic: The traffic; what the journal does not tell has the default.
        known: The fields of `traffic`, and the recorded metrics, that the journal does tell.
    """

    rollout: str
    days: float
    units: int
    calls: int
    traffic: Traffic
    known: frozenset[str]

    def __str__(self) -> str:
        """In words."""
        return f"{self.rollout}: {self.calls:,} calls of {self.units:,} units in {self.days:.3g} days"


@define
class _Control:
    """The control's calls, as if they were of one phase: the sums of the judge, which hold no units."""

    evidence: Evidence
    units: UnitSample = field(factory=UnitSample)
    calls: int = 0
    first_s: float = math.inf
    last_s: float = -math.inf
    _folded_s: float = 0.0

    def decided(self, record: Mapping[str, Any], control: str) -> None:
        """See a call."""
        event = routed(record)
        if event.excluded:
            return
        self.calls += round(1 / event.rate)
        self.units.add(unit_cell(event.unit, event.decision.id))
        self.first_s, self.last_s = min(self.first_s, record["t"]), max(self.last_s, record["t"])
        if record["variant"] == control:
            one_phase = routed({**record, "phase": _PHASE, "variant": _CONTROL})
            add_routed(self.evidence, one_phase, {_CONTROL: 1.0})
        if record["seen_s"] - self._folded_s > _FOLD_EVERY_S:
            self._folded_s = record["seen_s"]
            self.evidence.fold(self._folded_s)

    def outcome(self, record: Mapping[str, Any], control: str) -> None:
        """See an outcome."""
        event = recorded(record)
        if event.excluded or event.variant != control:
            return
        self.evidence.add_outcome(
            event.metric,
            event.value,
            decision=event.decision_id,
            phase_name=_PHASE,
            arm=_CONTROL,
            bucket=event.bucket,
            decided_s=event.decided_s,
            time_s=event.time_s,
            identity=event.identity,
        )


def measure(
    folder: str | os.PathLike[str],
    criteria: Criteria,
    *,
    rollout: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """The traffic of a rollout, as far as its journal tells: what the plan's guardrails and gates are about.

    The journal is read once, and memory is bounded. Standard deviations are of units and not of calls: calls of one unit that
    are alike count as such.

    Args:
        folder: Folder of the journal.
        criteria: The plan.
        rollout: Key of the rollout; needed when the journal has several.
        progress: Called with the bytes read so far, and with how many there are.

    Raises:
        ConfigurationError: The journal has no such rollout, or several and none is named; or too few calls of it.
        RolloutError: The folder cannot be read.
    """
    journal = read_journal(folder)
    key = only_rollout(journal) if rollout is None else rollout
    seen, control = _Control(Evidence(criteria.all, max_calls_per_unit=criteria.max_calls_per_unit)), "control"
    for record in in_order_by_call(journal, key, progress):
        if record["event"] == "rollout":
            control = record["control"]
        elif record["event"] == "decision":
            seen.decided(record, control)
        elif record["event"] == "outcome":
            seen.outcome(record, control)
    days = (seen.last_s - seen.first_s) / _DAY_S
    if seen.calls < 2 or not days > 0:
        raise ConfigurationError(
            f"The journal has {seen.calls:,} calls of {key!r} that are analysed.{'' if seen.calls else meant(journal, key)} "
            "Traffic is measured on calls over some time. Look at: rollout report."
        )
    return _measured(key, criteria, seen, days)


def _measured(key: str, criteria: Criteria, seen: _Control, days: float) -> Measured:
    phase = seen.evidence.phases.get(_PHASE)
    found: dict[str, Any] = {}
    slow_rates: dict[str, float] = {}
    means: dict[str, tuple[float, float]] = {}
    if phase is not None and _CONTROL in phase.units:
        units = phase.units[_CONTROL]
        for each in criteria.all:
            sums = seen.evidence.sums(each)
            if each.metric == ERROR_RATE:
                found["error_rate"] = _share(phase.events.get((ERROR_RATE, _CONTROL)), units)
            elif each.metric == LATENCY_MEAN:
                if (spread := spread_of(sums, _PHASE, _CONTROL, units.estimate)) is not None and spread[1] > 0:
                    found["latency_spread"] = spread[1]
            elif each.metric in MEASURED:
                total, calls = sums.totals(_PHASE, _CONTROL)
                if calls:
                    slow_rates[each.label] = min(total / calls, 1 - 1e-9)
            elif (known := _mean(sums, units.estimate)) is not None:
                means[each.metric] = known
    traffic = Traffic(
        units_per_day=seen.units.estimate / days,
        calls_per_unit=seen.calls / seen.units.estimate,
        slow_rates=slow_rates,
        means=means,
        **found,
    )
    return Measured(key, days, seen.units.estimate, seen.calls, traffic, frozenset({*found, *slow_rates, *means}))


def _share(some: UnitSample | None, units: UnitSample) -> float:
    """Share of the units that had an event."""
    if some is None:
        return 0.0
    level = max(some.level, units.level)
    return min(len(some.at(level)) / max(1, len(units.at(level))), 1 - 1e-9)


def _mean(sums: StratifiedBuckets, units: int) -> tuple[float, float] | None:
    """Mean and standard deviation per unit of a recorded metric; None where nothing was recorded."""
    known = spread_of(sums, _PHASE, _CONTROL, units)
    return known if known is not None and sums.nonzero(_CONTROL) else None
