"""The recorded metrics of a phase: every one of them for every arm, and how often it was recorded in each."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from rollout_sdk.analysis.arms import Arm
from rollout_sdk.analysis.phase_report import LabelReport, MetricReport
from rollout_sdk.stats import MISMATCH, MeanInterval, labels_log_e
from rollout_sdk.stats.clusters import ratio_of_kinds

__all__ = ["labels_of", "metrics_of", "voided"]


def voided(interval: MeanInterval) -> MeanInterval:
    """The same mean without its interval, where arms cannot be compared."""
    return evolve(interval, low=None, high=None, caution="sample ratio mismatch")


def _names(arms: Mapping[str, Arm]) -> list[str]:
    return sorted({metric for arm in arms.values() for metric in arm.by_unit().metrics})


def _range(metric: str, arms: Mapping[str, Arm]) -> tuple[float, float]:
    ranges = [arm.ranges[metric] for arm in arms.values() if metric in arm.ranges]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _is_share(metric: str, arms: Mapping[str, Arm]) -> bool:
    """Whether each call has at most one value between 0 and 1: then so does every mean per call."""
    low, high = _range(metric, arms)
    return (
        low >= 0
        and high <= 1
        and all(sums.is_single for arm in arms.values() if (sums := arm.by_unit().metrics.get(metric)) is not None)
    )


def metrics_of(arms: Mapping[str, Arm], *, is_void: bool = False) -> dict[str, tuple[MetricReport, ...]]:
    """The metrics of every arm: an arm without an outcome has a row, too, if another has one.

    Args:
        arms: The arms of a phase, by variant.
        is_void: Whether arms cannot be compared: then there is no interval.
    """
    found: dict[str, list[MetricReport]] = {variant: [] for variant in arms}
    for metric in _names(arms):
        low, high = _range(metric, arms)
        per_call = (0.0, 1.0) if _is_share(metric, arms) else None
        # Where each recorded value is the same, its mean is a constant, not a share.
        per_outcome = (0.0, 1.0) if 0 <= low < high <= 1 else None
        for variant, arm in arms.items():
            sums = arm.by_unit().of(metric)
            means = ratio_of_kinds(sums.per_call, within=per_call), ratio_of_kinds(sums.per_outcome, within=per_outcome)
            found[variant].append(MetricReport(metric, sums.outcomes, *(map(voided, means) if is_void else means)))
    return {variant: tuple(metrics) for variant, metrics in found.items()}


def labels_of(arms: Mapping[str, Arm], *, is_void: bool = False) -> tuple[LabelReport, ...]:
    """How often metrics are recorded that some units of an arm do not have.

    Args:
        arms: The arms of a phase, by variant.
        is_void: Whether arms cannot be compared: then nothing surely differs.
    """
    reports = []
    units = {variant: arm.by_unit().units for variant, arm in arms.items()}
    for metric in _names(arms):
        labelled = {variant: arm.by_unit().of(metric).labelled for variant, arm in arms.items()}
        if labelled == units:
            continue
        low, high = _range(metric, arms)
        log_e = labels_log_e(labelled, units) if low < high else None
        rates = {variant: labelled[variant] / units[variant] for variant in arms}
        reports.append(LabelReport(metric, rates, log_e, log_e is not None and log_e >= MISMATCH and not is_void))
    return tuple(reports)
