"""What a report says of one phase, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from rollout_sdk.analysis.shadow_arms import FieldReport, LabelTable, PairedMetric
from rollout_sdk.stats import MeanInterval

__all__ = [
    "LabelReport",
    "Latency",
    "MetricReport",
    "PhaseReport",
    "Preference",
    "QuantileReport",
    "ShadowReport",
    "VariantReport",
]


@frozen
class Latency:
    """Durations of runs, in seconds; None where there were none."""

    runs: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@frozen(kw_only=True)
class QuantileReport:
    """A quantile: a candidate's against the control's.

    Attributes:
        metric: "latency", that of own runs, in seconds; or the name of a recorded metric, that of its values.
        q: Which quantile: 0.95 is p95.
        candidate: Name of the candidate.
        control: The control's.
        value: The candidate's.
        difference: Candidate minus control.
        low: Lower end of its interval, which holds at every look; None while there is too little.
        high: Upper end.
    """

    metric: str
    q: float
    candidate: str
    control: float
    value: float
    difference: float
    low: float | None
    high: float | None


@frozen
class MetricReport:
    """One metric of one variant in one phase.

    Attributes:
        metric: Its name.
        outcomes: How many were recorded; 0 where only other variants have some.
        per_call: Sum of values by calls; a call without an outcome counts as 0 (clicks, purchases).
        per_outcome: Mean of the recorded values (ratings, correctness where each call has a label).
    """

    metric: str
    outcomes: int
    per_call: MeanInterval
    per_outcome: MeanInterval


@frozen
class VariantReport:
    """One variant in one phase.

    Attributes:
        variant: Its name.
        calls: Analysed calls. Where some were drawn under overload, an unbiased estimate, and so are the other counts of calls,
            runs and outcomes.
        kept: Those that are in the journal.
        units: Units that made them.
        effective_units: Number of equally active units that would say as much: (sum of calls)^2 / sum of squared calls.
        heaviest: Share of the most active unit in the calls.
        share_configured: Configured share; None where the strategy states none.
        share_of_calls: Realised share of the phase's calls.
        share_of_units: Realised share of the phase's units.
        errors: Failed calls by type, charged to the assigned variant.
        error_rate: Failed calls by calls in which it ran; None when it ran in none.
        fallbacks: Calls that the control answered instead.
        withheld: Calls in which it was not run at all, by why: "breaker_open", "aborted", "disabled".
        closed_early: Streams left before their end.
        latency: By the variant that ran: one, or for a blended answer several.
        metrics: The recorded metrics.
    """

    variant: str
    calls: int
    kept: int
    units: int
    effective_units: float
    heaviest: float
    share_configured: float | None
    share_of_calls: float
    share_of_units: float
    errors: Mapping[str, int]
    error_rate: float | None
    fallbacks: int
    withheld: Mapping[str, int]
    closed_early: int
    latency: Mapping[str, Latency]
    metrics: tuple[MetricReport, ...]


@frozen
class ShadowReport:
    """One candidate's shadow runs in one phase.

    Attributes:
        variant: Its name.
        planned: Runs that decisions asked for.
        ends: How they ended.
        completeness: Share of the planned runs that came back; agreement speaks of these only.
        compared: Runs that were compared.
        agreement: Share of the compared runs that matched.
        difference: Mean difference, where the comparator gave one.
        reasons: Mismatches by why.
        errors: Failed runs by type.
        not_copied: Runs without a copy of their input, by why: the type, or the limit, and the argument's name.
        latency: Durations of the runs that came back.
        control_latency: Durations of the control's runs of the same calls. A shadow waits for its turn in the background, and
            shares the processor with calls, so it tends to be slower than it would be in the control's place.
        comparators: Compared runs by comparator.
        noise: Share of the control's second runs that differ from the first (`noise=`); None without any.
        fields: Fields of the answers, as `compare=Fields(...)` compared them.
        labels: Which class became which, with `compare=Label()`; None without classes.
        metrics: Metrics of which both answers to a call have a value.
    """

    variant: str
    planned: int
    ends: Mapping[str, int]
    completeness: float | None
    compared: int
    agreement: MeanInterval
    difference: MeanInterval
    reasons: Mapping[str, int]
    errors: Mapping[str, int]
    not_copied: Mapping[str, int]
    latency: Latency
    control_latency: Latency
    comparators: Mapping[str, int]
    noise: float | None
    fields: tuple[FieldReport, ...]
    labels: LabelTable | None
    metrics: tuple[PairedMetric, ...]


@frozen
class Preference:
    """What clicks in interleaved lists say of a candidate against the control (Chapelle et al., TOIS 2012).

    Attributes:
        candidate: Its name.
        metric: What was counted: "click".
        lists: Lists shown.
        wins: Lists in which the candidate's items got more.
        losses: Lists in which the control's did.
        ties: The others; lists without any click among them.
        preference: (wins + ties / 2) / lists - 1/2: above 0, users prefer the candidate.
        is_fair: Whether equal rankers win as many lists in this design; where not, ask `analyze_interleaving`, which compares
            the credit.
    """

    candidate: str
    metric: str
    lists: int
    wins: int
    losses: int
    ties: int
    preference: MeanInterval
    is_fair: bool = True


@frozen
class LabelReport:
    """How often a metric is recorded that not every unit has, in one phase.

    Attributes:
        metric: Its name.
        rates: Share of the units with an outcome, by variant.
        log_e: Evidence that the rates differ; None where each recorded value is the same, so that having one is the outcome (a
            click).
        differs: Whether they surely do: the values are then of units that were selected differently.
    """

    metric: str
    rates: Mapping[str, float]
    log_e: float | None
    differs: bool


@frozen
class PhaseReport:
    """One period of constant shares."""

    phase: str
    first_s: float | None
    last_s: float | None
    variants: tuple[VariantReport, ...]
    labels: tuple[LabelReport, ...]
    shadows: tuple[ShadowReport, ...]
    preferences: tuple[Preference, ...]
    quantiles: tuple[QuantileReport, ...] = ()
