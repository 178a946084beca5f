"""Ctrl-C is the caller's: it comes out as it went in, and every shadow that was prepared ends, once."""

import asyncio
from collections import Counter

import pytest

from rollout_sdk import ABTest, Shadow, rollout
from tests.faults.kinds import KINDS, answered, of_kind, of_rows
from tests.faults.law import ConservationLaw

INTERRUPTIONS = [KeyboardInterrupt, SystemExit]
WAYS = [*((kind, {}) for kind in KINDS), ("function", {"batch": "rows"}), ("coroutine", {"batch": "rows"})]
ways = pytest.mark.parametrize(("kind", "options"), WAYS, ids=lambda value: value if isinstance(value, str) else "".join(value))


@pytest.fixture
def law(monkeypatch, watch):
    """Every run that was made ends exactly once."""
    law = ConservationLaw(monkeypatch)
    yield law
    watch.close()
    law.check()


def shadowed(kind, control, runtime, options, **more):
    of = of_rows if "batch" in options else of_kind
    candidates = {name: of(kind, lambda rows: rows) for name in ("v2", "v3")}
    made = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime}
    return rollout(candidates=candidates, **made, **options, **more)(of(kind, control))


def call(kind, model):
    """What the caller of a coroutine that raises `KeyboardInterrupt` has: the coroutine is driven by hand, as by a loop."""
    if kind in ("function", "generator"):
        return [*model([1])]

    coroutine = answered(kind, model([1]))
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


@ways
def test_while_the_arguments_are_copied_all_shadows_of_the_call_are_cancelled(kind, options, runtime, law):
    copies = []

    def isolate(value):
        copies.append(value)
        if len(copies) == 2:
            raise KeyboardInterrupt
        return value

    model = shadowed(kind, lambda rows: rows, runtime, options, isolate=isolate)
    with pytest.raises(KeyboardInterrupt):
        call(kind, model)
    assert Counter(cancelled=2) == Counter(event.end for event in runtime.shadowed())


@ways
@pytest.mark.parametrize("error", INTERRUPTIONS)
def test_while_the_control_runs_its_shadows_run_all_the_same_and_are_not_compared(error, kind, options, runtime, law):
    def control(rows):
        raise error

    model = shadowed(kind, control, runtime, options)

    async def serve():
        # A loop ends at such an exception: caught here, before it comes to that.
        with pytest.raises(error):
            await answered(kind, model([1]))
        for _ in range(50):
            await asyncio.sleep(0)

    asyncio.run(serve())
    assert runtime.flush(10.0)
    assert [("ok", None)] * 2 == [(event.end, event.comparison) for event in runtime.shadowed()]
    assert [True] == [event.closed_early for event in runtime.routed()]


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("error", INTERRUPTIONS)
def test_a_batch_whose_candidate_is_interrupted_is_over_for_all_its_rows(error, kind, runtime):
    ran = []

    def candidate(rows):
        raise error

    options = {"strategy": ABTest(1.0), "batch": "rows", "key": "model", "runtime": runtime}
    model = rollout(candidate=of_rows(kind, candidate), **options)(of_rows(kind, lambda rows: ran.append(rows) or rows))
    with pytest.raises(error):
        call_rows(kind, model)
    assert [] == ran
    assert [True] * 3 == [event.closed_early for event in runtime.routed()]


def call_rows(kind, model):
    if kind == "function":
        return model([1, 2, 3])
    return model([1, 2, 3]).send(None)
