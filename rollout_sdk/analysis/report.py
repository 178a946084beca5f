"""What a report says, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attrs import asdict, fields, frozen

from rollout_sdk.analysis.shadow_arms import FieldReport, LabelTable, PairedMetric
from rollout_sdk.analysis.verdict import Difference, RolloutVerdict
from rollout_sdk.formatting import Shown
from rollout_sdk.stats import MeanInterval

__all__ = [
    "CrossedReport",
    "LabelReport",
    "Latency",
    "MetricReport",
    "OtherSet",
    "PhaseReport",
    "PhaseShares",
    "Preference",
    "Report",
    "RolloutReport",
    "ShadowReport",
    "SharesReport",
    "VariantReport",
]

SCHEMA = 1
"""Version of the report's JSON; raised when a field changes its meaning or goes, never when one is added."""


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
class PhaseShares:
    """Where the units are that were first seen in one phase.

    Attributes:
        phase: Its name.
        units: Units by variant; each counts once in a rollout.
        configured: Configured shares by variant.
    """

    phase: str
    units: Mapping[str, int]
    configured: Mapping[str, float]


@frozen
class SharesReport:
    """Whether units are in the arms in the configured shares.

    Attributes:
        phases: The phases in which several arms have a share; shadows have none.
        log_e: Evidence of a sample ratio mismatch; None where there is nothing to check.
        highest_log_e: The highest that it ever was: the first alarm is not forgotten.
        needed: From where on it is one.
        is_mismatch: Whether it is one, by the highest. No interval that compares arms is given then.
    """

    phases: tuple[PhaseShares, ...]
    log_e: float | None
    highest_log_e: float | None
    needed: float
    is_mismatch: bool


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


@frozen
class CrossedReport:
    """Units of one rollout and fingerprint that were in several arms.

    Attributes:
        units: Units in all; calls that are their own units are not among them.
        in_phase: Units that had several variants in one phase: they count in each of these arms.
        between_phases: Other units that had several variants, as steps and `set_share` intend.
    """

    units: int
    in_phase: int
    between_phases: int


@frozen
class OtherSet:
    """Calls of the same rollout with another fingerprint, which are reported apart.

    Attributes:
        fingerprint: Theirs; empty where an earlier SDK wrote them.
        version: Their version.
        differs: Parts in which the two fingerprints differ; none where that is not known.
        at_once: Whether there were such calls at the same time.
        overlap: Share of this set's time, from its first call to its last, in which there were.
        shared: Units that were in both; None where units cannot be matched, because hash keys or layers differ.
        switched: Of these, the units that did not have one and the same variant; likewise.
    """

    fingerprint: str
    version: str
    differs: tuple[str, ...]
    at_once: bool
    overlap: float
    shared: int | None
    switched: int | None


@frozen
class RolloutReport:
    """One rollout with one fingerprint: calls that are comparable. Another fingerprint is another `RolloutReport`.

    Attributes:
        rollout: Its key.
        version: Version of the candidates; empty when none was given.
        fingerprint: What makes the calls comparable; empty where an earlier SDK wrote them.
        made_of: What the fingerprint is made of.
        others: The sets of arms beside this one.
        crossed: Units in several arms.
        strategy: Name of the strategy.
        status: Status, as last seen; "replaced" when another fingerprint has taken its place in a store.
        control: Name of the control.
        shares: Whether units are in the arms as configured.
        phases: Its phases.
        transitions: Its transitions.
        excluded: Calls that are not analysed, by reason.
        problems: Outcomes that could not be used, by why.
        joined: Outcomes of units that went to the unit's last call before them.
        codes: Forms of the candidates' code that its processes had. Several are pooled where a store keeps one rollout through
            a change of code; 0 where a version says what the candidates are, or an earlier SDK wrote it.
        verdict: What to do, and why; None for one of more rollouts than a report concludes about.
    """

    rollout: str
    version: str
    fingerprint: str
    made_of: Mapping[str, Any]
    others: tuple[OtherSet, ...]
    crossed: CrossedReport
    strategy: str
    status: str
    control: str
    shares: SharesReport
    phases: tuple[PhaseReport, ...]
    transitions: tuple[Mapping[str, Any], ...]
    excluded: Mapping[str, int]
    problems: Mapping[str, int]
    joined: int
    codes: int = 0
    verdict: RolloutVerdict | None = None


@frozen
class Report(Shown):
    """A journal, reported.

    Attributes:
        folder: Where it is.
        files: How many files were read.
        lines: How many lines.
        skipped: Lines that could not be read, by why.
        missing: Names of files that were there and are not any more, as far as the numbers of the others tell.
        repeated: Lines that are there twice, and count once.
        cut: How many of the damaged lines are the last of their file: being written, or cut by a kill.
        lost: Facts that writers had to drop.
        sampled: How many of these were of calls that were not drawn under overload: those that were kept stand for them.
        rollouts: The rollouts, in order of their first calls.
    """

    folder: str
    files: int
    lines: int
    skipped: Mapping[str, int]
    missing: tuple[str, ...]
    repeated: int
    lost: int
    sampled: int
    rollouts: tuple[RolloutReport, ...]
    cut: int = 0

    @property
    def damaged(self) -> int:
        """Lines and files that could not be read, but for the last lines of files."""
        return sum(self.skipped.values()) - self.cut

    def __str__(self) -> str:
        """What to do about each rollout, in a line each."""
        verdicts = [each.verdict for each in self.rollouts if each.verdict is not None]
        return "\n".join(map(str, verdicts)) or f"{self.folder}: no calls"

    def to_frame(self) -> Any:
        """Every metric of every candidate as a pandas DataFrame: a row for each difference of each rollout's verdict.

        Its columns are the fields of `Difference` that are single values, and `rollout`, `version`,
        `fingerprint` and `headline`.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas as pd  # type: ignore[import-untyped] # it has no types of its own

        about = ("rollout", "version", "fingerprint", "headline")
        left_out = {"to_go", "novelty", "course", "numbers"}
        names = [each.name for each in fields(Difference) if each.name not in left_out]
        rows = [
            [getattr(verdict, name) for name in about] + [getattr(each, name) for name in names]
            for verdict in (each.verdict for each in self.rollouts)
            if verdict is not None
            for each in verdict.differences
        ]
        return pd.DataFrame(rows, columns=[*about, *names])

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON; docs/report.schema.json describes them, and `schema` is its version."""
        return {"schema": SCHEMA, **asdict(self, value_serializer=_plain)}


def _plain(_: Any, __: Any, value: Any) -> Any:
    """JSON has no infinite numbers."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
