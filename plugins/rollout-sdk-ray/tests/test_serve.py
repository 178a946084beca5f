"""Rollouts between deployments, in two replicas of a router on a real cluster."""

import os

import pytest

pytest.importorskip("ray.serve", reason="needs ray[serve]")

import ray
from opentelemetry import trace

from rollout_sdk import ConfigurationError
from rollout_sdk_ray import RayStore, continues_trace, variant

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]
USERS = [f"u-{number}" for number in range(40)]


def of_both(shop, method, *arguments):
    """What both replicas of the router answer, by process."""
    found = {}
    for _ in range(200):
        pid, *rest = shop(method, *arguments)
        found[pid] = rest
        if len(found) == 2:
            return found
    raise AssertionError("one replica has never answered")


def facts(shop, name, which):
    """Runs or shadows of a rollout, of both replicas."""
    return [fact for found in of_both(shop, "facts_of", name).values() for fact in found[which]]


def test_a_handle_is_a_variant_and_replicas_give_a_user_the_same(shop):
    answers = [{shop("ask", "rank", user=user) for _ in range(4)} for user in USERS]
    assert {len(each) for each in answers} == {1}
    versions = {answer.split()[0] for each in answers for answer in each}
    assert versions == {"old", "new"}
    runs = facts(shop, "rank", 0)
    assert len(runs) >= 160
    # The time of the answer, which a replica in another process needs, and not that of the hand-over.
    assert min(duration_s for _, _, duration_s in runs) > 0.0005


def test_a_deployment_that_raises_is_answered_for_by_the_control(shop):
    assert shop("ask", "failing", user="u-1", query="boom") == "old boom for u-1"
    runs = facts(shop, "failing", 0)
    assert [(name, error) for name, error, _ in runs] == [("candidate", "RayTaskError(LookupError)"), ("control", None)]


def test_a_shadow_runs_on_the_other_deployment_and_is_compared(shop, eventually):
    assert shop("ask", "shadowed", user="u-1") == "old shoes for u-1"
    eventually(lambda: facts(shop, "shadowed", 1) == [("candidate", "ok", False)])


def test_a_batch_is_split_between_deployments_and_comes_back_in_order(shop):
    before = {version: len(shop("model", version)[0]) for version in ("old", "new")}
    answers = shop("ask", "rows", texts=USERS)
    assert [answer.split()[1] for answer in answers] == USERS
    assert {answer.split()[0] for answer in answers} == {"old", "new"}
    sizes = [shop("model", version)[0][before[version] :] for version in ("old", "new")]
    assert [len(each) for each in sizes] == [1, 1]
    assert sum(sizes[0] + sizes[1]) == len(USERS)


def test_requests_of_many_callers_are_batched_by_the_deployment(shop):
    before = {version: len(shop("model", version)[0]) for version in ("old", "new")}
    answers = shop("ask_many", "embed", "texts", USERS)
    assert [answer.split()[1] for answer in answers] == USERS
    sizes = [size for version in ("old", "new") for size in shop("model", version)[0][before[version] :]]
    assert sum(sizes) == len(USERS)
    assert max(sizes) > 1


def test_a_stream_is_read_as_it_comes_and_measured_at_its_end(shop):
    assert shop("read", "tokens", user="u-1") == ["new 0", "new 1", "new 2"]
    assert [(name, error) for name, error, _ in facts(shop, "tokens", 0)] == [("candidate", None)]


def test_a_stream_that_breaks_is_a_failure_of_its_variant(shop):
    with pytest.raises(Exception, match="no such shelf"):
        shop("read", "tokens", user="u-1", fails=True)
    assert ("candidate", "RayTaskError(LookupError)") in [(name, error) for name, error, _ in facts(shop, "tokens", 0)]


def test_a_stream_that_its_reader_leaves_is_cancelled_in_the_replica(shop, eventually):
    assert shop("read", "endless", most=3, user="u-1") == ["new"] * 3
    eventually(lambda: "closed" in shop("model", "new")[0])


def test_a_deadline_cancels_the_request_and_the_control_answers(shop, eventually):
    assert shop("ask", "slow", user="u-1") == "old"
    eventually(lambda: "cancelled" in shop("model", "new")[0])
    assert [(name, error) for name, error, _ in facts(shop, "slow", 0)] == [("candidate", "DeadlineError"), ("control", None)]


@pytest.mark.parametrize("name", ["traced", "traced_rows"])
def test_a_trace_goes_on_in_the_replica(shop, name):
    trace_id, span_id, found = shop("in_trace", name, user="u-1")
    rows = [found] if name == "traced" else found
    # Without an SDK of its own, the rollout's span is the caller's.
    assert [tuple(row) for row in rows] == [(trace_id, span_id)] * len(rows)


def test_without_a_caller_in_a_trace_the_method_begins_its_own(shop):
    assert shop("ask", "traced", user="u-1")[1] is None


def test_the_metrics_of_both_replicas_add_up_to_the_calls(shop):
    before = sum(count for (count,) in of_both(shop, "counted", "rank").values())
    for user in USERS:
        shop("ask", "rank", user=user)
    assert sum(count for (count,) in of_both(shop, "counted", "rank").values()) == before + len(USERS)


def test_a_promotion_and_an_abort_in_one_replica_reach_the_other(shop, eventually):
    shop("do", "rank", "promote")
    eventually(lambda: {found[1] for found in of_both(shop, "status_of", "rank").values()} == {"1:100%"})
    assert {shop("ask", "rank", user=user).split()[0] for user in USERS} == {"new"}
    shop("do", "rank", "abort")
    eventually(lambda: {found[0] for found in of_both(shop, "status_of", "rank").values()} == {"aborted"})
    assert {shop("ask", "rank", user=user).split()[0] for user in USERS} == {"old"}
    # The store dies, and what both replicas have seen stays, and is put back.
    name = f"shop-{os.getpid()}"
    ray.kill(ray.get_actor(name, namespace="rollout_sdk"))
    eventually(lambda: RayStore(name, timeout_s=5.0).load("shop.rank"))
    assert RayStore(name, timeout_s=5.0).load("shop.rank").document["status"] == "aborted"
    assert {shop("ask", "rank", user=user).split()[0] for user in USERS} == {"old"}


def test_code_without_an_event_loop_calls_and_reads_as_well(shop, eventually):
    from ray import serve

    handle = serve.get_deployment_handle("Old", "shop")
    assert variant(handle.rank, is_async=False)("u-1") == "old shoes for u-1"
    tokens = variant(handle.options(stream=True).tokens, is_async=False)
    assert list(tokens(user="u-1")) == ["old 0", "old 1", "old 2"]
    before = shop("model", "old")[0].count("closed")
    stream = variant(handle.options(stream=True).endless, is_async=False)("u-1")
    assert next(stream) == "old"
    stream.close()
    eventually(lambda: shop("model", "old")[0].count("closed") == before + 1)


def test_it_is_named_and_takes_parameters_as_its_deployment(shop):
    from inspect import signature

    import ray_shop
    from ray import serve

    handle = serve.get_deployment_handle("New", "shop")
    model = ray_shop.Model.func_or_class
    rank = variant(handle.rank, like=model.rank)
    assert (rank.__module__, rank.__qualname__, str(signature(rank))) == ("shop", "New.rank", "(user, query='shoes')")
    assert variant(handle).__qualname__ == "New.__call__"
    with pytest.raises(ConfigurationError, match=r"not a handle of a deployment.*without .remote"):
        variant(handle.rank.remote)


def test_what_is_continued_stays_of_its_kind_and_leaves_its_reader_where_it_was():
    @continues_trace
    def rows(user):
        with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False))):
            yield trace.get_current_span().get_span_context().span_id
            yield trace.get_current_span().get_span_context().span_id

    carrier = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
    outside = []
    for span_id in rows("u-1", rollout_trace=carrier):
        outside.append((span_id, trace.get_current_span().get_span_context().span_id))
    assert outside == [(8, 0), (8, 0)]
