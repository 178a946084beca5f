"""Reports as values: what a journal could say, one thing at a time."""

from rollout_sdk.analysis.phase_report import Latency, PhaseReport, ShadowReport, VariantReport
from rollout_sdk.analysis.report import CrossedReport, Report, RolloutReport, SharesReport
from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.analysis.verdict import Difference, Point, RolloutVerdict
from rollout_sdk.stats import MeanInterval

NONE = MeanInterval(None, None, None, 0)
FIRST_S = 1_796_083_200.0  # 2026-12-01 in UTC


def difference(metric="click", **known):
    """A gate that has not passed, of shares."""
    values = {
        "candidate": "v2", "kind": "gate", "outcome": "INCONCLUSIVE", "reason": "too early", "better": "higher",
        "unit": "share", "control": None, "value": None, "control_total": None, "control_count": None, "value_total": None,
        "value_count": None, "counted": "calls", "estimate": None, "low": None, "high": None, "relative": None,
        "relative_low": None, "relative_high": None, "mde": None, "harm_log_e": None, "harm_needed": None, "safe_log_e": None,
        "safe_needed": None, "is_discovery": None, "matured": 1.0, "effective_units": None, "heaviest": None, "decides": True,
        "numbers": {},
    }  # fmt: skip
    return Difference(metric=metric, **{**values, **known})


def segment(name="NL", **known):
    values = {
        "attribute": "country", "metric": "click", "candidate": "v2", "kind": "gate", "better": "higher", "unit": "share",
        "counted": "calls", "control": 0.1, "value": 0.2, "control_total": 10.0, "control_count": 100.0, "value_total": 20.0,
        "value_count": 100.0, "control_units": 100, "value_units": 100, "estimate": 0.1,
    }  # fmt: skip
    return SegmentDifference(segment=name, **{**values, **known})


def look(number, estimate=0.1, low=0.05, high=0.15, harm=None, safe=None):
    return Point(
        time_s=FIRST_S + 60.0 * number, estimate=estimate, low=low, high=high, harm_log_e=harm, safe_log_e=safe
    )  # fmt: skip


def verdict(*differences, **known):
    """Of a test with the arms "control" and "v2", of an hour."""
    values = {
        "rollout": "shop.rank", "version": "", "fingerprint": "f1", "strategy": "ab", "status": "running", "phase": "0",
        "step": None, "steps": 0, "control": "control", "candidates": ("v2",), "is_declared": True, "headline": "WAIT",
        "candidate": None, "reason": "It is too early", "action": "Wait for more calls.", "by_candidate": {"v2": "WAIT"},
        "segments": (), "checks": (), "to_go": None, "units": {}, "calls": {}, "shares": {}, "realised": {},
        "srm_log_e": None, "srm_needed": None, "completeness": {}, "first_s": FIRST_S, "last_s": FIRST_S + 3 * 3600,
        "outcomes": {}, "undeclared": (), "alpha": 0.05,
    }  # fmt: skip
    return RolloutVerdict(differences=differences, **{**values, **known})


def latency(runs=0, p50=None, p95=None, p99=None):
    return Latency(runs, p50, p95, p99)


def arm(variant, share=0.5, **runs):
    return VariantReport(
        variant=variant, calls=100, kept=100, units=100, effective_units=100.0, heaviest=0.01, share_configured=share,
        share_of_calls=0.5, share_of_units=0.5, errors={}, error_rate=None, fallbacks=0, withheld={}, closed_early=0,
        latency=runs, metrics=(),
    )  # fmt: skip


def shadow(variant="v2", **known):
    values = {
        "planned": 100, "ends": {}, "completeness": 1.0, "compared": 0, "agreement": NONE, "difference": NONE, "reasons": {},
        "errors": {}, "not_copied": {}, "latency": latency(), "control_latency": latency(), "comparators": {}, "noise": None,
        "fields": (), "labels": None, "metrics": (),
    }  # fmt: skip
    return ShadowReport(variant=variant, **{**values, **known})


def report(found, *phases, key="shop.rank", transitions=(), status="running"):
    """The report of a rollout with this verdict."""
    return RolloutReport(
        rollout=key, version="", fingerprint="f1", made_of={}, others=(), crossed=CrossedReport(0, 0, 0), strategy="ab",
        status=status, control="control", shares=SharesReport((), None, 0.0, 3.0, False), phases=phases,
        transitions=tuple(transitions), excluded={}, problems={}, joined=0, verdict=found,
    )  # fmt: skip


def phase(*variants, first_s=FIRST_S, shadows=(), preferences=()):
    return PhaseReport(
        phase="0", first_s=first_s, last_s=FIRST_S + 3600, variants=tuple(variants), labels=(), shadows=tuple(shadows),
        preferences=tuple(preferences),
    )  # fmt: skip


def journal(*rollouts):
    return Report("journal", 1, 10, {}, (), 0, 0, 0, rollouts)
