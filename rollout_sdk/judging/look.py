"""One look at a rollout: everything a metric needs to compute a finding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from rollout_sdk.judging.minutes import CALLS, MINUTE_S, MULTIPLE
from rollout_sdk.judging.paired_labels import halves, pair_sums
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.unit_sample import FirstUnits, UnitSample, first_units
from rollout_sdk.judging.verdicts import Verdict
from rollout_sdk.judging.wording import percent
from rollout_sdk.plan import ERROR_RATE, Criteria, Criterion, Gate, Guardrail, Step
from rollout_sdk.stats import StratifiedBuckets

__all__ = ["Look", "Situation", "ceilings_of"]

_RECENT_MINUTES = 10
_LEAST_RECENT = 20
_LEAST_RATE, _LEAST_EVENTS = 0.01, 10
_CEILING = 0.5


@frozen(kw_only=True)
class Situation:
    """The state of a rollout when it is judged.

    Attributes:
        rollout: Key of the rollout.
        phase: Name of the current phase.
        revision: Its revision.
        control: Name of the control.
        candidates: Candidates that have not been rolled back.
        step: Requirements of the current step; None outside the plan.
        entered_s: Start of the phase, in seconds since 1970.
        is_last: Whether the next step is the promotion.
        shadowing: Whether no candidate serves yet.
        invalid: Why the rollout was found invalid, unless cleared; else empty.
        valid_from: Number of the first phase that counts: the one that started when an alarm was cleared.
        elapsed_s: Duration of the phase in seconds; None: computed from the clock.
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
    valid_from: int = 0
    elapsed_s: float | None = None


@frozen
class Look:
    """One look at the evidence.

    Attributes:
        phases: Evidence by phase, in order.
        criteria: The guardrails and gates.
        situation: The state of the rollout.
        now_s: Current time, in seconds since 1970.
        previous: The previous verdict; None at the first look.
        covariates: Sums of the covariate, or None.
    """

    phases: Sequence[tuple[str, PhaseEvidence]]
    criteria: Criteria
    situation: Situation
    now_s: float
    previous: Verdict | None = None
    covariates: StratifiedBuckets | None = None
    _firsts: dict[str, list[dict[str, FirstUnits]]] = field(factory=dict, repr=False)
    _units: dict[tuple[str, str], UnitSample] = field(factory=dict, repr=False)
    _outages: dict[int, frozenset[int]] = field(factory=dict, repr=False)

    @property
    def current(self) -> PhaseEvidence:
        """Evidence of the current phase."""
        return dict(self.phases).get(self.situation.phase, PhaseEvidence())

    @property
    def elapsed_s(self) -> float:
        """Duration of the phase in seconds."""
        elapsed_s = self.situation.elapsed_s
        return max(0.0, self.now_s - self.situation.entered_s if elapsed_s is None else elapsed_s)

    @property
    def alpha(self) -> float:
        """Error probability of an interval: alpha, shared by the candidates."""
        return self.criteria.alpha / max(1, len(self.situation.candidates))

    def shared(self, criterion: Criterion) -> dict[str, Any]:
        """Return the numbers common to all tests: the error probability and the number of tests."""
        deciding = sum(each.decides for each in self.criteria.guardrails)
        candidates = len(self.situation.candidates)
        # A guardrail that does not decide takes no share of alpha from those that do.
        alone = isinstance(criterion, Guardrail) and not criterion.decides
        return {"alpha": self.criteria.alpha, "tests": max(1, candidates * (deciding + alone)), "candidates": candidates}

    def share(self, phase: PhaseEvidence, candidate: str) -> float | None:
        """Return the candidate's share of the exposure of candidate and control in a phase; None if one has none."""
        ours, theirs = phase.shares.get(candidate, 0.0), phase.shares.get(self.situation.control, 0.0)
        if not (ours > 0 and theirs > 0):
            return None
        # A pair is one call of each arm.
        return 0.5 if phase.is_shadow else ours / (ours + theirs)

    @property
    def is_paired(self) -> bool:
        """Whether all evidence is paired: both arms have the same calls, so neither can lack calls that the other has."""
        return all(phase.is_shadow for _, phase in self.phases)

    def has_pairs(self, label: str, candidate: str) -> bool:
        """Whether values were recorded for the candidate's answers to shadowed calls, alone or beside the control's."""
        shadows = [(name, phase) for name, phase in self.phases if phase.is_shadow]
        if any(pair_sums(phase, label, candidate) is not None for _, phase in shadows):
            return True
        return halves(shadows, label, candidate) > 0

    def firsts(self, label: str) -> list[dict[str, FirstUnits]]:
        """Return for each phase the units of each arm whose first event with this label in the rollout falls into it."""
        known = self._firsts.get(label)
        if known is None:
            known = self._firsts[label] = first_units(_of(phase.events, label) for _, phase in self.phases)
        return known

    def units_of(self, arm: str, label: str = "") -> UnitSample:
        """Return the distinct units of an arm over all phases, or those that had an event with this label."""
        known = self._units.get((arm, label))
        if known is None:
            known = self._units[arm, label] = UnitSample()
            for _, phase in self.phases:
                sample = phase.events.get((label, arm)) if label else phase.units.get(arm)
                if sample is not None:
                    known.merge(sample)
        return known

    def fewest_units(self, candidate: str) -> int:
        """Return the smaller number of units of control and candidate."""
        return min(self.units_of(arm).estimate for arm in (self.situation.control, candidate))

    def served_units(self, arm: str) -> int:
        """Return the number of units of an arm in phases that serve candidates."""
        served = UnitSample()
        for _, phase in self.phases:
            if not phase.is_shadow and arm in phase.units:
                served.merge(phase.units[arm])
        return served.estimate

    def unusual_control(self) -> str | None:
        """Describe what is currently unusual about the control; None if nothing is.

        Ratios of rates are most precise while everything fails, but an outage says nothing about the candidate.
        """
        for label, ceiling in ceilings_of(self.criteria.guardrails).items():
            what = "of the control's calls fail" if label == ERROR_RATE else f"of the control's calls are slow ({label})"
            rate = self._recent_rate(label)
            share = rate[0] if rate is not None else 0.0
            if share <= ceiling:
                share = max(share, self._rate_in_phase(label))
            if share > ceiling:
                return f"{percent(share)} {what}, above the ceiling of {percent(ceiling)}"
            if rate is not None and rate[1] is not None:
                return f"{percent(share)} {what}, where {percent(rate[1])} usually do"
        return None

    def _recent_rate(self, label: str) -> tuple[float, float | None] | None:
        """Return the control's recent rate, and its usual rate if the recent one is a multiple of it."""
        minutes = self.current.minutes.get(self.situation.control)
        recent = {} if minutes is None else minutes.since(int(self.now_s // MINUTE_S) - _RECENT_MINUTES)
        if minutes is None or recent.get(CALLS, 0) < _LEAST_RECENT:
            return None
        rate = recent[label] / recent[CALLS]
        paced = [phase.minutes.get(self.situation.control) for _, phase in self.phases]
        known = (each.usual(label) for each in paced if each is not None)
        usual = min((each for each in known if each is not None), default=None)
        is_multiple = usual is not None and recent[label] >= _LEAST_EVENTS and rate > MULTIPLE * max(usual, _LEAST_RATE)
        return rate, usual if is_multiple else None

    def _rate_in_phase(self, label: str) -> float:
        """Return the control's rate in the current phase, excluding minutes of outages."""
        control, current = self.situation.control, self.current
        calls, sums = sum(current.calls.get(control, ())), current.sums.get(label)
        if calls < _LEAST_RECENT or sums is None:
            return 0.0
        left_out = self.outages(current)
        minutes = current.minutes.get(control)
        calls -= 0 if minutes is None else minutes.calls_in(left_out)
        slices = sums.without(left_out)
        return math.fsum(each.totals(self.situation.phase, control)[0] for each in slices) / max(1, calls)

    def outages(self, phase: PhaseEvidence) -> frozenset[int]:
        """Return the minutes of a phase that belong to an outage of any kind; they are excluded from the evidence."""
        known = self._outages.get(id(phase))
        if known is None:
            known = frozenset().union(
                *(phase.outages(label, ceiling) for label, ceiling in ceilings_of(self.criteria.guardrails).items())
            )
            self._outages[id(phase)] = known
        return known

    def calls_left(self, phase: PhaseEvidence, arm: str) -> float:
        """Return the fraction of an arm's calls in a phase outside outages."""
        left_out, minutes = self.outages(phase), phase.minutes.get(arm)
        calls = sum(phase.calls.get(arm, ()))
        if not left_out or minutes is None or not calls:
            return 1.0
        return max(0.0, 1 - minutes.calls_in(left_out) / calls)

    def last_looks(self, gate: Gate, candidate: str) -> list[list[float]]:
        """Return the planned looks taken at a gate so far: fraction, z, boundary and information of each."""
        if self.previous is None:
            return []
        for finding in self.previous.findings:
            if (finding.name, finding.kind, finding.candidate) == (gate.label, "gate", candidate):
                return [list(look) for look in finding.numbers.get("looks", ())]
        return []


def ceilings_of(criteria: Iterable[Criterion]) -> dict[str, float]:
    """Return the ceiling of every measured rate; errors are watched even without a guardrail on them."""
    guardrails = [each for each in criteria if isinstance(each, Guardrail)]
    watched = [each for each in guardrails if each.metric == ERROR_RATE or each.threshold_s is not None]
    return {ERROR_RATE: _CEILING, **{each.label: each.ceiling for each in watched}}


def _of(events: Mapping[tuple[str, str], UnitSample], label: str) -> dict[str, UnitSample]:
    """Return the units that had an event with this label, by arm."""
    return {arm: sample for (name, arm), sample in events.items() if name == label}
