"""What shadows hold is bounded in bytes: copies of the inputs, and copies of the control's outputs."""

import asyncio
import threading
from collections import Counter

import pytest

from rollout_sdk import Shadow, rollout
from tests.faults.kinds import KINDS, answered, of_kind, of_rows

LARGE = 400_000
WAYS = [*((kind, {}) for kind in KINDS), ("function", {"batch": "rows"}), ("coroutine", {"batch": "rows"})]
BYTES = {"max_bytes": 1 << 20, "workers": 1, "copy_s": 60.0}
"""Bytes alone decide here: on a busy machine, a copy can take longer than its millisecond."""
ways = pytest.mark.parametrize(("kind", "options"), WAYS, ids=lambda value: value if isinstance(value, str) else "".join(value))


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


def held(kind, control, gate, runtime, options, rows):
    """How eight shadows ended that all wait while the others are submitted: for the gate, or for a turn of their loop."""

    def candidate(rows):
        assert gate.wait(10)
        return [None]

    of = of_rows if "batch" in options else of_kind
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime, **options}
    model = rollout(candidate=of(kind, candidate), **options)(of(kind, control))

    async def serve():
        for _ in range(8):
            await answered(kind, model(rows()))
        gate.set()
        for _ in range(50):
            await asyncio.sleep(0)

    asyncio.run(serve())
    return Counter(event.end for event in runtime.shadowed())


@ways
def test_copies_of_inputs_count(kind, options, gate, watch):
    runtime = watch(shadows=BYTES)
    found = held(kind, lambda rows: [None], gate, runtime, options, lambda: [bytearray(LARGE)])
    assert Counter(ok=2, dropped_too_large=6) == found


@ways
def test_copies_of_the_controls_outputs_count(kind, options, gate, watch):
    runtime = watch(shadows=BYTES)
    found = held(kind, lambda rows: [bytearray(LARGE)], gate, runtime, options, lambda: [0])
    assert Counter(ok=2, dropped_too_large=6) == found


def test_copies_of_the_items_of_a_returned_stream_count(gate, watch):
    runtime = watch(shadows=BYTES)
    found = held("function", lambda rows: map(bytearray, [LARGE]), gate, runtime, {}, lambda: [0])
    assert Counter(ok=2, dropped_too_large=6) == found


def test_what_has_ended_holds_nothing(watch):
    runtime = watch(shadows=BYTES)
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(lambda x: x)
    for _ in range(5):
        model(bytearray(LARGE))
        assert runtime.flush(10.0)
    assert Counter(ok=5) == Counter(event.end for event in runtime.shadowed())


LARGER = 3 << 20


@ways
@pytest.mark.parametrize("limits", [{}, {"copy_bytes": 4 << 20, "copy_s": 60.0}], ids=["usual", "raised"])
def test_copies_may_be_as_large_as_the_limits_say(kind, options, limits, gate, watch):
    gate.set()
    runtime = watch(shadows=limits)
    found = held(kind, lambda rows: [None], gate, runtime, options, lambda: [bytearray(LARGER)])
    assert Counter({"ok" if limits else "dropped_snapshot": 8}) == found


ANSWERS = {"plain": bytes, "copied": bytearray, "stream": lambda size: (bytes(each) for each in [size])}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("limits", [{}, {"copy_bytes": 4 << 20, "copy_s": 60.0}], ids=["usual", "raised"])
def test_answers_that_are_compared_may_be_as_large_as_the_limits_say(answer, limits, watch):
    runtime = watch(shadows=limits)
    options = {"strategy": Shadow(1.0), "effects": "read", "key": "model", "runtime": runtime}
    model = rollout(candidate=lambda x: answer(x), **options)(lambda x: answer(x))
    for _ in model(LARGER):
        pass
    assert runtime.flush(10.0)
    (event,) = runtime.shadowed()
    assert (event.end, event.comparison is not None) == ("ok", bool(limits))


def test_lower_limits_hold_for_values_that_need_no_copy(watch):
    runtime = watch(shadows={"copy_bytes": 1_000})
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(lambda x: x)
    model("x" * 2_000)
    assert runtime.flush(10.0)
    (event,) = runtime.shadowed()
    assert event.end == "dropped_snapshot"
    assert event.error.startswith("over 0.000954 MiB")


def test_a_copy_may_take_as_long_as_the_limits_say(watch):
    runtime = watch(shadows={"copy_s": 0.0})
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(lambda x: x)
    model([[number] for number in range(1_000)])
    assert runtime.flush(10.0)
    (event,) = runtime.shadowed()
    assert (event.end, event.error) == ("dropped_snapshot", "over 0 ms (argument 'x')")
