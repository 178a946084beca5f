"""Sampling: a call and its shadow stay together, and transitions stay."""

import sys

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

from rollout_sdk import Canary, ConfigurationError, Shadow
from rollout_sdk.otel import RolloutSampler, parent_based_ratio

CALLS = 2_000


def pairs(traced):
    """How many calls and how many shadows were sampled, and how many of them belong together."""
    shadowed = traced.model(lambda x: x, lambda x: x, Shadow(1.0), unit=None)
    for number in range(CALLS):
        shadowed(number)
        if number % 50 == 0:
            traced.runtime.flush(10.0)
    spans = traced.finished()
    routes = {span.context.span_id for span in spans if span.name == "route model"}
    origins = {link.context.span_id for span in spans if span.name.startswith("shadow") for link in span.links}
    return len(routes), len(origins), len(routes & origins)


def test_with_our_sampler_every_sampled_call_has_its_shadow_and_no_shadow_is_alone(trace_with):
    routes, shadows, both = pairs(trace_with(RolloutSampler(ParentBased(TraceIdRatioBased(0.1)))))
    assert routes == shadows == both
    # Six standard errors around 200 of 2,000.
    assert 120 < routes < 280


def test_without_it_a_ratio_tears_pairs_apart(trace_with):
    routes, shadows, both = pairs(trace_with(ParentBased(TraceIdRatioBased(0.1))))
    assert both < min(routes, shadows) / 2


def test_what_a_sampled_shadow_calls_is_in_its_trace(trace_with):
    traced = trace_with(RolloutSampler(ParentBased(ALWAYS_ON)))
    traced.model(lambda x: x, lambda x: traced.tracer.start_span("inside").end(), Shadow(1.0))("u")
    spans = traced.spans()
    assert spans["shadow model/candidate"].context.span_id == spans["inside"].parent.span_id


def test_every_transition_is_kept_where_nothing_else_is(trace_with):
    traced = trace_with(RolloutSampler(ALWAYS_OFF))
    canary = traced.model(lambda x: x, lambda x: x, Canary(["10%", "50%"]))
    canary("u")
    canary.rollout.promote(actor="ann")
    canary.rollout.abort(actor="ann")
    assert ["transition model"] * 3 == [span.name for span in traced.finished()]


def test_all_else_is_as_the_other_sampler_says():
    inner = TraceIdRatioBased(0.5)
    sampler = RolloutSampler(inner)
    for trace_id in range(0, 2**64, 2**58):
        assert (
            inner.should_sample(None, trace_id, "request").decision == sampler.should_sample(None, trace_id, "request").decision
        )
    assert "RolloutSampler{TraceIdRatioBased{0.5}}" == sampler.get_description()


def test_a_shadow_as_a_child_is_sampled_with_its_call(trace_with):
    traced = trace_with(RolloutSampler(ParentBased(TraceIdRatioBased(0.5))), shadow_spans="child")
    shadowed = traced.model(lambda x: x, lambda x: x, Shadow(1.0), unit=None)
    for number in range(60):
        shadowed(number)
    spans = traced.finished()
    routes = {span.context.span_id for span in spans if span.name == "route model"}
    assert 0 < len(routes) < 60
    assert routes == {span.parent.span_id for span in spans if span.name.startswith("shadow")}


def test_a_sampled_span_keeps_its_attributes_and_an_unsampled_one_has_none():
    attributes = {"rollout.transition.action": "start"}
    assert attributes == RolloutSampler(ALWAYS_OFF).should_sample(Context(), 1, "t", attributes=attributes).attributes


def test_an_sdk_that_is_set_up_by_its_environment_finds_the_sampler(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "rollout_parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    from opentelemetry.sdk._configuration import _get_sampler, _import_sampler

    sampler = _import_sampler(_get_sampler())
    assert sampler.get_description().startswith("RolloutSampler{ParentBased{root:TraceIdRatioBased{0.25}")
    assert TracerProvider(sampler=sampler).sampler is sampler


@pytest.mark.parametrize("ratio", ["much", "1.5", "-1", "nan"])
def test_a_share_that_is_none_is_an_error_that_says_so(ratio):
    with pytest.raises(ConfigurationError, match="OTEL_TRACES_SAMPLER_ARG"):
        parent_based_ratio(ratio)


def test_without_an_sdk_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "rollout_sdk.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.sampling", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rollout-sdk\[otel\]'"):
        import rollout_sdk.otel  # noqa: F401
