"""What fault tests build: a control and a candidate under a strategy, and quantiles."""

from rollout_sdk import ABTest, Shadow, rollout


def served(control, candidate, runtime, *, strategy=ABTest(1.0), key="model", **options):
    """The candidate answers every call."""
    return rollout(candidate=candidate, strategy=strategy, key=key, runtime=runtime, **options)(control)


def shadowed(control, candidate, runtime, **options):
    """The candidate runs behind every call."""
    return served(control, candidate, runtime, strategy=Shadow(1.0), effects="read", **options)


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]
