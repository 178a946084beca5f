"""`current_decision()` is that of the call that a piece of code belongs to: inside nested calls, after them, and in batches."""

import asyncio
from contextvars import Context

import pytest

from rollout_sdk import ABTest, Interleave, Shadow, current_decision, rollout
from tests.faults.kinds import KINDS, answered, of_kind, of_rows

STRATEGIES = [ABTest(1.0), ABTest(0.0), Interleave()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=["candidate", "control", "interleaved"])
def test_after_a_call_with_calls_inside_the_decision_is_the_outer_ones(strategy, kind, runtime):
    inner = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="inner", runtime=runtime)(lambda x: x)
    inside = []

    def answer(x):
        inside.append(current_decision().rollout)
        inner(x)
        return [x]

    options = {"strategy": strategy, "effects": "read", "key": "outer", "runtime": runtime}
    outer = rollout(candidate=of_kind(kind, answer), **options)(of_kind(kind, answer))

    async def serve():
        before = current_decision()
        await answered(kind, outer(1))
        return before, current_decision()

    # Not in the context of the tests before.
    before, after = Context().run(lambda: asyncio.run(serve()))
    assert None is before
    decided = {event.decision.rollout: event.decision for event in runtime.routed()}
    assert {"inner", "outer"} == set(decided)
    assert after == decided["outer"]
    assert {"outer"} == set(inside)


@pytest.mark.parametrize("kind", KINDS)
def test_the_control_in_place_of_a_failed_candidate_has_its_own_calls_decision(kind, runtime):
    inner = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="inner", runtime=runtime)(lambda x: x)
    inside = []

    def fails(x):
        inner(x)
        raise ValueError

    def control(x):
        inside.append(current_decision())
        return [x]

    options = {"strategy": ABTest(1.0), "key": "outer", "runtime": runtime}
    outer = rollout(candidate=of_kind(kind, fails), **options)(of_kind(kind, control))

    async def serve():
        assert [1] == await answered(kind, outer(1))
        return current_decision()

    after = asyncio.run(serve())
    (decision,) = [event.decision for event in runtime.routed() if event.decision.rollout == "outer"]
    assert [decision, decision] == [*inside, after]


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("answers", [1, 20], ids=["too few results", "too many results"])
def test_the_control_in_place_of_a_failed_batch_has_the_batchs_decision(answers, kind, runtime):
    inner = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="inner", runtime=runtime)(lambda x: x)
    inside = []

    def candidate(rows):
        inner(1)
        return [0] * answers

    def control(rows):
        inside.append(current_decision().rollout)
        return rows

    options = {"strategy": ABTest(1.0), "unit": "rows", "batch": "rows", "key": "batch", "runtime": runtime}
    model = rollout(candidate=of_rows(kind, candidate), **options)(of_rows(kind, control))

    async def serve():
        return await answered(kind, model([1, 2, 3]))

    assert [1, 2, 3] == asyncio.run(serve())
    assert ["batch"] == inside


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_inside_a_batch_and_after_it_the_decision_is_one_of_the_batch(kind, runtime):
    inner = rollout(candidate=lambda x: x, strategy=ABTest(1.0), key="inner", runtime=runtime)(lambda x: x)
    inside = []

    def answer(rows):
        inside.append(current_decision().rollout)
        inner(1)
        return rows

    options = {"strategy": ABTest(0.5), "unit": "rows", "batch": "rows", "key": "batch", "runtime": runtime}
    model = rollout(candidate=of_rows(kind, answer), **options)(of_rows(kind, answer))
    rows = list(range(20))

    async def serve():
        inner(0)
        answers = await answered(kind, model(rows))
        return answers, current_decision().rollout

    assert (rows, "batch") == asyncio.run(serve())
    # Control and candidate; neither the call that was made before nor that of the other is theirs.
    assert ["batch", "batch"] == inside


def test_in_a_shadow_the_decision_is_that_of_the_shadowed_call(runtime):
    seen = {}

    def candidate(x):
        seen[x] = current_decision().id
        return x

    options = {"strategy": Shadow(1.0), "effects": "read", "runtime": runtime}
    first = rollout(candidate=candidate, key="first", **options)(lambda x: x)
    other = rollout(candidate=lambda x: x, key="other", **options)(lambda x: x)
    made = {}
    for number in range(3):
        first(number)
        made[number] = current_decision().id
        other(number)
    assert runtime.flush(10.0)
    assert made == seen
