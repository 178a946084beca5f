"""One class per judged metric; a new metric is one new file, and its name in `rollout_sdk.plan.MEASURED`."""

from importlib import import_module
from pkgutil import iter_modules

from rollout_sdk.judging.metrics.base import METRICS, Metric, Numbers
from rollout_sdk.judging.metrics.compared import Compared
from rollout_sdk.judging.metrics.means import Recorded
from rollout_sdk.judging.metrics.preferred import Preferred
from rollout_sdk.judging.metrics.slow_calls import SlowCalls
from rollout_sdk.plan import Criterion, Gate, is_compared

__all__ = ["METRICS", "Compared", "Metric", "Numbers", "SlowCalls", "metric_of"]

for _module in iter_modules(__path__):
    # Importing a module registers its metrics.
    import_module(f"{__name__}.{_module.name}")


def metric_of(criterion: Criterion) -> Metric:
    """Return the metric of a guardrail or gate."""
    name = criterion.metric
    if isinstance(criterion, Gate) and criterion.per == "list":
        return Preferred(criterion)
    if is_compared(name):
        # What comes after is a field of the answers.
        name = ".".join(name.split(".")[:2])
    return METRICS.get(name, Recorded)(criterion)
