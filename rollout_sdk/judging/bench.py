"""What each criterion says about each candidate: measured, weighed, and said in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from rollout_sdk.judging.evidence import Evidence
from rollout_sdk.judging.samples import UnitSample, common
from rollout_sdk.judging.sentences import explain
from rollout_sdk.judging.sums import UNTIMED, PhaseEvidence
from rollout_sdk.judging.verdicts import Finding, Outcome
from rollout_sdk.judging.weighing import (
    MIN_EVENTS,
    MIN_UNITS,
    Weight,
    weigh_assignment,
    weigh_difference,
    weigh_rare,
)
from rollout_sdk.plan import ERROR_RATE, LATENCY, Criteria, Criterion, Gate, Guardrail, Step
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Bench", "Situation"]


@frozen(kw_only=True)
class Situation:
    """Where a rollout stands when it is judged.

    Attributes:
        rollout: Key of the rollout.
        phase: Name of the current phase.
        revision: Its revision.
        control: Name of the control.
        candidates: Candidates that are still in.
        step: What the current step asks for; None outside the plan.
        entered_s: When the phase began, in seconds since 1970.
        is_last: Whether everybody gets the candidate next.
        shadowing: Whether nobody is served by a candidate yet.
        invalid: Why the rollout is latched as invalid; empty when it is not.
        valid_since_s: Shares are checked on units first seen from then on, in seconds since 1970.
        elapsed_s: How long the step has lasted by the deciding process's clocks; None: by `entered_s`.
    """

    rollout: str
    phase: str
    revision: int
    control: str
    candidates: tuple[str, ...]
    step: Step | None
    entered_s: float
    is_last: bool = False
    shadowing: bool = False
    invalid: str = ""
    valid_since_s: float = 0.0
    elapsed_s: float | None = None


def _of(events: Mapping[tuple[str, str], UnitSample], label: str) -> dict[str, UnitSample]:
    """By arm, the units that had the event of this label."""
    return {arm: sample for (name, arm), sample in events.items() if name == label}


@frozen
class Bench:
    """One look."""

    evidence: Evidence
    criteria: Criteria
    situation: Situation
    now_s: float

    def is_later(self, finding: Finding) -> bool:
        """Whether it is only asked for before everybody gets the candidate."""
        # While nobody is served, no user can click.
        return finding.kind == "gate" and (
            self.situation.shadowing
            or any(gate.label == finding.name and gate.before == "promotion" for gate in self.criteria.gates)
        )

    def finding(self, criterion: Criterion, candidate: str) -> Finding:
        """What one criterion says about one candidate; what cannot be judged is an ERROR, and holds."""
        kind = "gate" if isinstance(criterion, Gate) else "guardrail"
        try:
            if isinstance(criterion, Gate) and self.situation.shadowing:
                numbers, weight, outcome = {}, Weight(), "INSUFFICIENT_DATA"
                reason = "nobody is served by the candidate yet, so that there are no outcomes."
            else:
                rare = criterion.metric == ERROR_RATE
                numbers = self._rare(criterion, candidate) if rare else self._difference(criterion, candidate)  # type: ignore[arg-type]
                weight = weigh_rare(numbers) if rare else weigh_difference(numbers)
                outcome, reason = explain(criterion, candidate, numbers, weight)
        except Exception as error:
            return Finding(
                name=criterion.label,
                kind=kind,  # type: ignore[arg-type]
                candidate=candidate,
                outcome="ERROR",
                reason=f"{type(error).__qualname__}: {error}"[:200],
                numbers={},
                dry_run=criterion.dry_run,
            )
        return Finding(
            name=criterion.label,
            kind=kind,  # type: ignore[arg-type]
            candidate=candidate,
            outcome=outcome,  # type: ignore[arg-type]
            reason=reason,
            estimate=numbers.get("estimate"),
            low=weight.low,
            high=weight.high,
            control=numbers.get("control"),
            value=numbers.get("value"),
            harm_log_e=weight.harm_log_e,
            harm_needed=weight.harm_needed,
            safe_log_e=weight.safe_log_e,
            safe_needed=weight.safe_needed,
            numbers=numbers,
            matured=numbers.get("matured", 1.0),
            dry_run=criterion.dry_run,
        )

    def _shared(self, criterion: Criterion) -> dict[str, Any]:
        """What all tests are told: how sure they must be, given how many there are."""
        guardrails = sum(not each.dry_run for each in self.criteria.guardrails)
        candidates = len(self.situation.candidates)
        # One that decides nothing takes nothing from those that do.
        tests = candidates * (guardrails + criterion.dry_run)
        return {"alpha": self.criteria.alpha, "tests": max(1, tests), "candidates": candidates}

    def _strata(self, label: str, sums: StratifiedBuckets, candidate: str) -> Iterable[tuple[int, int, float, float]]:
        """For every phase with both arms: units with an error in the candidate's, in the control's, the share, and `firsts`.

        `firsts` is the part of the candidate's errors that are the first of their unit.
        """
        for name, phase in self.evidence.phases.items():
            ours, theirs = phase.shares.get(candidate, 0.0), phase.shares.get(self.situation.control, 0.0)
            if ours > 0 and theirs > 0:
                empty = UnitSample()
                mine, other = common(
                    phase.events.get((label, candidate), empty), phase.events.get((label, self.situation.control), empty)
                )
                errors, _ = sums.totals(name, candidate)
                erring = phase.events.get((label, candidate), empty).estimate
                yield len(mine), len(other), ours / (ours + theirs), min(1.0, erring / errors) if errors else 1.0

    def _units(self, label: str, candidate: str) -> tuple[int, int]:
        """Units of the candidate with an event in this phase, and of how many."""
        current, none = self.evidence.phases.get(self.situation.phase, PhaseEvidence()), UnitSample()
        # Of a unit that left early, nobody knows whether it would have had to wait: it is no unit that had not.
        hidden = none if label == ERROR_RATE else current.events.get((UNTIMED, candidate), none)
        events, units, unknown = common(
            current.events.get((label, candidate), none), current.units.get(candidate, none), hidden
        )
        return len(events - unknown), len(units - unknown)

    def _seen(self, candidate: str, label: str | None = None) -> list[int]:
        """Units of the control's and of the candidate's in all phases, or those with an event."""
        samples = [phase.units if label is None else _of(phase.events, label) for phase in self.evidence.phases.values()]
        arms = (self.situation.control, candidate)
        return [sum(each.get(arm, UnitSample()).estimate for each in samples) for arm in arms]

    def _compared(self, sums: StratifiedBuckets, candidate: str, times: float = 1.0) -> dict[str, float | None]:
        found = sums.difference(candidate, self.situation.control, times=times)
        std_error = found.std_error if math.isfinite(found.std_error) else None
        return {"estimate": found.estimate, "std_error": std_error, "df": found.df}

    def _totals(self, sums: StratifiedBuckets, arm: str) -> tuple[float, float]:
        totals = [sums.totals(phase, arm) for phase in sums.phases()]
        return math.fsum(each[0] for each in totals), math.fsum(each[1] for each in totals)

    def _values(self, sums: StratifiedBuckets, candidate: str) -> dict[str, Any]:
        """The mean of either arm, plainly: for people, while the tests take the difference phase by phase."""
        values: dict[str, Any] = {}
        for name, arm in (("control", self.situation.control), ("value", candidate)):
            total, weight = self._totals(sums, arm)
            values[name] = total / weight if weight else None
            values[f"{name}_total"], values[f"{name}_count"] = total, weight
        return values

    def _rare(self, criterion: Guardrail, candidate: str) -> dict[str, Any]:
        sums = self.evidence.sums(criterion)
        events, units = self._units(criterion.label, candidate)
        strata = list(self._strata(criterion.label, sums, candidate))
        units_seen, seen = min(self._seen(candidate)), self._seen(candidate, criterion.label)
        assert criterion.margin is not None
        assert criterion.harm is not None
        plain = self._compared(sums, candidate)
        return {
            **self._shared(criterion),
            **self._values(sums, candidate),
            "estimate": plain["estimate"],
            "strata": [list(each[:3]) for each in strata],
            "firsts": [each[3] for each in strata],
            "over_harm": self._compared(sums, candidate, 1 + criterion.harm) if criterion.harm else plain,
            "over_margin": self._compared(sums, candidate, 1 + criterion.margin),
            "enough_harm": units_seen >= MIN_UNITS and seen[1] >= MIN_EVENTS,
            "enough_safe": units_seen >= MIN_UNITS and min(seen) >= MIN_EVENTS,
            "harm": criterion.harm,
            "margin": criterion.margin,
            "floor": criterion.floor,
            "floor_events": events,
            "floor_units": units,
        }

    def _difference(self, criterion: Criterion, candidate: str) -> dict[str, Any]:
        is_gate, is_latency = isinstance(criterion, Gate), criterion.metric == LATENCY
        sums = self.evidence.sums(criterion)
        mature = self.evidence.sums(criterion, self.now_s - criterion.window) if criterion.window else sums
        arms = (self.situation.control, candidate)
        units = min(self._seen(candidate))
        if is_latency:
            seen = self._seen(candidate, criterion.label)
            # The control's slow calls may be few or none: for harm, what matters is how well the candidate's are known.
            events, for_harm = min(seen), seen[1]
        else:
            events, for_harm = (int(min(self._totals(each, arm)[1] for arm in arms)) for each in (mature, sums))
        weight, old = (math.fsum(self._totals(each, arm)[1] for arm in arms) for each in (sums, mature))
        exact = dict(zip(("events", "units"), self._units(criterion.label, candidate), strict=True)) if is_latency else {}
        return {
            **self._shared(criterion),
            **self._values(sums, candidate),
            **self._compared(sums, candidate),
            "mature": self._compared(mature, candidate),
            "matured": old / weight if weight else 0.0,
            "worse": 1 if criterion.better == "lower" else -1,
            "harm": None if is_gate else criterion.harm,  # type: ignore[union-attr]
            "margin": -criterion.min_effect if is_gate else criterion.margin,  # type: ignore[union-attr]
            "mde": criterion.mde,
            "seen_units": units,
            "seen_events": events,
            "enough_harm": units >= MIN_UNITS and for_harm >= MIN_EVENTS,
            "enough_safe": units >= MIN_UNITS and events >= MIN_EVENTS,
            **exact,
        }

    def assignment(self) -> Finding:
        """Whether the realised shares are the configured ones."""
        strata = []
        for phase in self.evidence.phases.values():
            arms = [arm for arm in (self.situation.control, *self.situation.candidates) if phase.shares.get(arm, 0.0) > 0]
            if len(arms) > 1 and phase.units:
                counts = [len(each) for each in common(*(phase.units.get(arm, UnitSample()) for arm in arms))]
                whole = math.fsum(phase.shares[arm] for arm in arms)
                strata.append([counts, [phase.shares[arm] / whole for arm in arms]])
        numbers = {"strata": strata}
        weight = weigh_assignment(numbers)
        if weight.is_harm:
            outcome: Outcome = "ERROR"
            reason = (
                "units are not in the arms in the configured shares. The comparison is not to be trusted until somebody has "
                "found out why: the rollout is held, and can still be rolled back."
            )
        else:
            outcome, reason = "PASS", "units are in the arms in the configured shares, as far as can be told."
        return Finding(
            name="assignment",
            kind="assignment",
            candidate=None,
            outcome=outcome,
            reason=reason,
            harm_log_e=weight.harm_log_e,
            harm_needed=weight.harm_needed,
            numbers=numbers,
        )
