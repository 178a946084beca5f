"""Shadows cost a bounded number of threads, tasks and bytes, and every one that was submitted ends in exactly one way."""

import asyncio
import threading
import time
from collections import Counter

import pytest

from rollout_sdk import ABTest, ConfigurationError, Shadow, ShadowLimits, rollout
from tests.waiting import until


def shadowed(control, candidate, runtime, **options):
    return rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime, **options)(control)


def ends(runtime):
    """How shadows ended so far, without waiting for those under way."""
    runtime.recorder.flush(5.0)
    runtime._delivery.sinks.flush(5.0)
    return Counter(event.end for event in runtime.plugins[0].events if hasattr(event, "end"))


async def let_others_run():
    """Give the loop to the shadows on it, however slow the machine is."""
    for _ in range(50):
        await asyncio.sleep(0)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "rollout-shadow"]


@pytest.fixture
def gate():
    """Holds shadows until it is set."""
    event = threading.Event()
    yield event
    event.set()


# Threads --------------------------------------------------------------------------------------------------------------------


def test_threads_that_come_back_late_work_again(watch, gate):
    runtime = watch(shadows={"workers": 1, "max_abandoned": 1, "timeout_s": 0.05, "max_age_s": 0.05})
    slow = [True]
    model = shadowed(lambda x: x, lambda x: gate.wait(10) if slow[0] else x, runtime, breaker=None)
    before = len(threads())

    def submitted():
        model(1)
        runtime.background.watch()
        return ends(runtime)["dropped_start"]

    until(submitted)
    assert before + 2 == len(threads())
    slow[0] = False
    gate.set()
    until(lambda: not runtime.background._threads._abandoned)

    def answered():
        model(1)
        return ends(runtime)["ok"]

    until(answered)
    assert len(threads()) - before <= 2
    until(lambda: not runtime.background._threads.jobs)
    assert sum(ends(runtime).values()) == len(runtime.routed())


def test_what_waits_behind_hung_threads_ends_too(watch, gate):
    runtime = watch(shadows={"workers": 1, "max_abandoned": 0, "timeout_s": 0.05, "max_age_s": 0.1})
    model = shadowed(lambda x: x, lambda x: gate.wait(10), runtime, breaker=None)
    for number in range(5):
        model(number)
    until(lambda: not (runtime.background.watch() or runtime.background._threads.jobs))
    assert Counter(timeout=1, dropped_stale=4) == ends(runtime)
    model(6)
    assert 1 == ends(runtime)["dropped_start"]


def test_a_thread_that_cannot_start_costs_one_shadow(runtime, monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    model = shadowed(lambda x: x, lambda x: x, runtime)
    with monkeypatch.context() as patch:
        patch.setattr("rollout_sdk.engine.shadows.pool._Worker.start", no_thread)
        assert 1 == model(1)
    assert 2 == model(2)
    assert Counter(dropped_start=1, ok=1) == Counter(event.end for event in runtime.shadowed())


def test_nobody_waits_for_a_thread_that_somebody_else_starts(runtime):
    model = shadowed(lambda x: x, lambda x: x, runtime)
    threads = runtime.background._threads
    with threads._starting:
        assert 1 == model(1)
    assert 2 == model(2)
    assert Counter(ok=2) == Counter(event.end for event in runtime.shadowed())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, ValueError])
def test_a_comparison_that_raises_whatever_ends_no_thread(error, runtime):
    class Comparator:
        def rollout_compare(self, request, control, candidate):
            if control == 0:
                raise error
            return None

    model = shadowed(lambda x: x, lambda x: x, runtime, plugins=[Comparator()])
    for number in range(4):
        model(number)
    assert Counter(ok=4) == Counter(event.end for event in runtime.shadowed())


def test_a_fault_of_ours_ends_no_thread_and_the_shadow_is_counted(runtime, monkeypatch):
    model = shadowed(lambda x: x, lambda x: x, runtime)
    with monkeypatch.context() as patch:
        patch.setattr("rollout_sdk.engine.shadows.shadow.ShadowRun.run", lambda self: 1 / 0)
        model(1)
        runtime.flush()
    model(2)
    found = Counter((event.end, event.error) for event in runtime.shadowed())
    assert Counter({("error", "ZeroDivisionError"): 1, ("ok", None): 1}) == found
    assert 1 == runtime.faults["engine.background", "ZeroDivisionError"]


def test_after_the_end_nothing_is_taken(runtime):
    model = shadowed(lambda x: x, lambda x: x, runtime)
    model(1)
    runtime.flush()
    runtime.background.close(1.0)
    assert 2 == model(2)
    assert Counter(ok=1, dropped_closed=1) == Counter(event.end for event in runtime.shadowed())


def test_a_shadow_that_meets_the_end_on_its_way_is_counted_once(runtime):
    model = shadowed(lambda x: x, lambda x: x, runtime)
    pool = runtime.background._threads
    pool._has_workers = lambda: pool._closing.set() or True
    model(1)
    assert Counter(dropped_closed=1) == Counter(event.end for event in runtime.shadowed())


def test_what_has_not_begun_at_the_end_is_abandoned_and_never_runs(watch, gate):
    runtime = watch(shadows={"workers": 1})
    ran = []
    model = shadowed(lambda x: x, lambda x: ran.append(x) or gate.wait(10), runtime)
    for number in range(3):
        model(number)
    until(lambda: ran)
    runtime.background.close(0.05)
    assert Counter(abandoned=3) == ends(runtime)
    gate.set()
    time.sleep(0.05)
    assert [0] == ran
    assert Counter(abandoned=3) == ends(runtime)


def test_a_run_that_was_ended_while_it_waited_does_not_begin(runtime):
    ran = []
    model = shadowed(lambda x: x, lambda x: ran.append(x), runtime)
    pool = runtime.background._threads
    pool._has_workers = lambda: True
    model(1)
    (run,) = pool.jobs.values()
    run.end("abandoned")
    assert run.run().error is None
    del pool._has_workers
    model(2)
    runtime.flush()
    assert ([2], Counter(abandoned=1, ok=1)) == (ran, ends(runtime))


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_run_that_is_ended_the_moment_it_begins_is_not_called_without_its_arguments(kind, runtime, monkeypatch):
    called = []
    # The thread looks before it begins, and the run itself once it has its arguments.
    looks = {"function": [False], "coroutine": []}[kind]
    monkeypatch.setattr(
        "rollout_sdk.engine.shadows.shadow.ShadowRun.ended", property(lambda run: looks.pop() if looks else True)
    )

    async def candidate(*args, **kwargs):
        called.append(args)

    async def serve():
        await shadowed(control, candidate, runtime)(1)
        await let_others_run()

    if kind == "function":
        shadowed(lambda x: x, lambda *args, **kwargs: called.append(args), runtime)(1)
        assert runtime.flush()
    else:
        asyncio.run(serve())
    assert [] == called == looks


def test_a_forked_child_begins_anew(runtime):
    background, nonces = runtime.background, runtime.nonces
    before, origin = background._threads, nonces.origin
    background.renew()
    nonces.renew()
    assert before is not background._threads
    assert origin != nonces.origin


def test_a_thread_is_given_up_once_by_however_many_that_watch(watch, gate):
    runtime = watch(shadows={"workers": 1, "timeout_s": 60.0})
    shadowed(lambda x: x, lambda x: gate.wait(10), runtime)(1)
    pool = runtime.background._threads
    until(lambda: pool._workers and pool._workers[0].run_now)
    (worker,) = pool._workers
    pool._give_up(worker)
    pool._give_up(worker)
    assert ([], [worker]) == (pool._workers, pool._abandoned)


def test_waiting_for_shadows_ends_when_the_time_is_up(runtime, gate):
    shadowed(lambda x: x, lambda x: gate.wait(10), runtime)(1)
    assert not runtime.flush(0.05)
    gate.set()
    assert runtime.flush(10.0)


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"cpu_share": 0}, {"max_jobs": -1}, {"timeout_s": float("nan")}, {"max_abandoned": -1}]
)
def test_limits_under_which_nothing_could_run_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"ShadowLimits got {next(iter(wrong))}="):
        ShadowLimits(**wrong)


def test_many_callers_and_hung_shadows_leave_no_run_uncounted(watch, gate):
    """What was submitted and how it ended agree, whatever races there are between callers, threads and the watch."""
    limits = {"workers": 2, "max_abandoned": 2, "max_jobs": 8, "timeout_s": 0.02, "max_age_s": 0.05, "max_bytes": 20_000}
    runtime = watch(shadows=limits)
    before = len(threads())
    highest = [0]

    def candidate(x):
        if x % 100 == 7:
            gate.wait(0.1)
        return x

    model = shadowed(lambda x: x, candidate, runtime)

    def work():
        for number in range(500):
            assert number == model(number)
            highest[0] = max(highest[0], len(threads()) - before)

    callers = [threading.Thread(target=work) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    until(lambda: not (runtime.background.watch() or runtime.background._threads.jobs))
    gate.set()
    events = runtime.events()
    decided = sum(len(event.decision.shadows) for event in events if hasattr(event, "served"))
    ended = [(event.decision.id, event.variant) for event in events if hasattr(event, "end")]
    assert 4000 == decided == len(ended) == len(set(ended))
    assert highest[0] <= 4


def test_callers_in_threads_get_what_they_asked_for(runtime):
    model = rollout(
        candidate=lambda x: ("candidate", x),
        strategy=ABTest(0.5, shadow=0.1),
        effects="read",
        unit="x",
        key="threads",
        runtime=runtime,
    )(lambda x: ("control", x))
    expected = [model.rollout.assign(number).variant for number in range(2000)]
    wrong = []

    def work():
        wrong.extend(number for number in range(2000) if (expected[number], number) != model(number))

    callers = [threading.Thread(target=work) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [] == wrong


# Tasks ----------------------------------------------------------------------------------------------------------------------


async def control(x):
    return x


def test_tasks_that_do_not_end_when_cancelled_go_on_counting(watch):
    runtime = watch(shadows={"timeout_s": 0.02, "max_tasks": 2})
    alive = []

    async def candidate(x):
        alive.append(x)
        for _ in range(20):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        alive.remove(x)

    async def serve():
        model = shadowed(control, candidate, runtime)
        highest = 0
        for number in range(30):
            await model(number)
            await asyncio.sleep(0.005)
            highest = max(highest, len(alive))
        # Those that go on have 20 waits before they end.
        for _ in range(500):
            if not alive:
                break
            await asyncio.sleep(0.02)
        assert [] == alive
        return highest

    assert 2 == asyncio.run(serve())
    found = ends(runtime)
    assert 30 == found.total()
    assert {"timeout", "dropped_full"} == set(found)


def test_a_caller_goes_first_even_where_tasks_start_eagerly(runtime):
    order = []

    async def candidate(x):
        order.append("shadow")

    def eagerly(loop, coroutine, context):
        """As Python 3.12's eager tasks: the first step is taken when the task is made."""
        assert context.run(coroutine.send, None) is None
        return asyncio.Task(coroutine, loop=loop, context=context)

    async def serve():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(eagerly)
        await shadowed(control, candidate, runtime)(1)
        loop.set_task_factory(None)
        order.append("caller")
        await let_others_run()

    asyncio.run(serve())
    assert ["caller", "shadow"] == order


def test_a_loop_that_makes_no_task_costs_the_shadow_only(runtime):
    def without_context(loop, coroutine): ...

    async def serve():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(without_context)
        value = await shadowed(control, control, runtime)(1)
        loop.set_task_factory(None)
        return value

    assert 1 == asyncio.run(serve())
    assert Counter(dropped_start=1) == ends(runtime)


def test_a_coroutine_outside_of_asyncio_has_no_shadow(runtime):
    with pytest.raises(StopIteration) as returned:
        shadowed(control, control, runtime)(1).send(None)
    assert 1 == returned.value.value
    assert [("dropped_start", "RuntimeError")] == [(event.end, event.error) for event in runtime.shadowed()]


def test_a_loop_that_was_closed_in_the_midst_has_its_shadows_counted(runtime):
    async def candidate(x):
        await asyncio.sleep(30)

    model = shadowed(control, candidate, runtime)

    async def serve():
        await model(1)
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(serve())
    loop.close()
    assert 0 == ends(runtime).total()
    runtime.background.watch()
    assert Counter(cancelled=1) == ends(runtime)


def test_loops_in_several_threads_have_shadows_of_their_own(watch):
    runtime = watch(shadows={"max_tasks": 5})

    async def candidate(x):
        await asyncio.sleep(0.01)
        return x

    model = shadowed(control, candidate, runtime)

    async def serve():
        for number in range(5):
            await model(number)
        await asyncio.sleep(0.1)

    loops = [threading.Thread(target=asyncio.run, args=(serve(),)) for _ in range(4)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert Counter(ok=20) == ends(runtime)


def test_at_the_end_shadows_on_loops_are_abandoned_and_none_is_taken(runtime):
    async def candidate(x):
        await asyncio.sleep(0.05)

    async def serve():
        model = shadowed(control, candidate, runtime)
        await model(1)
        await asyncio.sleep(0)
        runtime.background.close(1.0)
        await model(2)
        await asyncio.sleep(0.1)

    asyncio.run(serve())
    assert Counter(abandoned=1, dropped_closed=1) == ends(runtime)


def test_a_shadow_cancelled_before_it_began_is_counted(runtime):
    async def serve():
        await shadowed(control, control, runtime)(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await let_others_run()

    asyncio.run(serve())
    assert Counter(cancelled=1) == ends(runtime)


def test_a_fault_of_ours_in_a_task_is_counted_and_the_loop_goes_on(runtime, monkeypatch, caplog):
    async def broken(self):
        raise ZeroDivisionError

    monkeypatch.setattr("rollout_sdk.engine.shadows.shadow.ShadowRun.run_async", broken)

    async def serve():
        value = await shadowed(control, control, runtime)(1)
        await let_others_run()
        return value

    assert 1 == asyncio.run(serve())
    assert Counter(error=1) == ends(runtime)
    assert 1 == runtime.faults["engine.background", "ZeroDivisionError"]
    assert [] == [record for record in caplog.records if record.name == "asyncio"]
