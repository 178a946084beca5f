"""The tables of a report, phase by phase: what was measured in every arm, without a conclusion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rollout_sdk.analysis.cautions import (
    about_completeness,
    about_crossed,
    about_kept,
    about_labels,
    about_missing,
    about_others,
    about_repeated,
    about_sampled,
    about_shares,
    about_units,
)
from rollout_sdk.analysis.phase_report import Latency, PhaseReport, Preference, QuantileReport, ShadowReport, VariantReport
from rollout_sdk.analysis.phrases import absolute
from rollout_sdk.analysis.quantiles import LATENCY
from rollout_sdk.analysis.report import Report, RolloutReport
from rollout_sdk.analysis.shadow_text import about_answers
from rollout_sdk.analysis.verdict import RolloutVerdict
from rollout_sdk.formatting import fitting, plain, table, when
from rollout_sdk.judging import Verdict
from rollout_sdk.stats import MeanInterval

__all__ = ["about_journal", "as_text"]

_LONGEST_LINE = 1_000
"""Names in a journal can be anything, and so can their length."""

_SKIPPED = {"schema": "written by a newer SDK", "over the limit": "of more rollouts than a report has"}
_NONE = "-"


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{share * 100:.2f} %"


def _ms(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds * 1000:,.3f}"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4g}"


def _estimate(estimate: MeanInterval) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{_number(estimate.mean)} [{_NONE}]"
    ends = f"[{_number(estimate.low)}, {_number(estimate.high)}]"
    return f"{_number(estimate.mean)} {ends}{'' if estimate.caution is None else '*'}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())) or _NONE


def _latency_cells(latency: Latency) -> list[str]:
    return [_ms(latency.p50_s), _ms(latency.p95_s), _ms(latency.p99_s)]


def _variants(variants: Sequence[VariantReport]) -> Iterator[str]:
    head = [
        "variant",
        "calls",
        "units",
        "configured",
        "of calls",
        "of units",
        "errors",
        "fell back",
        "p50 ms",
        "p95 ms",
        "p99 ms",
    ]
    rows = [head]
    for variant in variants:
        several = len(variant.latency) > 1
        own = variant.latency.get(variant.variant, Latency(0, None, None, None))
        shares = map(_percent, (variant.share_configured, variant.share_of_calls, variant.share_of_units))
        faults = [f"{sum(variant.errors.values()):,} ({_percent(variant.error_rate)})", f"{variant.fallbacks:,}"]
        rows.append([variant.variant, f"{variant.calls:,}", f"{variant.units:,}", *shares, *faults, *_latency_cells(own)])
        if several or variant.variant not in variant.latency:
            rows.extend([f"  run of {ran}", *[""] * 7, *_latency_cells(latency)] for ran, latency in variant.latency.items())
    yield from table(rows, indent="    ", ruled=True)
    for variant in variants:
        if variant.errors:
            yield f"    errors of {variant.variant}: {_counts(variant.errors)}"
        if variant.withheld:
            yield f"    {variant.variant} was assigned and not run: {_counts(variant.withheld)}"


def _quantiles(quantiles: Sequence[QuantileReport]) -> Iterator[str]:
    """Differences of latency and of recorded values; these intervals hold at every look."""
    for is_latency, *head in ((True, "latency", "control ms", "candidate ms"), (False, "values", "control", "candidate")):
        rows = [[head[0], "candidate", *head[1:], "difference [at every look]"]]
        for each in quantiles:
            if is_latency != (each.metric == LATENCY):
                continue
            show, signed = (_ms, _signed_ms) if is_latency else (_number, _signed)
            name = f"{'' if is_latency else f'{each.metric} '}p{each.q * 100:.4g}"
            ends = f"[{signed(each.low)}, {signed(each.high)}]"
            rows.append([name, each.candidate, show(each.control), show(each.value), f"{signed(each.difference)} {ends}"])
        if len(rows) > 1:
            yield ""
            yield from table(rows, indent="    ", left=2, ruled=True)


def _signed_ms(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds * 1000:+,.3f}"


def _signed(value: float | None) -> str:
    return _NONE if value is None else f"{value:+,.4g}"


def _metrics(variants: Sequence[VariantReport]) -> Iterator[str]:
    rows = [["metric", "variant", "outcomes", "mean per call [95 %]", "mean per outcome [95 %]"]]
    metrics = sorted({metric.metric for variant in variants for metric in variant.metrics})
    for name in metrics:
        for variant in variants:
            for metric in variant.metrics:
                if metric.metric == name:
                    cells = [f"{metric.outcomes:,}", _estimate(metric.per_call), _estimate(metric.per_outcome)]
                    rows.append([name, variant.variant, *cells])
    if len(rows) > 1:
        yield ""
        yield from table(rows, indent="    ", left=2, keys=2, ruled=True)


def _shadows(shadows: Sequence[ShadowReport]) -> Iterator[str]:
    if not shadows:
        return
    rows = [["shadow", "planned", "came back", "compared", "agreement [95 %]", "difference [95 %]", "errors"]]
    for shadow in shadows:
        came_back = f"{shadow.latency.runs:,} ({_percent(shadow.completeness)})"
        cells = [
            f"{shadow.planned:,}",
            came_back,
            f"{shadow.compared:,}",
            _estimate(shadow.agreement),
            _estimate(shadow.difference),
        ]
        rows.append([shadow.variant, *cells, f"{sum(shadow.errors.values()):,}"])
    yield ""
    yield from table(rows, indent="    ", ruled=True)
    for shadow in shadows:
        lost = {end: number for end, number in shadow.ends.items() if end not in ("ok", "error")}
        if lost:
            yield f"    {shadow.variant} did not come back: {_counts(lost)}; agreement speaks of the runs that did"
        if shadow.not_copied:
            yield f"    {shadow.variant} had no copy of its input: {_counts(shadow.not_copied)}"
        yield from about_completeness(shadow)
        if shadow.reasons:
            yield f"    {shadow.variant} differed in: {_counts(shadow.reasons)}"
        if shadow.errors:
            yield f"    {shadow.variant} failed with: {_counts(shadow.errors)}"
    yield from about_answers(shadows)


def _preferences(preferences: Sequence[Preference]) -> Iterator[str]:
    if not preferences:
        return
    rows = [["preference for", "by", "lists", "won", "lost", "tied", "preference [95 %]"]]
    for preference in preferences:
        counts = [f"{number:,}" for number in (preference.lists, preference.wins, preference.losses, preference.ties)]
        rows.append([preference.candidate, preference.metric, *counts, _estimate(preference.preference)])
    yield ""
    yield from table(rows, indent="    ", ruled=True)
    yield "    (from -0.5, all for the control, to 0.5, all for the candidate)"
    if not all(preference.is_fair for preference in preferences):
        yield "    Lists that are won mean nothing in this design: analyze_interleaving() compares the credit."


def _phase(phase: PhaseReport) -> Iterator[str]:
    yield ""
    yield f"  Phase {phase.phase}   {when(phase.first_s)} to {when(phase.last_s)}"
    if phase.variants:
        yield from _variants(phase.variants)
        yield from _quantiles(phase.quantiles)
        yield from about_kept(phase)
        yield from about_units(phase)
        yield from _metrics(phase.variants)
        yield from about_labels(phase)
    yield from _shadows(phase.shadows)
    yield from _preferences(phase.preferences)


def _segments(verdict: RolloutVerdict | None) -> Iterator[str]:
    """Every metric by segment; these intervals hold at every look."""
    if verdict is None or not verdict.segments:
        return
    yield ""
    yield "  Segments: intervals hold at every look, corrected for their number; *: significant"
    for metric, candidate in dict.fromkeys((each.metric, each.candidate) for each in verdict.segments):
        mine = [each for each in verdict.segments if (each.metric, each.candidate) == (metric, candidate)]
        rows = [
            [
                f"{each.attribute}={each.segment}",
                _number(each.control),
                _number(each.value),
                f"{'* ' if each.is_discovery else ''}{absolute(each)}",
            ]
            for each in mine
            if each.control_total or each.value_total
        ]
        if rows:
            yield from table([[metric, verdict.control, candidate, "difference"], *rows], indent="    ", ruled=True)


def _rollout(rollout: RolloutReport) -> Iterator[str]:
    yield ""
    version = f", version {rollout.version}" if rollout.version else ""
    fingerprint = f", fingerprint {rollout.fingerprint or 'unknown'}" if rollout.others else ""
    yield f"{rollout.rollout}{version}{fingerprint}: {rollout.strategy}, {rollout.status}"
    yield from about_others(rollout.others)
    yield from about_shares(rollout.shares)
    yield from about_crossed(rollout.crossed)
    for phase in rollout.phases:
        yield from _phase(phase)
    yield from _segments(rollout.verdict)
    if rollout.transitions:
        yield ""
        for record in rollout.transitions:
            who = f" by {record['actor']}" if record.get("actor") else ""
            why = f": {record['reason']}" if record.get("reason") else ""
            yield f"  {when(record.get('t'))}  {record['action']} to {record['to_phase']}{who}{why}"
            yield from _arithmetic(record.get("verdict"))
    if rollout.excluded:
        yield f"  Calls not analysed: {_counts(rollout.excluded)}"
    alone = rollout.problems.get("unit without an earlier call", 0)
    if rollout.joined or alone:
        yield f"  Outcomes of units: {rollout.joined:,} went to the call before, {alone:,} without an earlier call"
    if rollout.problems:
        yield f"  Outcomes not used: {_counts(rollout.problems)}"


def about_journal(report: Report) -> Iterator[str]:
    """What was read, and what is missing or damaged."""
    files = "1 file" if report.files == 1 else f"{report.files:,} files"
    yield f"Journal {report.folder}: {files}, {report.lines:,} lines"
    if report.skipped:
        yield f"  Lines skipped: {_counts({_SKIPPED.get(why, why): count for why, count in report.skipped.items()})}"
    yield from about_missing(report.missing)
    yield from about_repeated(report.repeated)
    if report.lost:
        yield f"  Facts lost by writers with a full queue: {report.lost:,}"
        yield from about_sampled(report.lost, report.sampled)
    if not report.rollouts:
        yield "  No rollout has written here yet."


def _arithmetic(verdict: Any) -> Iterator[str]:
    """What a transition was decided by: every finding with its numbers, as `status` prints them."""
    try:
        # The first line has the reason, which the transition has, too.
        _, *lines = str(Verdict.from_dict(verdict)).splitlines()
    # None, or a verdict of another version of the SDK, or of another program.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return
    yield from (f"    {line}" for line in lines)


def _lines(report: Report) -> Iterable[str]:
    lines = [*about_journal(report), *(line for rollout in report.rollouts for line in _rollout(rollout))]
    yield from lines
    if report.rollouts:
        yield ""
        yield "Intervals hold for one look, with the unit as the cluster: to stop when they look good is to be fooled."
        if any("]*" in line for line in lines):
            yield "An interval with * has too few units, or too few values other than 0, behind it: do not trust it."


def as_text(report: Report) -> str:
    """The tables of the report as lines of at most 80 columns, without colours; `as_screen` says what to do."""
    return "\n".join(part for line in _lines(report) for part in fitting(plain(line, _LONGEST_LINE)))
