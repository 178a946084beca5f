"""The report of a journal: what was configured, what happened, what was measured, and what to do.

What to do is the judge's: see `rollout_sdk.analysis.verdict`. The tables of arms describe; their intervals are for one look,
with the unit as the cluster. Neither phases nor fingerprints are ever pooled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import evolve

from rollout_sdk.analysis.arms import Arm, Credit, Gathered
from rollout_sdk.analysis.conclude import conclude
from rollout_sdk.analysis.gather import Aggregate
from rollout_sdk.analysis.judged import Judged
from rollout_sdk.analysis.judged_in_sql import judged_of
from rollout_sdk.analysis.metrics import labels_of, metrics_of, voided
from rollout_sdk.analysis.phase_report import Latency, MetricReport, PhaseReport, Preference, ShadowReport, VariantReport
from rollout_sdk.analysis.quantiles import quantile, quantiles_of
from rollout_sdk.analysis.reduced import opened, sums_of
from rollout_sdk.analysis.report import Report, RolloutReport
from rollout_sdk.analysis.segment_differences import asked_of
from rollout_sdk.analysis.selected import SelectedJournal
from rollout_sdk.analysis.sets import began_s, crossed, others
from rollout_sdk.analysis.shadow_arms import ShadowArm
from rollout_sdk.analysis.shares import shares_of
from rollout_sdk.journal import Journal
from rollout_sdk.stats import ratio_of_sums
from rollout_sdk.stats.clusters import effective_of

__all__ = ["concluded", "latency_of", "phase_order", "report_of", "shadow_of", "summarise"]


def latency_of(ordered: Sequence[float]) -> Latency:
    """Quantiles of durations, which are in ascending order."""
    if not ordered:
        return Latency(0, None, None, None)
    return Latency(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.95), quantile(ordered, 0.99))


def _variant(
    variant: str, arm: Arm, configured: float | None, calls: int, units: int, metrics: tuple[MetricReport, ...]
) -> VariantReport:
    by_unit = arm.by_unit()
    own = by_unit.total
    effective, heaviest = effective_of(by_unit.calls)
    ran = own - arm.withheld.total()
    return VariantReport(
        variant=variant,
        calls=own,
        kept=arm.kept,
        units=by_unit.units,
        effective_units=effective,
        heaviest=heaviest or 0.0,
        share_configured=configured,
        share_of_calls=own / calls,
        share_of_units=by_unit.units / units,
        errors=dict(arm.errors),
        error_rate=arm.errors.total() / ran if ran else None,
        fallbacks=arm.fallbacks,
        withheld=dict(arm.withheld),
        closed_early=arm.closed_early,
        latency={ran: latency_of(runs.ordered()) for ran, runs in arm.latency_s.items()},
        metrics=metrics,
    )


def shadow_of(variant: str, arm: ShadowArm, again: ShadowArm | None) -> ShadowReport:
    """What the shadow runs of a candidate say; `again` are the control's second runs, if there are any."""
    # A run whose decision is in a file that is gone was planned, too.
    planned = max(arm.planned, arm.ends.total())
    returned = arm.ends["ok"] + arm.ends["error"]
    return ShadowReport(
        variant=variant,
        planned=planned,
        ends=dict(arm.ends),
        completeness=returned / planned if planned else None,
        compared=int(sum(count for _, count in arm.matches.values())),
        agreement=ratio_of_sums(((total, count) for total, count in arm.matches.values()), within=(0.0, 1.0)),
        difference=ratio_of_sums((total, count) for total, count in arm.differences.values()),
        reasons=dict(arm.reasons),
        errors=dict(arm.errors),
        not_copied=dict(arm.not_copied),
        latency=latency_of(sorted(arm.latency_s)),
        control_latency=latency_of(sorted(arm.control_latency_s)),
        comparators=dict(arm.comparators),
        noise=None if again is None else again.mismatch,
        fields=arm.fields(again),
        labels=arm.table(),
        metrics=arm.metrics(),
    )


def _preferences(arm: Arm, *, is_void: bool) -> list[Preference]:
    preferences = []
    candidates = sorted({candidate for candidate, _ in arm.credit})
    metrics = sorted({metric for _, metric in arm.credit if metric})
    for candidate in candidates:
        shown = arm.credit[candidate, ""]
        for metric in metrics:
            credit = arm.credit.get((candidate, metric), Credit())
            lists = shown.ties
            # Half the sum of (+1, 0, -1), because a preference runs from -1/2 to 1/2.
            by_unit = ((credit.by_unit.get(unit, (0.0, 0.0))[0] / 2, count) for unit, (_, count) in shown.by_unit.items())
            preferred = ratio_of_sums(by_unit, within=(-0.5, 0.5))
            preferences.append(
                Preference(
                    candidate=candidate,
                    metric=metric,
                    lists=lists,
                    wins=credit.wins,
                    losses=credit.losses,
                    ties=lists - credit.wins - credit.losses,
                    preference=voided(preferred) if is_void else preferred,
                    is_fair=shown.is_fair,
                )
            )
    return preferences


def phase_order(phase: str) -> tuple[int, str]:
    """Sorts phases as they followed each other: their names begin with a number."""
    number, _, _ = phase.partition(":")
    return (int(number) if number.isdigit() else -1, phase)


def _phase(phase: str, gathered: Gathered, *, is_void: bool) -> PhaseReport:
    arms = {variant: arm for (name, variant), arm in gathered.arms.items() if name == phase and arm.by_unit().calls}
    shares = gathered.shares.get(phase, {})
    calls = sum(arm.by_unit().total for arm in arms.values())
    units = sum(arm.by_unit().units for arm in arms.values())
    order = sorted(arms, key=lambda variant: (variant != gathered.control, variant))
    span = gathered.spans.get(phase, [None, None])
    metrics = metrics_of(arms, is_void=is_void)
    return PhaseReport(
        phase=phase,
        first_s=span[0],
        last_s=span[1],
        variants=tuple(
            _variant(variant, arms[variant], shares.get(variant, arms[variant].share), calls, units, metrics[variant])
            for variant in order
        ),
        labels=labels_of({variant: arms[variant] for variant in order}, is_void=is_void),
        shadows=tuple(
            shadow_of(variant, arm, gathered.shadows.get((phase, gathered.control)))
            for (name, variant), arm in sorted(gathered.shadows.items())
            # Second runs of the control measure its noise: they are not a candidate's.
            if name == phase and variant != gathered.control
        ),
        preferences=tuple(preference for variant in order for preference in _preferences(arms[variant], is_void=is_void)),
        quantiles=quantiles_of({variant: arms[variant] for variant in order}, gathered.control, is_void=is_void),
    )


def _configured(gathered: Gathered, phases: Iterable[str]) -> dict[str, dict[str, float]]:
    """Configured shares by phase, in order; from the decisions where the rollout's own line is missing."""
    found = {}
    for phase in sorted(phases, key=phase_order):
        arms = {variant: arm.share for (name, variant), arm in gathered.arms.items() if name == phase}
        shares = gathered.shares.get(phase) or {variant: share for variant, share in arms.items() if share is not None}
        found[phase] = dict(sorted(shares.items(), key=lambda item: (item[0] != gathered.control, item[0])))
    return found


def _rollout(key: str, fingerprint: str, sets: Mapping[str, Gathered]) -> RolloutReport:
    gathered = sets[fingerprint]
    seen = {phase for phase, _ in (*gathered.arms, *gathered.shadows)}
    shares = shares_of(gathered.arrivals, _configured(gathered, seen))
    return RolloutReport(
        rollout=key,
        version=gathered.version,
        fingerprint=fingerprint,
        made_of=dict(gathered.made_of),
        others=others(fingerprint, sets),
        crossed=crossed(gathered),
        strategy=gathered.strategy,
        status=gathered.status,
        control=gathered.control,
        shares=shares,
        phases=tuple(_phase(phase, gathered, is_void=shares.is_mismatch) for phase in sorted(seen, key=phase_order)),
        transitions=tuple(gathered.transitions),
        excluded=dict(gathered.excluded),
        problems={why: number for why, number in gathered.problems.items() if number},
        joined=gathered.joined,
        codes=len(gathered.codes),
    )


def _began(sets: Mapping[str, Gathered]) -> float:
    """When a rollout's first call was, to tell them in that order."""
    return min(map(began_s, sets.values()), default=math.inf)


def _in_order(rollouts: Mapping[str, Mapping[str, Gathered]]) -> Iterable[RolloutReport]:
    """The rollouts in order of their first calls, and so the sets of each."""
    for key, sets in sorted(rollouts.items(), key=lambda each: (_began(each[1]), each[0])):
        for fingerprint in sorted(sets, key=lambda each: (began_s(sets[each]), each)):
            yield _rollout(key, fingerprint, sets)


def summarise(
    folder: str | os.PathLike[str],
    *,
    rollout: str | None = None,
    since_s: float | None = None,
    phase: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """The report of the journal in a folder.

    Args:
        folder: Folder of the journal.
        rollout: Key of the rollout that is reported; None: all.
        since_s: Time of the first decision that counts, in seconds since 1970; None: all count.
        phase: Name or number of the phase that is reported; None: all.
        progress: Called with the bytes read so far, and with how many there are.

    Raises:
        ConfigurationError: There is no such folder.
    """
    journal = SelectedJournal(folder, rollout=rollout, since_s=since_s, phase=phase)
    # Read twice: once for what the judge saw, in order of time.
    first, second = _halves(progress)
    with opened(journal) as database:
        found = judged_of(journal, database, first)
        asked = {which: asked for which, one in found.items() if (asked := asked_of(one)) is not None}
        return report_of(journal, sums_of(journal, second, asked, database=database), found)


def _halves(
    progress: Callable[[int, int], None] | None,
) -> tuple[Callable[[int, int], None] | None, Callable[[int, int], None] | None]:
    """The progress of two readings as that of one."""
    if progress is None:
        return None, None
    update = progress
    return (lambda done, of: update(done, 2 * of)), (lambda done, of: update(of + done, 2 * of))


def report_of(journal: Journal, aggregate: Aggregate, found: Mapping[tuple[str, str], Judged] | None = None) -> Report:
    """The report of a journal that was just read.

    Args:
        journal: The journal.
        aggregate: What was gathered.
        found: What the judge saw, by rollout and fingerprint; without it, nothing is concluded.
    """
    report = Report(
        folder=str(journal.folder),
        files=len(journal.files),
        lines=journal.lines,
        skipped=dict(journal.skipped),
        missing=journal.missing,
        repeated=journal.repeated,
        lost=aggregate.lost,
        sampled=aggregate.sampled,
        rollouts=tuple(_in_order(aggregate.rollouts)),
        cut=journal.cut,
    )
    return report if found is None else concluded(report, found, aggregate)


def concluded(report: Report, found: Mapping[tuple[str, str], Judged], aggregate: Aggregate | None = None) -> Report:
    """The report with what follows from what the judge saw, by rollout and fingerprint; of segments, if there are the sums."""
    facts = report.lines + report.lost
    lost_share = max(0, report.lost - report.sampled) / facts if facts else 0.0
    rollouts = []
    for each in report.rollouts:
        one = found.get((each.rollout, each.fingerprint))
        sums = None if aggregate is None else aggregate.rollouts[each.rollout][each.fingerprint].segments
        verdict = None if one is None else conclude(each, one, lost_share=lost_share, sums=sums)
        rollouts.append(evolve(each, verdict=verdict))
    return evolve(report, rollouts=tuple(rollouts))
