"""One class for each metric that is judged; a new one is one new file and one line here."""

from collections.abc import Mapping

from rollout_sdk.judging.metrics.base import Metric, Numbers
from rollout_sdk.judging.metrics.error_rate import ErrorRate
from rollout_sdk.judging.metrics.latency_mean import LatencyMean
from rollout_sdk.judging.metrics.means import Recorded
from rollout_sdk.judging.metrics.slow_calls import SlowCalls
from rollout_sdk.plan import ERROR_RATE, FIRST_ITEM, LATENCY, LATENCY_MEAN, Criterion

__all__ = ["METRICS", "Metric", "Numbers", "metric_of"]

METRICS: Mapping[str, type[Metric]] = {
    ERROR_RATE: ErrorRate,
    LATENCY: SlowCalls,
    LATENCY_MEAN: LatencyMean,
    FIRST_ITEM: SlowCalls,
}
"""The metrics that the SDK measures itself; any other is a recorded one."""


def metric_of(criterion: Criterion) -> Metric:
    """The metric that a guardrail or gate is about."""
    return METRICS.get(criterion.metric, Recorded)(criterion)
