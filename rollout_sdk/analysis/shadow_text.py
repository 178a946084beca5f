"""What a report says of a shadow's answers, as text for a terminal: fields, classes, numbers, and what they cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollout_sdk.analysis.phase_report import Latency, ShadowReport
from rollout_sdk.analysis.shadow_arms import FieldReport, LabelTable, PairedMetric
from rollout_sdk.formatting import plain, table
from rollout_sdk.stats import MeanInterval

__all__ = ["about_answers"]

_NAME = 40
_MOST_ROWS = 12
_MOST_CLASSES = 6
_NONE = "-"
_RBO = "rank_biased_overlap"
_CANNOT = (
    "Shadows cannot tell how users react to answers that they do not see, how clicks on them would feed back, or how the "
    "candidate stands the load alone."
)


def about_answers(shadows: Sequence[ShadowReport]) -> Iterator[str]:
    """Say how the answers differ, and what no shadow can tell."""
    for shadow in shadows:
        name = plain(shadow.variant, _NAME)
        if shadow.control_latency.runs:
            yield from _latencies(name, shadow.latency, shadow.control_latency)
        if shadow.noise is not None:
            own = 1 - (shadow.agreement.mean or 0.0)
            yield (
                f"    the control differs from itself in {shadow.noise:.2%} of its second runs, and {name} from it in {own:.2%}"
            )
        if shadow.comparators.keys() == {_RBO} and shadow.difference.mean is not None:
            yield f"    mean rank-biased overlap of {name} and the control: {1 - shadow.difference.mean:.3f}"
        yield from _fields(shadow.fields)
        if shadow.labels is not None:
            yield from _labels(shadow.labels)
        yield from _metrics(shadow.metrics)
    yield ""
    yield f"    {_CANNOT}"


def _latencies(name: str, latency: Latency, control: Latency) -> Iterator[str]:
    """Both arms side by side, on the same calls."""
    rows = [["same calls, ms", "runs", "p50", "p95", "p99"]]
    for arm, found in (("control", control), (f"{name}, in the background", latency)):
        times = [_NONE if each is None else f"{each * 1000:,.3f}" for each in (found.p50_s, found.p95_s, found.p99_s)]
        rows.append([arm, f"{found.runs:,}", *times])
    yield ""
    yield from table(rows, indent="    ", ruled=True)


def _fields(fields: Sequence[FieldReport]) -> Iterator[str]:
    if not fields:
        return
    rows = [["field", "pairs", "differ [95 %]", "noise", "difference", "why"]]
    for each in sorted(fields, key=lambda each: -(each.mismatch.mean or 0.0))[:_MOST_ROWS]:
        why = ", ".join(
            f"{reason} {number:,}" for reason, number in sorted(each.reasons.items(), key=lambda item: -item[1])[:2]
        )
        noise = _NONE if each.noise is None else f"{each.noise:.2%}"
        mean = _NONE if each.difference.mean is None else f"{each.difference.mean:.4g}"
        rows.append(
            [plain(each.field, _NAME), f"{each.compared:,}", _share(each.mismatch), noise, mean, plain(why, _NAME) or _NONE]
        )
    yield ""
    yield from table(rows, indent="    ", ruled=True)
    if len(fields) > _MOST_ROWS:
        yield f"    and {len(fields) - _MOST_ROWS} more fields, which differ less"


def _share(found: MeanInterval) -> str:
    if found.mean is None:
        return _NONE
    ends = f" [{found.low:.2%}, {found.high:.2%}]" if found.low is not None and found.high is not None else ""
    return f"{found.mean:.2%}{ends}"


def _labels(found: LabelTable) -> Iterator[str]:
    kappa = "undefined, with a single class" if found.kappa is None else f"{found.kappa:.3f}"
    yield ""
    yield f"    Cohen's kappa: {kappa} (1: always the same class, 0: as often as by chance)"
    shown = range(min(len(found.labels), _MOST_CLASSES))
    names = [plain(found.labels[place], _NAME) for place in shown]
    rows = [["control \\ candidate", *names], *([names[i], *(f"{found.counts[i][j]:,}" for j in shown)] for i in shown)]
    yield from table(rows, indent="    ", ruled=True)
    if len(found.labels) > _MOST_CLASSES:
        yield f"    and {len(found.labels) - _MOST_CLASSES} rarer classes"


def _metrics(metrics: Sequence[PairedMetric]) -> Iterator[str]:
    if not metrics:
        return
    rows = [["both answers", "pairs", "control", "candidate", "difference [95 %]", "PSI", "KS", "Wasserstein", "JS"]]
    for each in metrics[:_MOST_ROWS]:
        low, high = each.difference.low, each.difference.high
        ends = "" if low is None or high is None else f" [{low:+.4g}, {high:+.4g}]"
        drift = each.drift
        distances = [
            f"{number:.3g}"
            for number in (drift.population_stability, drift.kolmogorov_smirnov, drift.wasserstein, drift.jensen_shannon)
        ]
        difference = f"{each.difference.mean or 0.0:+.4g}{ends}"
        arms = [f"{each.control:.4g}", f"{each.candidate:.4g}"]
        rows.append([plain(each.metric, _NAME), f"{each.pairs:,}", *arms, difference, *distances])
    yield ""
    yield from table(rows, indent="    ", ruled=True)
