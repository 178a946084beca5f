"""A panic is a failure although it is not an `Exception`; what is the caller's will passes through."""

import asyncio
import sys
import types

import pytest

from rollout_sdk import ABTest, Interleave, Shadow, rollout
from rollout_sdk.resilience.interruptions import is_interruption
from tests.faults.kinds import KINDS, of_kind, read


class PanicException(BaseException):
    """As PyO3 raises it when Rust code panics."""


WILL = [KeyboardInterrupt, SystemExit]


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def panics(*_):
    raise PanicException("called `Option::unwrap()` on a `None` value")


def old(*_):
    return ["old"]


def made(kind, runtime, control=old, candidate=panics, **options):
    options = {"strategy": ABTest(1.0), "effects": "read", "key": "model", **options}
    return rollout(candidate=of_kind(kind, candidate), runtime=runtime, **options)(of_kind(kind, control))


@pytest.mark.parametrize("kind", KINDS)
def test_a_candidate_that_panics_is_answered_by_the_control_and_left_alone(kind, runtime, loop):
    model = made(kind, runtime)
    assert [(["old"], None)] * 30 == [read(kind, lambda: model(1), loop) for _ in range(30)]
    events = runtime.routed()
    assert [("PanicException", None)] * 20 == [tuple(run.error for run in event.runs) for event in events[:20]]
    assert {"breaker_open"} == {event.withheld for event in events[20:]}
    assert not any(event.closed_early or event.excluded for event in events)


@pytest.mark.parametrize("kind", ["coroutine", "async generator"])
def test_a_panic_before_the_deadline_is_a_failure(kind, runtime, loop):
    model = made(kind, runtime, deadline_s=5.0)
    assert (["old"], None) == read(kind, lambda: model(1), loop)


@pytest.mark.parametrize("kind", KINDS)
def test_a_panic_reaches_the_caller_where_no_control_may_run_after_it(kind, runtime, loop):
    model = made(kind, runtime, on_error="raise")
    assert isinstance(read(kind, lambda: model(1), loop)[1], PanicException)
    (event,) = runtime.routed()
    assert ("PanicException", False) == (event.error, event.closed_early)


@pytest.mark.parametrize("kind", KINDS)
def test_a_panic_of_the_control_is_its_error_and_reaches_the_caller(kind, runtime, loop):
    model = made(kind, runtime, control=panics, candidate=old, strategy=ABTest(0.0))
    assert isinstance(read(kind, lambda: model(1), loop)[1], PanicException)
    (event,) = runtime.routed()
    assert ("PanicException", ["PanicException"], False) == (
        event.error, [run.error for run in event.runs], event.closed_early,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_is_the_controls_when_the_other_ranker_panics(kind, runtime, loop):
    model = made(kind, runtime, strategy=Interleave())
    assert (["old"], None) == read(kind, lambda: model(1), loop)
    (event,) = runtime.routed()
    assert {"control": None, "candidate": "PanicException"} == {run.variant: run.error for run in event.runs}


def test_rows_of_a_candidate_that_panics_are_answered_by_the_control(runtime):
    model = rollout(
        candidate=lambda rows, users: panics(), strategy=ABTest(0.5), unit="users", batch="rows", key="rows", runtime=runtime
    )(lambda rows, users: [-row for row in rows])
    assert [-row for row in range(40)] == model(list(range(40)), list(range(40)))
    assert {"PanicException"} == {event.runs[0].error for event in runtime.routed() if event.decision.variant == "candidate"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_shadow_that_panics_ends_as_an_error(kind, runtime, loop):
    model = made(kind, runtime, strategy=Shadow(1.0))

    async def wait():
        await asyncio.sleep(0.01)

    assert (["old"], None) == read(kind, lambda: model(1), loop)
    loop.run_until_complete(wait())
    assert [("error", "PanicException")] == [(event.end, event.error) for event in runtime.shadowed()]


@pytest.mark.parametrize("error", WILL)
def test_what_ends_the_process_passes_through(error, runtime):
    def candidate(x):
        raise error

    model = rollout(candidate=candidate, strategy=ABTest(1.0), runtime=runtime)(lambda x: "old")
    for _ in range(30):
        with pytest.raises(error):
            model(1)
    assert () == model.rollout.status().open_breakers


@pytest.mark.parametrize(("module", "name"), [("trio", "Cancelled"), ("greenlet", "GreenletExit"), ("gevent", "Timeout")])
def test_a_cancellation_of_another_library_passes_through(module, name, runtime, monkeypatch):
    cancelled = type(name, (BaseException,), {})
    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: cancelled}))

    def candidate(x):
        raise cancelled

    model = rollout(candidate=candidate, strategy=ABTest(1.0), runtime=runtime)(lambda x: "old")
    with pytest.raises(cancelled):
        model(1)
    assert [True] == [event.closed_early for event in runtime.routed()]


def test_a_group_passes_through_as_soon_as_it_holds_one_interruption():
    failed = BaseExceptionGroup("failed", [ValueError(), PanicException()])
    assert not is_interruption(failed, awaited=True)
    assert is_interruption(BaseExceptionGroup("both", [failed, KeyboardInterrupt()]), awaited=True)


def test_a_coroutine_that_no_event_loop_of_asyncio_drives_may_be_cancelled_by_its_driver(runtime):
    async def candidate(x):
        raise asyncio.CancelledError

    async def control(x):
        return "old"

    model = rollout(candidate=candidate, strategy=ABTest(1.0), runtime=runtime)(control)
    with pytest.raises(asyncio.CancelledError):
        model(1).send(None)
