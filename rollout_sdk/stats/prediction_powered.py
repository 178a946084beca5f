"""Means of labels that few cases have, made more precise by predictions that all cases have: prediction-powered inference."""

from __future__ import annotations

from array import array

from rollout_sdk.stats.buckets import StratifiedBuckets
from rollout_sdk.stats.contrast import Estimate

__all__ = ["prediction_powered"]

_ARM, _ZERO = "label", "zero"


def prediction_powered(sums: StratifiedBuckets, *, labels: str, drawn: str, predicted: str) -> Estimate:
    """The mean of labels on a random sample of the cases, corrected by what is known about the sample from predictions.

    With Y the mean of the labels, F_L that of the predictions on the cases drawn for labelling, and F that on all cases, the
    estimate is Y - l (F_L - F), unbiased for any l, however wrong the predictions are: a prediction that is always too good by
    the same amount changes nothing. With l = 1 and labels on all drawn cases, it is the mean of
    psi = f + (L / pi) (y - f), where L marks the drawn cases and pi is their share. Here l = cov / var of the influences, the
    regression of the labels' mean on F_L - F by bucket, which makes it at least as precise as the labels alone.

    Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, Science 382 (2023); Angelopoulos, Duchi and Zrnic, "PPI++:
    Efficient Prediction-Powered Inference" (2023).

    Args:
        sums: Sums by phase, arm and bucket, with the number of cases as weights.
        labels: Arm of the labels.
        drawn: Arm of the predictions on the cases drawn for labelling, also those whose label is still to come.
        predicted: Arm of the predictions on all cases.

    Returns:
        The estimate, with a standard error robust to clusters; with fewer than two buckets with labels, it is inf.
    """
    metric, covariate = StratifiedBuckets(sums.buckets), StratifiedBuckets(sums.buckets)
    for phase in sums.phases():
        for to, mine, theirs in ((metric, _ARM, labels), (covariate, _ARM, drawn), (covariate, _ZERO, predicted)):
            values, weights = sums.cell(phase, theirs)
            to.add_sums(phase, mine, array("d", values), array("d", weights))
        metric.add_sums(phase, _ZERO, array("d", bytes(8 * sums.buckets)), array("d", sums.cell(phase, labels)[1]))
    return metric.difference(_ARM, _ZERO, covariate=covariate, paired=True)
