"""What shadows hold is bounded in bytes: copies of the inputs, and copies of the control's outputs."""

import asyncio
import threading
from collections import Counter

import pytest

from rollout_sdk import Shadow, rollout
from tests.faults.kinds import KINDS, answered, of_kind, of_rows

LARGE = 400_000
WAYS = [*((kind, {}) for kind in KINDS), ("function", {"batch": "rows"}), ("coroutine", {"batch": "rows"})]
ways = pytest.mark.parametrize(("kind", "options"), WAYS, ids=lambda value: value if isinstance(value, str) else "".join(value))


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Bytes alone decide here: on a busy machine, a copy can take longer than its millisecond."""
    monkeypatch.setattr("rollout_sdk.engine.copies.snapshot._MOST_TIME_S", 60.0)


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
    runtime = watch(shadows={"max_bytes": 1 << 20, "workers": 1})
    found = held(kind, lambda rows: [None], gate, runtime, options, lambda: [bytearray(LARGE)])
    assert Counter(ok=2, dropped_too_large=6) == found


@ways
def test_copies_of_the_controls_outputs_count(kind, options, gate, watch):
    runtime = watch(shadows={"max_bytes": 1 << 20, "workers": 1})
    found = held(kind, lambda rows: [bytearray(LARGE)], gate, runtime, options, lambda: [0])
    assert Counter(ok=2, dropped_too_large=6) == found


def test_copies_of_the_items_of_a_returned_stream_count(gate, watch):
    runtime = watch(shadows={"max_bytes": 1 << 20, "workers": 1})
    found = held("function", lambda rows: map(bytearray, [LARGE]), gate, runtime, {}, lambda: [0])
    assert Counter(ok=2, dropped_too_large=6) == found


def test_what_has_ended_holds_nothing(watch):
    runtime = watch(shadows={"max_bytes": 1 << 20, "workers": 1})
    model = rollout(candidate=lambda x: x, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(lambda x: x)
    for _ in range(5):
        model(bytearray(LARGE))
        assert runtime.flush(10.0)
    assert Counter(ok=5) == Counter(event.end for event in runtime.shadowed())
