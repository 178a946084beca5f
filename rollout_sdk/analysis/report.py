"""What a report says, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, frozen

from rollout_sdk.stats import MeanInterval

__all__ = ["Latency", "MetricReport", "PhaseReport", "Preference", "Report", "RolloutReport", "ShadowReport", "VariantReport"]


@frozen
class Latency:
    """Durations of runs, in seconds; None where there were none."""

    runs: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@frozen
class MetricReport:
    """One metric of one variant in one phase.

    Attributes:
        metric: Its name.
        outcomes: How many were recorded.
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
        calls: Analysed calls.
        units: Units that made them.
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
    units: int
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
        latency: Durations of the runs that came back.
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
    latency: Latency


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
class PhaseReport:
    """One period of constant shares."""

    phase: str
    first_s: float | None
    last_s: float | None
    variants: tuple[VariantReport, ...]
    shadows: tuple[ShadowReport, ...]
    preferences: tuple[Preference, ...]


@frozen
class RolloutReport:
    """One rollout."""

    rollout: str
    strategy: str
    status: str
    control: str
    phases: tuple[PhaseReport, ...]
    transitions: tuple[Mapping[str, Any], ...]
    excluded: Mapping[str, int]
    problems: Mapping[str, int]


@frozen
class Report:
    """A journal, reported.

    Attributes:
        folder: Where it is.
        files: How many files were read.
        lines: How many lines.
        skipped: Lines that could not be read, by why.
        lost: Facts that writers had to drop.
        rollouts: The rollouts, in order of their first calls.
    """

    folder: str
    files: int
    lines: int
    skipped: Mapping[str, int]
    lost: int
    rollouts: tuple[RolloutReport, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)
