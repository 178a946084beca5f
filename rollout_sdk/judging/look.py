"""One look at a rollout: what a metric needs to say what it has found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from rollout_sdk.judging.minutes import CALLS, MINUTE_S, MULTIPLE
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
        candidates: Candidates that are still in.
        step: What the current step asks for; None outside the plan.
        entered_s: When the phase began, in seconds since 1970.
        is_last: Whether everybody gets the candidate next.
        shadowing: Whether no candidate serves yet.
        invalid: Why the rollout was found invalid and not cleared since; empty when it was not.
        valid_from: Number of the first phase that is evidence: the one that began when an alarm was cleared.
        elapsed_s: How long the phase has lasted; None: as the clock says.
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
    """One look.

    Attributes:
        phases: What was seen, by phase, in the order of the phases.
        criteria: What it is judged by.
        situation: The state of the rollout.
        now_s: The time, in seconds since 1970.
        previous: The verdict of the look before; None for the first.
        covariates: Sums of the covariate; None without one.
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
        """What was seen in the current phase."""
        return dict(self.phases).get(self.situation.phase, PhaseEvidence())

    @property
    def elapsed_s(self) -> float:
        """How long the phase has lasted, in seconds."""
        elapsed_s = self.situation.elapsed_s
        return max(0.0, self.now_s - self.situation.entered_s if elapsed_s is None else elapsed_s)

    @property
    def alpha(self) -> float:
        """The error probability of an interval: alpha, shared by the candidates."""
        return self.criteria.alpha / max(1, len(self.situation.candidates))

    def shared(self, criterion: Criterion) -> dict[str, Any]:
        """What every test is given: how sure it must be, given how many there are."""
        deciding = sum(each.decides for each in self.criteria.guardrails)
        candidates = len(self.situation.candidates)
        # One that decides nothing takes nothing from those that do.
        alone = isinstance(criterion, Guardrail) and not criterion.decides
        return {"alpha": self.criteria.alpha, "tests": max(1, candidates * (deciding + alone)), "candidates": candidates}

    def share(self, phase: PhaseEvidence, candidate: str) -> float | None:
        """The candidate's part of the exposure of candidate and control in a phase; None where only one of them is."""
        ours, theirs = phase.shares.get(candidate, 0.0), phase.shares.get(self.situation.control, 0.0)
        if not (ours > 0 and theirs > 0):
            return None
        # A pair is a call of both arms.
        return 0.5 if phase.is_shadow else ours / (ours + theirs)

    @property
    def is_paired(self) -> bool:
        """Whether all that was seen is pairs: both arms have the same calls, and neither can lack what the other has."""
        return all(phase.is_shadow for _, phase in self.phases)

    def firsts(self, label: str) -> list[dict[str, FirstUnits]]:
        """For every phase, the units of each arm that had an event of this label for the first time in the rollout."""
        known = self._firsts.get(label)
        if known is None:
            known = self._firsts[label] = first_units(_of(phase.events, label) for _, phase in self.phases)
        return known

    def units_of(self, arm: str, label: str = "") -> UnitSample:
        """The units of an arm over all phases, each once; or those that had an event of this label."""
        known = self._units.get((arm, label))
        if known is None:
            known = self._units[arm, label] = UnitSample()
            for _, phase in self.phases:
                sample = phase.events.get((label, arm)) if label else phase.units.get(arm)
                if sample is not None:
                    known.merge(sample)
        return known

    def fewest_units(self, candidate: str) -> int:
        """Units of the control or of the candidate, whichever has fewer."""
        return min(self.units_of(arm).estimate for arm in (self.situation.control, candidate))

    def served_units(self, arm: str) -> int:
        """Units of an arm in the phases in which candidates serve."""
        served = UnitSample()
        for _, phase in self.phases:
            if not phase.is_shadow and arm in phase.units:
                served.merge(phase.units[arm])
        return served.estimate

    def unusual_control(self) -> str | None:
        """What is unusual about the control right now; None when nothing is.

        Ratios of rates are known best while everything fails, and an outage says nothing about the candidate.
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
        """The control's rate in the last minutes, and its usual rate where the former is a multiple of it."""
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
        """The control's rate in the current phase, without the minutes of outages."""
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
        """The minutes of a phase that are part of an outage of any kind: nothing of them is evidence."""
        known = self._outages.get(id(phase))
        if known is None:
            known = frozenset().union(
                *(phase.outages(label, ceiling) for label, ceiling in ceilings_of(self.criteria.guardrails).items())
            )
            self._outages[id(phase)] = known
        return known

    def calls_left(self, phase: PhaseEvidence, arm: str) -> float:
        """The part of an arm's calls in a phase that are not an outage's."""
        left_out, minutes = self.outages(phase), phase.minutes.get(arm)
        calls = sum(phase.calls.get(arm, ()))
        if not left_out or minutes is None or not calls:
            return 1.0
        return max(0.0, 1 - minutes.calls_in(left_out) / calls)

    def last_looks(self, gate: Gate, candidate: str) -> list[list[float]]:
        """The planned looks that were taken at a gate so far: fraction, z, boundary and information of each."""
        if self.previous is None:
            return []
        for finding in self.previous.findings:
            if (finding.name, finding.kind, finding.candidate) == (gate.label, "gate", candidate):
                return [list(look) for look in finding.numbers.get("looks", ())]
        return []


def ceilings_of(criteria: Iterable[Criterion]) -> dict[str, float]:
    """The ceiling of every rate that the SDK measures; errors are looked at even where no guardrail is about them."""
    guardrails = [each for each in criteria if isinstance(each, Guardrail)]
    watched = [each for each in guardrails if each.metric == ERROR_RATE or each.threshold_s is not None]
    return {ERROR_RATE: _CEILING, **{each.label: each.ceiling for each in watched}}


def _of(events: Mapping[tuple[str, str], UnitSample], label: str) -> dict[str, UnitSample]:
    """By arm, the units that had the event of this label."""
    return {arm: sample for (name, arm), sample in events.items() if name == label}
