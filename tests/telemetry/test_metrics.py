"""Metrics, as an application's own reader gets them."""

from collections import Counter

from rollout_sdk import ABTest, Shadow


def fail(x):
    raise ValueError("a secret payload")


def test_metrics_say_what_happened(traced):
    ab = traced.model(lambda x: x, fail, ABTest(0.5), breaker=None)
    variants = Counter(ab.rollout.route(f"u{n}").decision.variant for n in range(100))
    metrics = traced.metrics()
    by_variant = {p.attributes["feature_flag.result.variant"]: p.value for p in metrics["rollout.decisions"].data.data_points}
    assert variants == by_variant
    (fallbacks,) = metrics["rollout.fallbacks"].data.data_points
    assert (variants["candidate"], "ValueError") == (fallbacks.value, fallbacks.attributes["error.type"])
    durations = {
        (
            p.attributes["feature_flag.result.variant"],
            p.attributes["rollout.variant.role"],
            p.attributes.get("error.type"),
        ): p.count
        for p in metrics["rollout.call.duration"].data.data_points
    }
    assert {("control", "control", None): 100, ("candidate", "candidate", "ValueError"): variants["candidate"]} == durations
    weights = {p.attributes["feature_flag.result.variant"]: p.value for p in metrics["rollout.variant.weight"].data.data_points}
    assert {"control": 0.5, "candidate": 0.5} == weights
    assert ("s", "{decision}", "1") == tuple(
        metrics[n].unit for n in ("rollout.call.duration", "rollout.decisions", "rollout.variant.weight")
    )


def test_metrics_count_comparisons_drops_and_transitions(traced):
    shadowed = traced.model(lambda x: 1, lambda x: 2, Shadow(1.0), unit=None)
    shadowed("u")
    shadowed(iter(()))
    # What still waits at an abort is not run any more.
    assert traced.runtime.flush(10.0)
    shadowed.rollout.abort()
    metrics = traced.metrics()
    (comparison,) = metrics["rollout.comparisons"].data.data_points
    assert (1, False) == (comparison.value, comparison.attributes["rollout.comparison.match"])
    (dropped,) = metrics["rollout.shadow.dropped"].data.data_points
    assert (1, "snapshot") == (dropped.value, dropped.attributes["rollout.drop.reason"])
    actions = {p.attributes["rollout.transition.action"]: p.value for p in metrics["rollout.transitions"].data.data_points}
    assert 1 == actions["abort"]
