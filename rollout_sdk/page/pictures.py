"""The pictures of one rollout, made of its report and verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rollout_sdk.analysis.phase_report import Latency, ShadowReport
from rollout_sdk.analysis.phrases import differing
from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.analysis.verdict import Difference, RolloutVerdict
from rollout_sdk.charts import Chart, Effect, Interval, Mark, bars, evidence, forest, matrix, periods, sequence, shares
from rollout_sdk.formatting import number, several, when

__all__ = ["pictures"]

_MOST_METRICS = 12
_MOST_COURSES = 3
_MOST_SEGMENTS = 24
_MOST_PROCESSES = 100
_LATELY_S = 60.0
_MANIFOLD = 10.0
_TONES = {"PASS": "good", "FAIL": "bad", "FUTILE": "bad", "ERROR": "bad"}
_NAMES = {"latency_mean": "latency", "error_rate": "errors"}
_QUANTILES = ("p50", "p95", "p99")


def pictures(report: RolloutReport, verdict: RolloutVerdict) -> list[Chart]:
    """What there is to see, the most telling first."""
    return [
        *_forests(verdict),
        *_segments(verdict),
        *_courses(verdict),
        *_evidence(verdict),
        *_shares(report, verdict),
        *_realised(verdict),
        *_latency(report),
        *_shadows(report),
        *_preferences(report),
        *_processes(verdict),
    ]


def _named(each: Difference, verdict: RolloutVerdict) -> str:
    name = _NAMES.get(each.metric, each.metric)
    return f"{name} · {each.candidate}" if len(verdict.candidates) > 1 else name


def _word(each: Difference) -> tuple[str, str]:
    if each.kind == "exploratory":
        return "not declared", "unsure"
    word = {"PASS": "good enough", "FAIL": "worse", "FUTILE": "too little", "ERROR": "broken"}.get(each.outcome, "not yet")
    return ("passed" if word == "good enough" and each.kind == "gate" else word), _TONES.get(each.outcome, "unsure")


def _forests(verdict: RolloutVerdict) -> Iterator[Chart]:
    """Relative differences together; what has none in a picture of its own, because its unit is another."""
    relative = [each for each in verdict.differences if each.relative is not None and each.relative_low is not None]
    if relative:
        yield forest(
            "Candidate against control",
            [
                Effect(
                    _named(each, verdict),
                    each.relative,
                    _end(each.relative_low, -math.inf),
                    _end(each.relative_high, math.inf),
                    *_word(each),
                )
                for each in relative[:_MOST_METRICS]
            ],
            written=_percent,
        )
    known = {id(each) for each in relative}
    others = [
        each for each in verdict.differences if id(each) not in known and each.estimate is not None and each.low is not None
    ]
    for unit in dict.fromkeys(each.unit for each in others):
        mine = [each for each in others if each.unit == unit][:_MOST_METRICS]
        yield forest(
            {"share": "Difference of shares", "preference": "Preference"}.get(unit, "Difference in the metric's own unit"),
            [
                Effect(_named(each, verdict), each.estimate, _end(each.low, -math.inf), _end(each.high, math.inf), *_word(each))
                for each in mine
            ],
            written=_points if unit in ("share", "preference") else _plain,
        )


def _segments(verdict: RolloutVerdict) -> Iterator[Chart]:
    """A forest of the segments for each metric."""
    for metric, candidate in dict.fromkeys((each.metric, each.candidate) for each in verdict.segments):
        mine = [each for each in verdict.segments if (each.metric, each.candidate) == (metric, candidate)]
        who = f" · {candidate}" if len(verdict.candidates) > 1 else ""
        if any(each.low is not None for each in mine):
            yield forest(
                f"{_NAMES.get(metric, metric)}{who} by segment",
                [_segment(each) for each in mine[:_MOST_SEGMENTS]],
                written=_points if mine[0].unit == "share" else _plain,
            )


def _segment(each: SegmentDifference) -> Effect:
    name = f"{each.attribute}={each.segment}"
    if each.low is None or each.high is None:
        return Effect(name, None, -math.inf, math.inf, "too little")
    if not each.is_discovery:
        return Effect(name, each.estimate, each.low, each.high, "not significant")
    return Effect(name, each.estimate, each.low, each.high, differing(each), "bad" if each.is_worse else "good")


def _end(value: float | None, unknown: float) -> float:
    """The end of an interval; what is not known has no bound."""
    return unknown if value is None else value


def _courses(verdict: RolloutVerdict) -> Iterator[Chart]:
    """What was known at each look, of the metrics that decide."""
    decisive = [each for each in verdict.differences if each.decides] or list(verdict.differences)
    drawn = 0
    for each in sorted(decisive, key=lambda one: one.kind != "gate"):
        points = [
            Interval(point.time_s, _end(point.low, -math.inf), point.estimate, _end(point.high, math.inf))
            for point in each.course
            if point.estimate is not None
        ]
        # Of one without an interval in the end, there is nothing to see.
        if len(points) < 2 or drawn == _MOST_COURSES or each.course[-1].low is None or each.course[-1].high is None:
            continue
        drawn += 1
        written = _points if each.unit in ("share", "preference") else _percent if each.unit == "ratio" else _plain
        yield sequence(f"{_named(each, verdict)} over time", points, written=written, limit=_limit(each), limit_name="decides")


def _limit(each: Difference) -> float | None:
    """The difference that the interval of a recorded metric must not hold: beyond it, a gate passes, or a guardrail is held."""
    margin, worse = each.numbers.get("margin"), each.numbers.get("worse")
    if not each.decides or margin is None or worse is None:
        return None
    return float(worse * margin)


def _evidence(verdict: RolloutVerdict) -> Iterator[Chart]:
    """Evidence for and against each candidate, at each look, against what decides."""
    for candidate in verdict.candidates:
        series: dict[str, list[tuple[float, float]]] = {}
        needed: list[float] = []
        for each in verdict.differences:
            if each.candidate != candidate or not each.decides:
                continue
            for what, threshold in (("safe", each.safe_needed), ("harm", each.harm_needed)):
                points = [
                    (point.time_s, log_e)
                    for point in each.course
                    if (log_e := point.safe_log_e if what == "safe" else point.harm_log_e) is not None
                ]
                if threshold is not None and len(points) > 1:
                    series[f"{_NAMES.get(each.metric, each.metric)} {'good' if what == 'safe' else 'harm'}"] = points
                    needed.append(threshold)
        if series:
            title = f"Evidence about {candidate}" if len(verdict.candidates) > 1 else "Evidence"
            # Where thresholds differ, because several are looked at together, the highest is on the safe side.
            yield evidence(title, dict(list(series.items())[:5]), needed=max(needed))


def _shares(report: RolloutReport, verdict: RolloutVerdict) -> Iterator[Chart]:
    if verdict.first_s is None or verdict.last_s is None:
        return
    periods = [
        (phase.first_s, shown)
        for phase in report.phases
        if phase.first_s is not None and (shown := {each.variant: each.share_configured or 0.0 for each in phase.variants})
    ]
    if not any(len(given) > 1 for _, given in periods) and not report.transitions:
        return
    stops = [
        (float(each["t"]), {report.control: 1.0})
        for each in report.transitions
        if each.get("action") in ("abort", "roll_back") and "t" in each and not any(_served(each, report).values())
    ]
    until_s = max([verdict.last_s, *(time_s for time_s, _ in stops)])
    marks = [
        Mark(
            float(each["t"]),
            str(each.get("action", "")).replace("_", " "),
            str(each.get("actor", "")),
            str(each.get("reason", "")),
        )
        for each in report.transitions
        if "t" in each and each.get("action") != "start"
    ]
    yield shares(
        "Share of the traffic",
        sorted([*periods, *stops], key=lambda each: each[0]),
        until_s=until_s,
        control=report.control,
        marks=marks,
    )


def _served(transition: Mapping[str, object], report: RolloutReport) -> dict[str, float]:
    given = transition.get("shares")
    return {name: share for name, share in given.items() if name != report.control} if isinstance(given, Mapping) else {}


def _realised(verdict: RolloutVerdict) -> Iterator[Chart]:
    """Units in the arms as configured, and as they came."""
    if len(verdict.realised) < 2 or verdict.srm_needed is None:
        return
    groups = {name: {"configured": verdict.shares.get(name), "realised": share} for name, share in verdict.realised.items()}
    yield bars("Units: configured and realised shares", groups, written=lambda value: f"{value * 100:.2f} %", most=1.0)


def _latency(report: RolloutReport) -> Iterator[Chart]:
    """Quantiles of both arms in the last phase in which both ran."""
    for phase in reversed(report.phases):
        by_variant: dict[str, Latency] = {}
        for each in phase.variants:
            by_variant.update(each.latency)
        for shadow in phase.shadows:
            by_variant.setdefault(f"{shadow.variant} (shadow)", shadow.latency)
            if shadow.control_latency.runs:
                by_variant[f"{report.control} (same calls)"] = shadow.control_latency
        known = {name: latency for name, latency in by_variant.items() if latency.runs}
        if known:
            ordered = dict(sorted(known.items(), key=lambda item: item[0] != report.control))
            groups = {
                quantile: {name: getattr(latency, f"{quantile}_s") for name, latency in ordered.items()}
                for quantile in _QUANTILES
            }
            yield bars("Latency", groups, written=_seconds)
            return


def _shadows(report: RolloutReport) -> Iterator[Chart]:
    for phase in report.phases[-1:]:
        for each in phase.shadows:
            if each.agreement.mean is not None:
                yield _agreement(each)
            if each.fields:
                noise = {} if all(one.noise is None for one in each.fields) else {"control again": None}
                groups = {
                    one.field: {each.variant: one.mismatch.mean, **(noise and {"control again": one.noise})}
                    for one in each.fields
                }
                yield bars(
                    f"Fields in which {each.variant} differs", dict(list(groups.items())[:_MOST_METRICS]), written=_share
                )
            if each.labels is not None:
                names = each.labels.labels
                counts = {
                    (names[i], names[j]): count
                    for i, row in enumerate(each.labels.counts)
                    for j, count in enumerate(row)
                    if count
                }
                kappa = "" if each.labels.kappa is None else f", kappa {each.labels.kappa:.2f}"
                yield matrix(f"Answers of {each.variant}{kappa}", counts, rows=report.control, columns=each.variant)


def _agreement(each: ShadowReport) -> Chart:
    groups: dict[str, dict[str, float | None]] = {"same answer": {each.variant: each.agreement.mean}}
    groups.update({f"differs: {why}": {each.variant: count / max(1, each.compared)} for why, count in _largest(each.reasons)})
    if each.noise is not None:
        groups["control against itself differs"] = {each.variant: each.noise}
    return bars(f"Shadow of {each.variant}: {number(each.compared)} compared", groups, written=_share, most=1.0)


def _largest(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:5]


def _preferences(report: RolloutReport) -> Iterator[Chart]:
    for phase in report.phases[-1:]:
        found = [
            Effect(
                f"{each.metric} · {each.candidate}",
                each.preference.mean,
                _end(each.preference.low, -math.inf),
                _end(each.preference.high, math.inf),
            )
            for each in phase.preferences
        ]
        if found:
            yield forest("Preference in interleaved lists", found, written=_points)


def _processes(verdict: RolloutVerdict) -> Iterator[Chart]:
    """Which processes served it from when to when, as far as the journal shows."""
    found = verdict.processes
    if not found:
        return
    last_s = found[0].last_s
    lately = sum(each.last_s >= last_s - _LATELY_S for each in found)
    yield periods(
        f"Processes: {lately} of {len(found)} in the last minute of calls",
        f"{several(len(found), 'process', 'processes')} served it, and {number(lately)} in the minute before {when(last_s)}. "
        "A process without calls writes nothing",
        [(each.name, each.first_s, each.last_s) for each in found[:_MOST_PROCESSES]],
    )


def _percent(value: float) -> str:
    if not value:
        return "0"
    # Of a latency that is twelve times as high, no tenth of a percent matters.
    return f"{value * 100:+,.0f} %" if abs(value) >= _MANIFOLD else f"{value * 100:+.1f} %"


def _points(value: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{value * 100:+.3g} pp" if value else "0"


def _plain(value: float) -> str:
    return f"{value:+.3g}" if value else "0"


def _share(value: float) -> str:
    return f"{value * 100:.1f} %"


def _seconds(value: float) -> str:
    if value < 1e-4:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
