"""What a verdict says in words: one sentence for the reason, and short forms of its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.analysis.verdict import Check, Difference, Headline, ToGo
from rollout_sdk.formatting import duration, number
from rollout_sdk.judging import Verdict
from rollout_sdk.plan import ERROR_RATE, LATENCY_MEAN, is_judged

__all__ = ["absolute", "because", "counted", "differing", "effect", "latencies", "named", "price", "remaining", "wants_labels"]

_LARGE = 2.0
_DAY_S = 86_400.0


def _lift(value: float) -> str:
    """A relative difference: +6.2 %, and as a multiple from three times on."""
    return f"{value * 100:+.1f} %" if value < _LARGE else f"x{1 + value:.2g}"


def named(metric: str) -> str:
    """A metric of the SDK's own as people call it; any other as it is."""
    return {LATENCY_MEAN: "latency", ERROR_RATE: "errors"}.get(metric, metric)


def effect(each: Difference) -> str:
    """The difference with its interval: relative where it is known, else in the metric's own unit."""
    if each.relative is not None and each.relative_low is not None and each.relative_high is not None:
        return f"{_lift(each.relative)} [{_lift(each.relative_low)}, {_lift(each.relative_high)}]"
    if each.low is not None and each.high is not None:
        return absolute(each)
    if each.relative is not None:
        return _lift(each.relative)
    if each.control and each.value is not None and each.unit != "preference":
        return _lift(each.value / each.control - 1)
    return "no values yet" if not each.value_count and not is_unaudited(each) else absolute(each)


def absolute(each: Difference | SegmentDifference) -> str:
    """The difference with its interval, in the metric's own unit."""
    if isinstance(each, Difference) and is_unaudited(each):
        return "judge not audited: advisory"
    if each.estimate is None:
        return "no values yet"
    ends = "" if each.low is None or each.high is None else f" [{each.low:+.3g}, {each.high:+.3g}]"
    return f"{each.estimate:+.3g}{ends}"


def is_unaudited(each: Difference) -> bool:
    """Whether a judge has compared answers, and people have labelled none of these pairs."""
    return is_judged(each.metric) and bool(each.numbers.get("judged")) and not each.numbers.get("people")


def wants_labels(each: Difference) -> bool:
    """Whether a judge waits for more labels of people."""
    numbers = each.numbers
    return is_judged(each.metric) and bool(numbers.get("judged") and numbers.get("audit")) and not numbers.get("enough")


def differing(each: Difference | SegmentDifference) -> str:
    """What a significant difference is called that nothing was declared about."""
    return f"significantly {'higher' if (each.estimate or 0.0) > 0 else 'lower'}"


def counted(each: Difference | SegmentDifference) -> str:
    """The counts behind it: "130 of 30,000 against 157 of 30,000"; for values, their means."""
    counts = each.value_count, each.control_count
    if any(count is None for count in counts) or each.unit == "preference":
        return ""
    mine, other = (number(round(count or 0)) for count in counts)
    if each.unit == "share":
        totals = [number(round(total or 0)) for total in (each.value_total, each.control_total)]
        return f"{totals[0]} of {mine} against {totals[1]} of {other} {each.counted}"
    if each.value is None or each.control is None:
        return f"{mine} against {other} {each.counted}"
    return f"{each.value:.4g} against {each.control:.4g}, over {mine} and {other} {each.counted}"


def latencies(report: RolloutReport, candidate: str) -> tuple[float, float] | None:
    """Median latencies of the candidate and the control in the last phase in which both ran, in seconds."""
    for phase in reversed(report.phases):
        runs = {each.variant: each.latency.get(each.variant) for each in phase.variants}
        runs.update({each.variant: each.latency for each in phase.shadows if each.variant not in runs})
        blended = [each for each in phase.variants if len(each.latency) > 1]
        runs.update({name: latency for each in blended for name, latency in each.latency.items()})
        both = [runs.get(candidate), runs.get(report.control)]
        if all(each is not None and each.p50_s is not None for each in both):
            return both[0].p50_s, both[1].p50_s  # type: ignore[union-attr,return-value] # just looked at
    return None


def price(report: RolloutReport, compared: Sequence[Difference], candidate: str) -> str:
    """What the candidate costs in latency; empty where that does not differ significantly."""
    found = next((each for each in compared if each.candidate == candidate and each.metric == LATENCY_MEAN), None)
    if found is None or found.relative is None or found.relative_low is None or found.relative_high is None:
        return ""
    if found.relative_low <= 0 <= found.relative_high:
        return ""
    medians = latencies(report, candidate)
    between = "" if medians is None else f" (median {medians[0] * 1e3:.3g} ms, control {medians[1] * 1e3:.3g} ms)"
    return f"latency {_lift(found.relative)}{between}"


def remaining(left: ToGo | None) -> str:
    """How long it still takes: units and days, at 50 % and at 80 %."""
    if left is None:
        return ""
    if left.days_50 is None:
        return "it is not expected to end at this traffic"
    units, days = f"{_round(left.units_50)} units", _days(left.days_50)
    more = ""
    if left.units_80 is not None and left.days_80 is not None:
        more = f"; {_round(left.units_80)}, {_days(left.days_80)} (80 %)"
    return f"about {units} more, {days} (50 %){more}"


def _round(count: int | None) -> str:
    return "-" if count is None else number(int(float(f"{count:.2g}")))


def _days(days: float) -> str:
    return duration(days * _DAY_S).replace(".0 s", " s")


def because(
    report: RolloutReport,
    verdict: Verdict | None,
    headline: Headline,
    candidate: str | None,
    compared: Sequence[Difference],
    checks: Sequence[Check],
    left: ToGo | None,
    *,
    is_declared: bool,
) -> str:
    """Why the headline is what it is, in one sentence."""
    mine = [each for each in compared if candidate is None or each.candidate == candidate]
    if headline == "CHECK":
        fatal = next((each.what for each in checks if each.is_fatal), None)
        return fatal or (verdict.reason if verdict is not None else "its numbers cannot be trusted")
    if headline == "DO NOT SHIP":
        return _against(report, mine)
    if headline == "SHIP":
        return _for(report, mine, candidate)
    return _open(verdict, mine, left, is_declared=is_declared)


def _against(report: RolloutReport, mine: Sequence[Difference]) -> str:
    stop = next((each for each in reversed(report.transitions) if each["action"] in ("roll_back", "abort")), None)
    if stop is not None and report.status in ("rolled_back", "aborted"):
        what = "rolled back" if report.status == "rolled_back" else "aborted"
        who = f" by {stop['actor']}" if stop.get("actor") and stop["action"] == "abort" else ""
        return f"{what}{who}: {stop['reason']}" if stop.get("reason") else f"{what}{who}"
    decisive = [each for outcome in ("FAIL", "FUTILE") for each in mine if each.decides and each.outcome == outcome]
    if not decisive:
        return "it has failed"
    first = decisive[0]
    return f"{named(first.metric)} {effect(first)}: {_sentence(first)}"


def _sentence(each: Difference) -> str:
    """The judge's sentence, without the numbers that stand beside it."""
    sentence = each.reason.rstrip(".")
    return sentence.rsplit(": ", 1)[0] if each.kind == "gate" else sentence


def _for(report: RolloutReport, mine: Sequence[Difference], candidate: str | None) -> str:
    gates = [each for each in mine if each.kind == "gate" and each.decides]
    said = [f"{_preferred(each)}{each.metric} {effect(each)}" for each in gates]
    cost = price(report, mine, candidate) if candidate is not None else ""
    if report.status == "promoted":
        said = ["every user has the candidate", *said]
    good = [named(each.metric) for each in mine if each.kind == "guardrail" and each.decides and each.outcome == "PASS"]
    if cost:
        said.append(cost)
    if good:
        said.append(f"{', '.join(good)} good enough")
    return "; ".join(said) or "everything that was declared has passed"


def _preferred(each: Difference) -> str:
    return "users prefer it, " if each.unit == "preference" else ""


def _open(verdict: Verdict | None, mine: Sequence[Difference], left: ToGo | None, *, is_declared: bool) -> str:
    if not is_declared:
        notable = [each for each in mine if each.kind == "exploratory" and each.value_count]
        notable.sort(key=lambda each: (not each.is_discovery, each.metric == LATENCY_MEAN))
        shown = "".join(f"; {named(each.metric)} {effect(each)}" for each in notable[:2])
        return f"exploratory: nothing was declared beforehand{shown}"
    waiting = [each for each in mine if each.decides and each.outcome not in ("PASS", "FAIL")]
    gates = [each for each in waiting if each.kind == "gate"]
    rest = remaining(left)
    if unaudited := next(filter(is_unaudited, waiting), None):
        # First, because it waits for people, whatever else is still open.
        return f"{unaudited.metric}: {unaudited.reason.rstrip('.')}"
    if gates:
        first = gates[0]
        counts = counted(first)
        parts = [f"{first.metric} {effect(first)}", *([counts] if counts else []), *([rest] if rest else [])]
        return "; ".join(parts)
    if waiting:
        return "; ".join([f"{named(waiting[0].metric)}: {waiting[0].reason.rstrip('.')}", *([rest] if rest else [])])
    return "nothing could be compared yet" if verdict is None else verdict.reason.rstrip(".")
