"""What a report concludes about a rollout, as frozen values: the headline, and every number behind it.

A page, a terminal and JSON are made of these alone. Numbers are the judge's: the same evidence, weighed by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import asdict, frozen

from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.formatting import Shown
from rollout_sdk.judging import Outcome

__all__ = ["Check", "Difference", "Headline", "Novelty", "Point", "RolloutVerdict", "ToGo"]

Headline = Literal["SHIP", "DO NOT SHIP", "WAIT", "CHECK"]
"""SHIP: every gate passed, and every guardrail is significantly good enough. DO NOT SHIP: a guardrail is significantly worse
than accepted, a gate has significantly less than the effect worth having, or the rollout was stopped. CHECK: something is
broken, and the numbers cannot be trusted until it is fixed. WAIT: anything else."""

Kind = Literal["gate", "guardrail", "exploratory"]
"""What a metric was declared as; "exploratory": it was not."""


@frozen(kw_only=True)
class ToGo:
    """How long a criterion, or a whole test, still takes at the traffic seen.

    Attributes:
        days_50: Days until it has passed with a probability of one half; None: not within ten years.
        days_80: The same, with a probability of .8.
        units_50: Units of all arms that arrive in these days.
        units_80: The same for `days_80`.
        effect: The effect for which this holds: a gate's `mde`; 0.0 for a candidate that equals the control.
    """

    days_50: float | None
    days_80: float | None
    units_50: int | None
    units_80: int | None
    effect: float = 0.0


@frozen(kw_only=True)
class Point:
    """What was known about a metric at one look; ends and evidence are None while there is too little.

    Attributes:
        time_s: Time of the look, in seconds since 1970.
        estimate: Candidate minus control, in the metric's unit.
        low: Lower end of the interval, which holds at every look.
        high: Upper end.
        harm_log_e: Logarithm of the evidence that the candidate is too much worse; for an exploratory metric, that it is worse.
        safe_log_e: Logarithm of the evidence that it is good enough; for an exploratory metric, that it is better.
    """

    time_s: float
    estimate: float | None
    low: float | None
    high: float | None
    harm_log_e: float | None
    safe_log_e: float | None


@frozen(kw_only=True)
class Novelty:
    """Whether the effect of the first days lasts.

    Attributes:
        until_s: End of the first part, in seconds since 1970; calls after it are the later part.
        first: Candidate minus control in the first part.
        later: Candidate minus control in the later part.
        z: Difference of the two by its standard error.
    """

    until_s: float
    first: float
    later: float
    z: float

    @property
    def is_fading(self) -> bool:
        """Whether the two parts differ significantly, for one look: |z| of at least 3."""
        return abs(self.z) >= 3


@frozen(kw_only=True)
class Difference:
    """One metric of one candidate against the control, over all phases: compared within each, and never pooled across them.

    Attributes:
        metric: Name of the metric; with its threshold, if it has one: "latency>0.2s".
        candidate: Name of the candidate.
        kind: "gate", "guardrail", or "exploratory" for a metric that was not declared.
        outcome: The judge's outcome. An exploratory metric never has "PASS".
        reason: The judge's sentence.
        better: The direction in which the metric improves.
        unit: "share" (of the calls), "ratio" (the difference is relative), "value" (in the metric's own unit) or "preference".
        control: The control's mean; None without data.
        value: The candidate's mean.
        control_total: Sum of the control's values: events, for a metric of zeros and ones.
        control_count: What it is over: calls, outcomes, lists, or units with an error.
        value_total: Sum of the candidate's values.
        value_count: What it is over.
        counted: What the counts are of: "calls", "outcomes", "lists" or "units".
        estimate: Candidate minus control.
        low: Lower end of its interval at level 1 - alpha, which holds at every look; None while there is too little.
        high: Upper end.
        relative: Relative difference, candidate / control - 1.
        relative_low: Lower end of its interval, which holds at every look.
        relative_high: Upper end.
        mde: MDE reached: the smallest effect that would be significant with a probability of .8 at the information there is.
        harm_log_e: Logarithm of the evidence that the candidate is too much worse (exploratory: that it is worse).
        harm_needed: From where on it decides.
        safe_log_e: Logarithm of the evidence that it is good enough (exploratory: that it is better).
        safe_needed: From where on it decides.
        is_discovery: For an exploratory metric: whether it differs significantly, corrected over all of them (e-BH); else None.
        matured: Share of the decisions that are older than the metric's window.
        effective_units: Equally active units that would say as much, in the arm that has fewer.
        heaviest: Share of the most active unit in its arm, where it is at least a tenth; else None.
        decides: Whether the verdict depends on it.
        to_go: How long until it has passed; None if it has passed or failed, or if that is unknown.
        novelty: The first days against the later ones; None before two days.
        course: What was known at earlier looks, in order of time.
        numbers: Everything that the above is computed from, by name.
    """

    metric: str
    candidate: str
    kind: Kind
    outcome: Outcome
    reason: str
    better: Literal["higher", "lower"]
    unit: Literal["share", "ratio", "value", "preference"]
    control: float | None
    value: float | None
    control_total: float | None
    control_count: float | None
    value_total: float | None
    value_count: float | None
    counted: Literal["calls", "outcomes", "lists", "units"]
    estimate: float | None
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    mde: float | None
    harm_log_e: float | None
    harm_needed: float | None
    safe_log_e: float | None
    safe_needed: float | None
    is_discovery: bool | None
    matured: float
    effective_units: float | None
    heaviest: float | None
    decides: bool
    to_go: ToGo | None = None
    novelty: Novelty | None = None
    course: tuple[Point, ...] = ()
    numbers: Mapping[str, Any]


@frozen(kw_only=True)
class Check:
    """Something that a person must look into.

    Attributes:
        name: "shares", "labels", "completeness", "versions", "lost", "plan", "metric" (one that cannot be judged), "refused"
            (lines that cannot be counted), "heavy", "crossed", "novelty" or
            "segment" (one in which the candidate is significantly worse).
        what: What is broken, in one sentence.
        since_s: Since when, in seconds since 1970; None where that is not known.
        cure: What to do.
        is_fatal: Whether numbers cannot be trusted: the headline is CHECK. Otherwise it is a caution.
    """

    name: str
    what: str
    since_s: float | None
    cure: str
    is_fatal: bool = True


@frozen(kw_only=True)
class ServingProcess:
    """A process that served a rollout, as far as its journal shows: without calls, it writes nothing.

    Attributes:
        name: Host and process id, as in the names of its files.
        first_s: Time of its first call of the rollout, in seconds since 1970.
        last_s: Time of its last call.
    """

    name: str
    first_s: float
    last_s: float


@frozen(kw_only=True)
class RolloutVerdict(Shown):
    """What a journal says to do about one rollout with one fingerprint, and why.

    Attributes:
        rollout: Key of the rollout.
        version: Version of the candidates; empty when none was given.
        fingerprint: What makes its calls comparable.
        strategy: Name of the strategy: "ab", "canary", "shadow", "interleave", or a plugin's.
        status: Status, as last seen: "running", "shadowing", "paused", "promoted", "rolled_back", "aborted", or "replaced".
        phase: Name of the last phase that was judged.
        step: Number of the canary's step, from 1; None without steps.
        steps: How many steps its plan has; 0 without.
        control: Name of the control.
        candidates: Names of the candidates.
        is_declared: Whether gates or guardrails were declared; otherwise everything is exploratory, and only harm concludes.
        headline: What to do.
        candidate: The candidate that the headline is about; None if it is about all of them.
        reason: Why, in one sentence.
        action: What to do next, in one sentence.
        by_candidate: The headline for each candidate.
        differences: Every metric of every candidate: gates, guardrails, then exploratory ones.
        segments: Every metric of every candidate by segment, corrected; empty where no segments were declared.
        checks: What must be looked into, the worst first.
        to_go: How long until all of it has passed; None if it has, or if that is unknown.
        units: Units of each arm.
        calls: Calls of each arm.
        shares: Configured share of each arm in the last phase.
        realised: Share of each arm in the units that were first seen in the last phase.
        srm_log_e: Logarithm of the evidence that units are not in the arms in the configured shares; None: nothing to check.
        srm_needed: From where on it is an alarm.
        completeness: Share of the planned shadow runs that ended, by candidate; empty if nothing was shadowed.
        first_s: Time of the first call, in seconds since 1970; None without calls.
        last_s: Time of the last one.
        outcomes: Outcomes that did not count, by why: "late", "duplicate", "unknown", "capped".
        undeclared: Names of further recorded metrics, beyond the most that are analysed.
        alpha: Error probability.
        processes: The processes that served it, those seen last first; of many, the latest thousand.
    """

    rollout: str
    version: str
    fingerprint: str
    strategy: str
    status: str
    phase: str
    step: int | None
    steps: int
    control: str
    candidates: tuple[str, ...]
    is_declared: bool
    headline: Headline
    candidate: str | None
    reason: str
    action: str
    by_candidate: Mapping[str, Headline]
    differences: tuple[Difference, ...]
    segments: tuple[SegmentDifference, ...]
    checks: tuple[Check, ...]
    to_go: ToGo | None
    units: Mapping[str, int]
    calls: Mapping[str, int]
    shares: Mapping[str, float]
    realised: Mapping[str, float]
    srm_log_e: float | None
    srm_needed: float | None
    completeness: Mapping[str, float]
    first_s: float | None
    last_s: float | None
    outcomes: Mapping[str, int]
    undeclared: tuple[str, ...]
    alpha: float
    processes: tuple[ServingProcess, ...] = ()

    def __str__(self) -> str:
        """One line for a person."""
        who = f" {self.candidate}" if self.candidate else ""
        return f"{self.rollout}: {self.headline}{who}. {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible values; docs/deciding.md has the schema."""
        return asdict(self)
