"""Breakers, deadlines, aborts and copies in real calls: the control answers, and the failure stays the candidate's."""

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections import Counter
from contextlib import aclosing

import pytest

import rollout_sdk
from rollout_sdk import ABTest, Breaker, ConfigurationError, DeadlineError, Interleave, Shadow, rollout
from rollout_sdk.engine import stopping
from rollout_sdk.resilience import breaker


def both(control, candidate, runtime, *, strategy=ABTest(1.0), effects="read", key="model", **options):
    return rollout(candidate=candidate, strategy=strategy, effects=effects, key=key, runtime=runtime, **options)(control)


class Counted:
    """A function that counts its calls, and fails while it is told to."""

    def __init__(self, value):
        self.value = value
        self.calls = 0
        self.fails = False

    def __call__(self, x):
        self.calls += 1
        if self.fails:
            raise ValueError
        return self.value


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(breaker, "monotonic", clock)
    return clock


# Breaker ------------------------------------------------------------------------------------------------------------------


def test_a_failing_candidate_is_left_alone_and_its_units_stay_assigned(runtime):
    new = Counted("new")
    new.fails = True
    model = both(Counted("old"), new, runtime)
    assert ["old"] * 1000 == [model(1) for _ in range(1000)]
    assert 20 == new.calls
    events = runtime.routed()
    assert {("candidate", "control", False)} == {(e.decision.variant, e.served, e.excluded) for e in events}
    assert Counter({None: 20, "breaker_open": 980}) == Counter(e.withheld for e in events)
    status = model.rollout.status()
    assert ("candidate",) == status.open_breakers
    assert {("candidate", "ValueError"): 20, ("candidate", "breaker_open"): 980} == status.fallbacks
    assert "breaker of candidate is open" in str(status)


def test_one_probe_brings_a_mended_candidate_back(runtime, clock):
    new = Counted("new")
    new.fails = True
    model = both(Counted("old"), new, runtime)
    for _ in range(30):
        model(1)
    clock.now += 31.0
    assert "old" == model(1)
    assert 21 == new.calls
    new.fails = False
    clock.now += 59.0
    assert "old" == model(1)
    clock.now += 2.0
    assert ["new", "new"] == [model(1), model(1)]
    actions = [event.action for event in runtime.events() if type(event).__name__ == "BreakerEvent"]
    assert ["open", "open", "close"] == actions
    assert () == model.rollout.status().open_breakers


def test_an_exception_that_is_an_answer_opens_no_breaker(runtime):
    def new(x):
        raise LookupError

    model = both(lambda x: x, new, runtime, passthrough=(LookupError,))
    for _ in range(100):
        with pytest.raises(LookupError):
            model(1)
    assert () == model.rollout.status().open_breakers


def test_without_a_breaker_a_failing_candidate_is_tried_for_ever(runtime):
    new = Counted("new")
    new.fails = True
    model = both(Counted("old"), new, runtime, breaker=None)
    for _ in range(200):
        model(1)
    assert 200 == new.calls


def test_a_candidate_that_fails_as_a_shadow_is_not_shadowed_for_a_while(runtime):
    new = Counted("new")
    new.fails = True
    model = both(Counted("old"), new, runtime, strategy=Shadow(1.0))
    for _ in range(100):
        model(1)
        runtime.flush()
    assert 20 == new.calls
    assert Counter(error=20, dropped_open=80) == Counter(event.end for event in runtime.shadowed())


def test_the_rows_of_a_withheld_candidate_are_the_controls_in_one_call(runtime):
    old = []

    def control(rows):
        old.append(list(rows))
        return [row * 2 for row in rows]

    def candidate(rows):
        raise ValueError

    model = rollout(
        candidate=candidate, strategy=ABTest(0.5), unit="rows", batch="rows", key="rows", runtime=runtime,
        breaker=Breaker(min_runs=1),
    )(control)  # fmt: skip
    rows = list(range(40))
    assert [[row * 2 for row in rows]] * 2 == [model(rows), model(rows)]
    assert rows == old[-1]
    last = runtime.routed()[-40:]
    assert Counter({"control": 40}) == Counter(event.served for event in last)
    assert {"candidate": "breaker_open", "control": None} == {event.decision.variant: event.withheld for event in last}


def test_a_withheld_ranker_leaves_the_controls_list(runtime):
    new = Counted([3, 4])
    new.fails = True
    model = both(Counted([1, 2]), new, runtime, strategy=Interleave(), breaker=Breaker(min_runs=1))
    assert [[1, 2], [1, 2]] == [model(1), model(1)]
    assert 1 == new.calls


def test_the_rollouts_of_one_key_share_their_breaker(runtime):
    new = Counted("new")
    new.fails = True

    def made():
        return both(lambda x: "old", new, runtime)

    for _ in range(50):
        assert "old" == made()(1)
    assert 20 == new.calls


# Abort --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "generator"])
@pytest.mark.parametrize("stop", ["abort", "disable"])
def test_after_a_stop_returns_no_candidate_starts_in_any_thread(stop, kind, runtime):
    started, calls = [], Counter()
    clock = time.perf_counter

    def new(x):
        started.append(clock())
        return "new"

    def stream(x):
        started.append(clock())
        yield "new"

    def old_stream(x):
        yield "old"

    model = both(lambda x: "old", new, runtime) if kind == "function" else both(old_stream, stream, runtime)
    over = threading.Event()

    def serve(number):
        while not over.is_set():
            answer = model(1)
            calls[number, answer if kind == "function" else next(answer)] += 1

    before = sys.getswitchinterval()
    # Threads are suspended anywhere, also between the last look and the call.
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    try:
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        if stop == "abort":
            model.rollout.abort(actor="test")
        else:
            rollout_sdk.disable()
        stopped = clock()
        time.sleep(0.1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
        rollout_sdk.enable()
    assert started
    assert 0 == sum(time > stopped for time in started)
    assert {"old", "new"} == {answer for _, answer in calls}


def test_a_candidate_that_was_stopped_at_the_last_moment_is_answered_by_the_control(runtime):
    def stops(x):
        raise AssertionError

    model = both(lambda x: x, stops, runtime, on_error="raise")

    class Stopping(ABTest):
        def rollout_route(self, request):
            decision = super().rollout_route(request)
            model.rollout.abort()
            return decision

    model = both(lambda x: x, stops, runtime, on_error="raise", strategy=Stopping(1.0), key="stopping")
    assert 7 == model(7)
    (event,) = runtime.routed()
    assert ("candidate", "control", "aborted", [None]) == (
        event.decision.variant,
        event.served,
        event.withheld,
        [run.error for run in event.runs],
    )


def test_shadows_that_wait_are_not_started_after_an_abort(watch):
    runtime = watch(shadows={"workers": 1})
    gate, ran = threading.Event(), []

    def new(x):
        ran.append(x)
        gate.wait(10)

    model = both(lambda x: x, new, runtime, strategy=Shadow(1.0))
    for number in range(5):
        model(number)
    while not ran:
        time.sleep(0.001)
    model.rollout.abort()
    gate.set()
    assert Counter(ok=1, dropped_aborted=4) == Counter(event.end for event in runtime.shadowed())
    assert [0] == ran


def test_looking_where_threads_stand_while_garbage_is_collected_harms_nobody(run_python):
    """Before Python 3.12 the collector runs within the look, and the process crashed."""
    result = run_python("""
        import gc, sys, threading, time
        from rollout_sdk import ABTest, Runtime, rollout
        from rollout_sdk.engine.stopping import wait_for_starts

        def fails(x):
            raise ValueError

        options = dict(strategy=ABTest(0.5), unit="x", effects="read", key="m", runtime=Runtime())
        model = rollout(candidate=fails, **options)(lambda x: x)
        stop = []

        def work():
            while not stop:
                for number in range(50):
                    model(number)

        sys.setswitchinterval(1e-6)
        gc.callbacks.append(lambda phase, info: None)
        gc.set_threshold(30, 5, 20)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 2.0
        try:
            while time.monotonic() < until:
                wait_for_starts(0.001)
        finally:
            stop.append(True)
        for thread in threads:
            thread.join()
        print(gc.isenabled())
    """)
    assert ("True\n", "", 0) == (result.stdout, result.stderr, result.returncode)


def test_the_wait_for_starts_does_not_wait_for_what_has_begun(runtime):
    gate, began = threading.Event(), threading.Event()

    def new(x):
        began.set()
        gate.wait(10)

    model = both(lambda x: x, new, runtime)
    thread = threading.Thread(target=model, args=(1,))
    thread.start()
    began.wait()
    try:
        assert stopping.wait_for_starts(5.0)
        assert thread.is_alive()
    finally:
        gate.set()
        thread.join()


# Deadline -----------------------------------------------------------------------------------------------------------------


async def old(x):
    return "old"


def test_a_candidate_that_swallows_its_cancellation_is_left_in_time(runtime):
    async def new(x):
        for _ in range(3):
            try:
                await asyncio.sleep(0.3)
            except asyncio.CancelledError:
                continue

    async def main():
        started = time.perf_counter()
        answer = await both(old, new, runtime, deadline_s=0.1)(1)
        return answer, time.perf_counter() - started

    answer, took_s = asyncio.run(main())
    assert "old" == answer
    assert 0.1 <= took_s < 0.25
    (event,) = runtime.routed()
    assert [("candidate", "DeadlineError"), ("control", None)] == [(run.variant, run.error) for run in event.runs]


def test_a_candidate_in_time_answers_with_its_own_value_or_exception(runtime):
    async def new(x):
        if x:
            raise KeyError(x)
        return "new"

    assert "new" == asyncio.run(both(old, new, runtime, deadline_s=5.0)(0))
    with pytest.raises(KeyError):
        asyncio.run(both(old, new, runtime, deadline_s=5.0, on_error="raise", key="raises")(1))


def test_with_on_error_raise_a_late_candidate_is_a_timeout(runtime):
    async def new(x):
        await asyncio.sleep(10)

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(both(old, new, runtime, deadline_s=0.01, on_error="raise")(1))
    assert DeadlineError is type(caught.value)


def test_a_cancelled_caller_cancels_a_candidate_with_a_deadline(runtime):
    cancelled = []

    async def new(x):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise

    async def main():
        task = asyncio.create_task(both(old, new, runtime, deadline_s=5.0)(1))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        # Looked at here: what is left at the end of a loop is cancelled by that.
        return list(cancelled)

    assert [1] == asyncio.run(main())
    assert [True] == [event.closed_early for event in runtime.routed()]


async def asked(stream):
    return await anext(stream)


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_late_candidate_is_cancelled_when_it_is_left(runtime):
    cancelled = []

    async def new(x):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise

    async def main():
        answer = await both(old, new, runtime, deadline_s=0.01)(1)
        await turns()
        return answer, list(cancelled)

    assert ("old", [1]) == asyncio.run(main())


@pytest.mark.parametrize("end", ["raises", "waits for what nobody holds"])
def test_a_candidate_that_was_left_says_nothing_in_the_loops_log(end, runtime, caplog):
    left = []

    async def new(x):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            left.append(x)
        if end == "raises":
            raise ValueError
        # Nothing but this task refers to the future, and nothing but the future to this task.
        await asyncio.get_running_loop().create_future()

    async def main():
        answer = await both(old, new, runtime, deadline_s=0.01)(1)
        await turns()
        gc.collect()
        await turns()
        return answer, list(left), [record.getMessage() for record in caplog.records if record.name == "asyncio"]

    assert ("old", [1], []) == asyncio.run(main())


def test_a_candidate_with_a_deadline_is_let_go_when_it_has_answered(runtime):
    class Answer:
        pass

    made = []

    async def new(x):
        answer = Answer()
        made.append(weakref.ref(answer))
        return answer

    async def main():
        model = both(old, new, runtime, deadline_s=5.0)
        assert isinstance(await model(1), Answer)
        await turns()
        gc.collect()
        return [reference() for reference in made]

    assert [None] == asyncio.run(main())


async def old_stream(x):
    yield "old"


@pytest.mark.parametrize("swallows", [False, True])
def test_a_stream_whose_first_item_is_late_is_the_controls(swallows, runtime):
    async def new(x):
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            if not swallows:
                raise
            await asyncio.sleep(0.3)
        yield "new"

    async def main():
        started = time.perf_counter()
        items = [item async for item in both(old_stream, new, runtime, deadline_s=0.1)(1)]
        return items, time.perf_counter() - started

    items, took_s = asyncio.run(main())
    assert ["old"] == items
    assert took_s < 0.25


def test_a_stream_with_a_deadline_runs_in_one_task_and_may_take_its_time_after_the_first_item(runtime):
    tasks = []

    async def new(x):
        async with asyncio.timeout(10):
            tasks.append(asyncio.current_task())
            got = yield "first"
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0.1)
            try:
                yield got
            except ValueError:
                tasks.append(asyncio.current_task())
                yield "caught"

    async def main():
        stream = both(old_stream, new, runtime, deadline_s=0.05)(1)
        async with aclosing(stream):
            return [
                await anext(stream),
                await stream.asend("sent"),
                await stream.athrow(ValueError()),
                [i async for i in stream],
            ]

    assert ["first", "sent", "caught", []] == asyncio.run(main())
    assert 1 == len(set(tasks))
    assert [("candidate", None)] == [(event.served, event.error) for event in runtime.routed()]


def test_a_cancelled_consumer_cancels_a_stream_with_a_deadline(runtime):
    cancelled = []

    async def new(x):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise
        yield "new"

    async def main():
        stream = both(old_stream, new, runtime, deadline_s=5.0)(1)
        task = asyncio.ensure_future(asked(stream))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns()
        return list(cancelled)

    assert [1] == asyncio.run(main())
    assert [True] == [event.closed_early for event in runtime.routed()]


def test_a_stream_with_a_deadline_that_is_closed_early_closes_its_model(runtime):
    closed = []

    async def new(x):
        try:
            yield 1
            yield 2
        finally:
            closed.append(asyncio.current_task())

    async def main():
        stream = both(old_stream, new, runtime, deadline_s=5.0)(1)
        async with aclosing(stream):
            assert 1 == await anext(stream)
        assert 1 == len(closed)
        await asyncio.sleep(0)
        return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert [] == asyncio.run(main())
    assert [True] == [event.closed_early for event in runtime.routed()]


def test_a_late_ranker_leaves_the_controls_list_in_time(runtime):
    async def rank(x):
        return [1, 2]

    async def late(x):
        await asyncio.sleep(10)

    model = both(rank, late, runtime, strategy=Interleave(), deadline_s=0.05)
    assert [1, 2] == asyncio.run(asyncio.wait_for(model(1), 5.0))
    assert [("control", True)] == [(event.served, event.excluded) for event in runtime.routed()]


@pytest.mark.parametrize("deadline_s", [0, -1, float("nan"), float("inf"), True, "1"])
def test_a_deadline_that_is_no_time_is_refused(deadline_s, runtime):
    with pytest.raises(ConfigurationError, match="is no time"):
        both(old, old, runtime, deadline_s=deadline_s)


def test_a_deadline_that_cannot_be_kept_is_refused(runtime):
    with pytest.raises(ConfigurationError, match="cannot be kept"):
        both(lambda x: x, lambda x: x, runtime, deadline_s=1.0)


# Copies -------------------------------------------------------------------------------------------------------------------


def test_a_candidate_that_changes_its_arguments_and_fails_leaves_the_control_its_own(runtime):
    def spoils(features, *, more):
        features.pop("x")
        more.append(1)
        raise ValueError

    model = both(lambda features, *, more: (features["x"], len(more)), spoils, runtime)
    for _ in range(15):
        features, more = {"x": [1]}, []
        answer = model(features, more=more)
        assert ([1], 0) == answer
        assert answer[0] is features["x"]
        assert ({"x": [1]}, []) == (features, more)


def test_a_batch_and_a_coroutine_are_protected_alike(runtime):
    def spoils(rows):
        for row in rows:
            row.clear()
        raise ValueError

    model = rollout(candidate=spoils, strategy=ABTest(1.0), batch="rows", key="rows", runtime=runtime)(
        lambda rows: [row["x"] for row in rows]
    )
    assert [1, 2] == model([{"x": 1}, {"x": 2}])

    async def control(features):
        return features["x"]

    async def candidate(features):
        features.clear()
        raise ValueError

    assert 1 == asyncio.run(both(control, candidate, runtime)({"x": 1}))


def test_what_cannot_be_copied_and_what_shall_not_be_is_shared(runtime):
    class Connection:
        pass

    seen = []
    connection, features = Connection(), {}
    both(lambda c: None, lambda c: seen.append(c), runtime)(connection)
    both(lambda f: None, lambda f: seen.append(f), runtime, isolate="none", key="none")(features)
    both(lambda f: None, lambda f: seen.append(f), runtime, on_error="raise", key="raise")(features)
    assert [True] * 3 == [given is own for given, own in zip(seen, (connection, features, features), strict=True)]


def test_the_wait_for_starts_waits_for_a_shadow_that_asks_a_stream_for_an_item(watch):
    gate = threading.Lock()
    gate.acquire()
    runtime = watch()
    # Written in C: the innermost code that Python knows of is ours.
    model = both(lambda x: iter([x]), lambda x: iter(gate.acquire, True), runtime, strategy=Shadow(1.0))
    try:
        assert [1] == list(model(1))
        deadline = time.monotonic() + 10
        while stopping.wait_for_starts(0.05) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not stopping.wait_for_starts(0.05)
    finally:
        gate.release()
    assert stopping.wait_for_starts(5.0)
    assert ["ok"] == [event.end for event in runtime.shadowed()]
