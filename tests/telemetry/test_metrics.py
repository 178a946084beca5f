"""Metrics, as an application's own reader gets them."""

import threading
import time
from collections import Counter

from structlog.testing import capture_logs

from rollout_sdk import ABTest, Breaker, Decision, Interleave, Shadow, Telemetry, rollout
from rollout_sdk.telemetry.names import DURATION_BUCKETS


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


def points(metrics, name):
    """Values of a metric by its attributes, without the rollout's key."""
    return {
        tuple(value for key, value in sorted(point.attributes.items()) if key != "feature_flag.key"): getattr(
            point, "value", None
        )
        for point in metrics[name].data.data_points
    }


def test_what_becomes_of_shadows_is_counted_and_told_of_the_variant_that_it_happened_to(traced):
    candidates = {"v2": lambda x: 1, "v3": fail}
    with capture_logs() as lines:
        model = rollout(
            candidates=candidates, strategy=Shadow(1.0), effects="read", unit="x", key="model", runtime=traced.runtime,
            breaker=Breaker(window=2, min_runs=2),
        )(lambda x: 1)  # fmt: skip
        for _ in range(5):
            model("u")
            # One after the other, so that the breaker knows.
            assert traced.runtime.flush(10.0)
    metrics = traced.metrics()
    assert {("v2", "ok"): 5, ("v3", "error"): 2, ("v3", "dropped_open"): 3} == by(
        metrics, "rollout.shadow.runs", "feature_flag.result.variant", "rollout.shadow.end"
    )
    assert {("v3", "open"): 3} == by(metrics, "rollout.shadow.dropped", "feature_flag.result.variant", "rollout.drop.reason")
    assert {("v2", "default", True): 5} == by(
        metrics, "rollout.comparisons", "feature_flag.result.variant", "rollout.comparison.name", "rollout.comparison.match"
    )
    dropped = [dict(event.attributes) for span in traced.finished() for event in span.events if "dropped" in event.name]
    assert [{"feature_flag.result.variant": "v3", "rollout.drop.reason": "open"}] * 3 == dropped
    told = [(line["event"], line["variant"]) for line in lines if line["event"].startswith("rollout.shadow")]
    assert {("rollout.shadow.completed", "v2"), ("rollout.shadow.failed", "v3"), ("rollout.shadow.dropped", "v3")} == set(told)


def by(metrics, name, *attributes):
    """Values of a metric by some of its attributes."""
    return {tuple(point.attributes[each] for each in attributes): point.value for point in metrics[name].data.data_points}


def test_a_good_run_is_no_error_in_any_count(traced):
    """A batch, a blend and streams, too; of several runs in one call, each counts for itself."""

    def ranks(x):
        return [1, 2]

    def streams(x):
        yield 1

    good = {"ab": (ranks, ranks, ABTest(1.0)), "blend": (ranks, ranks, Interleave()), "stream": (streams, streams, ABTest(1.0))}
    models = [traced.model(control, candidate, strategy, key=key) for key, (control, candidate, strategy) in good.items()]
    for model in models:
        list(model("u"))
    batch = rollout(candidate=list, strategy=ABTest(0.5), batch="rows", unit="rows", key="batch", runtime=traced.runtime)(
        lambda rows, /: list(rows)
    )
    batch([f"u-{number}" for number in range(20)])
    rescued = traced.model(ranks, fail, ABTest(1.0), key="rescued")
    rescued("u")
    points_of_all = [point for metric in traced.metrics().values() for point in metric.data.data_points]
    assert {"ValueError"} == {each.attributes["error.type"] for each in points_of_all if "error.type" in each.attributes}
    for model in (*models, batch):
        status = model.rollout.status()
        assert ({}, {}) == (status.errors, status.fallbacks)
    assert {("candidate", "ValueError"): 1} == rescued.rollout.status().errors == rescued.rollout.status().fallbacks


def test_shadows_under_way_are_counted_up_and_down(traced):
    go, begun = threading.Event(), threading.Event()

    def wait(x):
        begun.set()
        go.wait(10)
        return x

    shadowed = traced.model(lambda x: x, wait, Shadow(1.0), unit=None)
    shadowed("u")
    assert begun.wait(10)
    under_way = points(traced_now(traced), "rollout.shadow.active")
    go.set()
    assert ({("candidate",): 1}, {("candidate",): 0}) == (under_way, points(traced.metrics(), "rollout.shadow.active"))


def traced_now(traced):
    """The metrics as they are, without waiting for shadows."""
    traced.runtime.recorder.flush(5.0)
    data = traced.reader.get_metrics_data()
    return {m.name: m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics}


def test_every_shadow_that_ended_is_counted_by_how(traced):
    for key, candidate in (("good", lambda x: x), ("bad", fail)):
        traced.model(lambda x: x, candidate, Shadow(1.0), key=key)("u")
    counted = {
        (point.attributes["feature_flag.key"], point.attributes["rollout.shadow.end"]): point.value
        for point in traced.metrics()["rollout.shadow.runs"].data.data_points
    }
    assert {("good", "ok"): 1, ("bad", "error"): 1} == counted


def test_a_variant_or_an_error_beyond_the_first_few_is_other(traced):
    def raise_another(x):
        raise type(f"Error{x}", (ValueError,), {})

    model = traced.model(lambda x: x, raise_another, breaker=None)
    for number in range(150):
        model(number)
    errors = list(points(traced.metrics(), "rollout.fallbacks"))
    assert (101, True) == (len(errors), any("_OTHER" in key for key in errors))
    many = {f"v{number}": lambda x: x for number in range(60)}
    traced.model(lambda x: x, None, ABTest(dict.fromkeys(many, 1 / 60)), key="many", candidates=many)("u")
    weights = [
        p for p in traced.metrics()["rollout.variant.weight"].data.data_points if p.attributes["feature_flag.key"] == "many"
    ]
    assert 51 == len({point.attributes["feature_flag.result.variant"] for point in weights})


def test_runtimes_that_share_a_provider_are_all_observed(trace_with, watch):
    one = trace_with()
    provider = one.runtime.telemetry.meter_provider
    two = watch(telemetry=Telemetry(meter_provider=provider))
    one.model(lambda x: x, lambda x: x, key="one")("u")
    rollout(candidate=lambda x: x, strategy=ABTest(1.0), unit="x", key="two", runtime=two)(lambda x: x)("u")
    assert two.flush(10.0)
    keys = {point.attributes["feature_flag.key"] for point in one.metrics()["rollout.decisions"].data.data_points}
    assert {"one", "two"} == keys


def test_what_a_decision_takes_is_measured_where_it_is_asked_for(trace_with):
    for wanted in (True, False):
        traced = trace_with(decision_duration=wanted)
        model = traced.model(lambda x: x, lambda x: x)
        for number in range(5):
            model(number)
        metrics = traced.metrics()
        assert wanted == ("rollout.decision.duration" in metrics)
        if wanted:
            (point,) = metrics["rollout.decision.duration"].data.data_points
            assert (5, {"feature_flag.key": "model", "rollout.strategy.name": "ab"}) == (point.count, dict(point.attributes))


def test_the_buckets_of_durations_are_those_of_the_contract(traced):
    traced.model(lambda x: x, lambda x: x)("u")
    (point,) = traced.metrics()["rollout.call.duration"].data.data_points
    assert DURATION_BUCKETS == tuple(point.explicit_bounds)


def test_metrics_can_be_off(trace_with):
    traced = trace_with(metrics=False)
    traced.model(lambda x: x, lambda x: x)("u")
    assert traced.runtime.flush(10.0)
    assert traced.reader.get_metrics_data() is None


def test_what_a_decision_took_is_in_seconds(trace_with):
    traced = trace_with(decision_duration=True)
    model = traced.model(lambda x: x, lambda x: x)
    began = time.perf_counter()
    for number in range(50):
        model(number)
    took = time.perf_counter() - began
    (point,) = traced.metrics()["rollout.decision.duration"].data.data_points
    assert 0 < point.sum < took


def test_facts_that_the_journal_could_not_take_are_lost(trace_with, tmp_path):
    folder = tmp_path / "journal"
    traced = trace_with(runtime={"journal": folder})
    folder.rmdir()
    folder.touch()
    model = traced.model(lambda x: x, lambda x: x)
    for number in range(5):
        model(number)
    lost = points(traced.metrics(), "rollout.facts.lost")
    traced.faults = {("journal", "JournalError")}
    assert {("journal_unwritable",): 5, ("queue_full",): 0} == lost


def test_a_strategys_own_word_for_its_reason_is_in_no_line_and_no_series(traced, caplog):
    class Chatty:
        name = "chatty"

        def rollout_route(self, request):
            return Decision("candidate", f"because {request.arguments['x']}")

    caplog.set_level("DEBUG", "rollout_sdk")
    traced.model(lambda x: x, lambda x: x, Chatty())("ann@example.com")
    said = repr(traced.metrics()) + repr([vars(record) for record in caplog.records])
    assert "ann@example.com" not in said
    assert ["targeting_match"] == [
        record.reason for record in caplog.records if getattr(record, "event", None) == "rollout.decision"
    ]
