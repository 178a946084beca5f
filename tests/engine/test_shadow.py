"""Shadows: on copies, bounded, never waited for, and each ends exactly once."""

import asyncio
import contextvars
import gc
import threading
import time
from collections import Counter

import pytest

from rollout_sdk import ABTest, Comparison, Shadow, current_decision, is_shadow, rollout
from tests.waiting import until


def shadowed(control, candidate, runtime, **options):
    return rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime, **options)(control)


def test_a_shadow_that_changes_its_input_changes_nobody_elses(runtime):
    def spoil(words):
        words.append("spoilt")
        words[0]["n"] = 99
        return words

    model = shadowed(lambda words: words, spoil, runtime)
    for _ in range(200):
        words = [{"n": 1}]
        assert [{"n": 1}] == model(words)
        assert [{"n": 1}] == words
    assert Counter(ok=200) == Counter(event.end for event in runtime.shadowed())


def test_a_shadow_sees_the_input_as_it_was_before_the_control(runtime):
    saw = []

    def control(words):
        words.clear()

    shadowed(control, lambda words: saw.append(words), runtime)(["a"])
    runtime.flush()
    assert [["a"]] == saw


def test_the_controls_value_is_compared_as_it_was_returned(runtime):
    def candidate(x):
        time.sleep(0.05)
        return [1]

    value = shadowed(lambda x: [1], candidate, runtime)(0)
    value.append(2)
    assert runtime.shadowed()[0].comparison.match


def test_a_one_shot_input_is_never_shared(runtime):
    ran = []
    model = shadowed(lambda stream: list(stream), lambda stream: ran.append(stream), runtime)
    assert [1, 2, 3] == model(iter([1, 2, 3]))
    assert [("dropped_snapshot", "one-shot iterator (argument 'stream')")] == [
        (event.end, event.error) for event in runtime.shadowed()
    ]
    assert [] == ran


@pytest.mark.parametrize("hostile", [threading.Lock(), threading.Event(), [threading.RLock()], {"k": {1: [threading.Lock()]}}])
def test_what_cannot_be_copied_is_not_shadowed(hostile, runtime):
    model = shadowed(lambda x: x, lambda x: x, runtime)
    assert model(hostile) is hostile
    assert ["dropped_snapshot"] == [event.end for event in runtime.shadowed()]


def test_a_method_shares_its_object_with_its_shadow(runtime):
    class Model:
        def new(self, x):
            return self

        @rollout(candidate=new, strategy=Shadow(1.0), effects="read", key="method", isolate="auto", runtime=runtime)
        def old(self, x):
            return x

    assert 1 == Model().old(1)
    assert ["ok"] == [event.end for event in runtime.shadowed()]


@pytest.mark.parametrize("isolate", ["none", "deepcopy", list])
def test_isolation_can_be_chosen(isolate, runtime):
    got = []
    words = ["a"]
    shadowed(lambda x: None, lambda x: got.append(x), runtime, isolate=isolate)(words)
    runtime.flush()
    assert [["a"]] == got
    assert (isolate == "none") == (got[0] is words)


ERRORS = [
    Exception,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    asyncio.CancelledError,
    RecursionError,
    MemoryError,
    StopIteration,
]


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_shadow_raises_the_next_one_runs(error, runtime):
    def candidate(x):
        if x == 0:
            raise error
        return x

    model = shadowed(lambda x: x, candidate, runtime)
    assert [0, 1] == [model(x) for x in range(2)]
    ends = sorted((event.end, event.error) for event in runtime.shadowed())
    assert [("error", error.__name__), ("ok", None)] == sorted(ends, key=str)


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_an_async_shadow_raises_the_loop_goes_on(error, runtime):
    async def candidate(x):
        raise error

    async def control(x):
        return x

    async def serve():
        model = shadowed(control, candidate, runtime)
        got = [await model(x) for x in range(3)]
        await asyncio.sleep(0.02)
        return got

    assert [0, 1, 2] == asyncio.run(serve())
    # A StopIteration cannot leave a coroutine: Python makes a RuntimeError of it.
    name = "RuntimeError" if error is StopIteration else error.__name__
    assert [("error", name)] * 3 == [(event.end, event.error) for event in runtime.shadowed()]


def test_hung_shadows_hold_few_threads_and_every_run_ends_once(watch):
    runtime = watch(shadows={"timeout_s": 0.1, "max_age_s": 0.2, "max_jobs": 8, "workers": 2, "max_abandoned": 2})
    release = threading.Event()
    model = shadowed(lambda x: x, lambda x: release.wait(5), runtime, breaker=None)
    peak = 0
    for number in range(300):
        assert number == model(number)
        peak = max(peak, sum(thread.name == "rollout-shadow" for thread in threading.enumerate()))
        time.sleep(0.002)
    assert peak <= 2 + 2
    release.set()
    until(lambda: not runtime.background._threads.jobs)
    runtime.close(1.0)
    ends = Counter(event.end for event in runtime.plugins[0].events if hasattr(event, "end"))
    assert 300 == ends.total()
    assert ends["timeout"] >= 2
    assert set(ends) <= {"ok", "timeout", "dropped_full", "dropped_stale", "dropped_start", "abandoned"}


def test_many_threads_submit_and_none_is_lost_or_counted_twice(watch):
    runtime = watch(shadows={"max_jobs": 16})
    model = shadowed(lambda x: x, lambda x: x, runtime)
    threads = [threading.Thread(target=lambda: [model(n) for n in range(400)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = runtime.events()
    planned = sum(len(event.decision.shadows) for event in events if hasattr(event, "served"))
    ends = Counter(event.end for event in events if hasattr(event, "end"))
    assert 3200 == planned == ends.total()
    assert {"ok", "dropped_full"} >= set(ends)


def test_waiting_inputs_are_bounded_in_bytes(watch):
    runtime = watch(shadows={"max_bytes": 1 << 20, "workers": 1})
    release = threading.Event()
    model = shadowed(lambda x: None, lambda x: release.wait(5), runtime)
    for _ in range(8):
        model(bytes(400_000))
    release.set()
    ends = Counter(event.end for event in runtime.shadowed())
    assert Counter(ok=2, dropped_too_large=6) == ends


def test_an_input_too_old_is_not_run(watch):
    runtime = watch(shadows={"workers": 1, "max_age_s": 0.05})
    model = shadowed(lambda x: None, lambda x: time.sleep(0.2), runtime)
    for number in range(3):
        model(number)
    assert Counter(ok=1, dropped_stale=2) == Counter(event.end for event in runtime.shadowed())


def test_an_async_shadow_that_swallows_its_cancellation_times_out(watch):
    runtime = watch(shadows={"timeout_s": 0.05})

    async def candidate(x):
        for _ in range(4):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue

    async def control(x):
        return x

    async def serve():
        value = await shadowed(control, candidate, runtime)(1)
        await asyncio.sleep(0.6)
        return value

    assert 1 == asyncio.run(serve())
    assert ["timeout"] == [event.end for event in runtime.shadowed()]


def test_async_shadows_are_bounded_in_number(watch):
    runtime = watch(shadows={"max_tasks": 3})

    async def candidate(x):
        await asyncio.sleep(0.05)

    async def control(x):
        return x

    async def serve():
        model = shadowed(control, candidate, runtime)
        for number in range(10):
            await model(number)
        gc.collect()
        await asyncio.sleep(0.2)

    asyncio.run(serve())
    assert Counter(ok=3, dropped_full=7) == Counter(event.end for event in runtime.shadowed())


def test_a_loop_that_closes_cancels_its_shadows_and_the_next_loop_has_its_own(runtime):
    async def candidate(x):
        await asyncio.sleep(x)

    async def control(x):
        return x

    model = shadowed(control, candidate, runtime)

    async def serve(x):
        value = await model(x)
        await asyncio.sleep(0.02)
        return value

    assert [30, 0] == [asyncio.run(serve(30)), asyncio.run(serve(0))]
    assert ["cancelled", "ok"] == [event.end for event in runtime.shadowed()]


def test_a_request_that_is_cancelled_still_has_its_shadow(runtime):
    """The client went away: the control's cancellation is the caller's, the shadow is ours."""

    async def candidate(x):
        return x

    async def control(x):
        await asyncio.sleep(30)

    async def serve():
        task = asyncio.create_task(shadowed(control, candidate, runtime)(1))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.02)

    asyncio.run(serve())
    assert [("ok", None)] == [(event.end, event.comparison) for event in runtime.shadowed()]


def test_a_shadow_carries_the_callers_context_and_leaks_none_back(runtime):
    request_id = contextvars.ContextVar("request_id", default="none")
    saw = []

    def candidate(x):
        saw.append((request_id.get(), is_shadow(), current_decision().id))
        request_id.set("the shadow's")

    model = shadowed(lambda x: is_shadow(), candidate, runtime)
    token = request_id.set("r-1")
    assert model(1) is False
    decision = current_decision()
    runtime.flush()
    assert [("r-1", True, decision.id)] == saw
    assert ("r-1", False) == (request_id.get(), is_shadow())
    request_id.reset(token)


def test_a_rollout_inside_a_shadow_runs_its_control_only(runtime):
    inner = rollout(candidate=lambda x: "candidate", strategy=ABTest(1.0), key="inner", runtime=runtime)(lambda x: "control")
    got = []
    shadowed(lambda x: None, lambda x: got.append(inner(x)), runtime)(1)
    reasons = [event.decision.reason for event in runtime.routed() if event.decision.rollout == "inner"]
    assert (["control"], ["nested"]) == (got, reasons)


def test_a_rollout_that_shadows_itself_recursively_stays_linear(runtime):
    runs = Counter()

    def new(depth):
        runs["new"] += 1
        return 0 if depth == 0 else model(depth - 1)

    def old(depth):
        runs["old"] += 1
        return 0 if depth == 0 else model(depth - 1)

    model = shadowed(old, new, runtime)
    model(10)
    runtime.flush()
    assert 11 == runs["new"]


def test_failures_on_both_sides_are_compared(runtime):
    def fail(x):
        raise ValueError(x)

    model = shadowed(fail, fail, runtime)
    with pytest.raises(ValueError, match="1"):
        model(1)
    (event,) = runtime.shadowed()
    assert ("error", "ValueError", True) == (event.end, event.error, event.comparison.match)


def test_a_control_that_fails_where_the_shadow_does_not_is_a_mismatch(runtime):
    def fail(x):
        raise ValueError

    with pytest.raises(ValueError):
        shadowed(fail, lambda x: x, runtime)(1)
    (event,) = runtime.shadowed()
    assert (False, "control_error") == (event.comparison.match, event.comparison.reason)


def test_a_comparator_of_ones_own_is_asked_first(runtime):
    class SameLength:
        name = "same-length"

        def rollout_compare(self, request, control, candidate):
            return Comparison(match=len(control) == len(candidate), name=f"length of {request.arguments['x']}")

    shadowed(lambda x: "abc", lambda x: "xyz", runtime, plugins=[SameLength()])(1)
    assert Comparison(match=True, name="length of 1") == runtime.shadowed()[0].comparison


def test_a_comparator_that_fails_costs_the_comparison_only(runtime):
    class Broken:
        def rollout_compare(self, request, control, candidate):
            raise ValueError

    shadowed(lambda x: 1, lambda x: 1, runtime, plugins=[Broken()])(1)
    (event,) = runtime.shadowed()
    assert ("ok", "default") == (event.end, event.comparison.name)
    assert {("Broken.rollout_compare", "ValueError"): 1} == runtime.faults


def test_the_share_of_a_core_is_kept(watch):
    """Shadows that burn get their share of CPU time, within a factor of two."""
    runtime = watch(shadows={"cpu_share": 0.2, "workers": 1})
    burnt = []

    def burn(x):
        began = time.thread_time()
        while time.thread_time() - began < 0.01:
            pass
        burnt.append(time.thread_time() - began)

    model = shadowed(lambda x: x, burn, runtime)
    began = time.monotonic()
    for number in range(20):
        model(number)
    assert runtime.flush(20.0)
    assert 20 == len(burnt)
    assert sum(burnt) / (time.monotonic() - began) < 0.4


def test_after_an_abort_nothing_is_shadowed(runtime):
    ran = []
    model = shadowed(lambda x: x, lambda x: ran.append(x), runtime)
    model.rollout.abort(actor="ann", reason="it hurts")
    assert 1 == model(1)
    assert [] == runtime.shadowed() == ran


def test_a_child_process_runs_shadows_of_its_own(run_python):
    result = run_python("""
        import os, sys
        from rollout_sdk import Runtime, Shadow, ShadowLimits, rollout

        runtime = Runtime(shadows=ShadowLimits(cpu_share=1.0))
        ran = []
        decorate = rollout(candidate=lambda x: ran.append(x), strategy=Shadow(1.0), effects="read", key="m", runtime=runtime)
        model = decorate(lambda x: x)
        for number in range(10):
            model(number)
        runtime.flush()
        children = []
        for child in range(8):
            pid = os.fork()
            if pid == 0:
                ran.clear()
                for number in range(10):
                    model(number)
                done = runtime.flush(5.0) and sorted(ran) == list(range(10))
                os._exit(0 if done else 1)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        print(codes, model.rollout.status().shadows)
    """)
    assert ("[0, 0, 0, 0, 0, 0, 0, 0] {('candidate', 'ok'): 10}\n", "") == (result.stdout, result.stderr)


@pytest.mark.parametrize("ending", ["pass", "import sys; sys.exit(3)", "raise RuntimeError"])
def test_hung_shadows_do_not_hold_the_exit_nor_change_its_code(ending, run_python):
    result = run_python(f"""
        import time
        from rollout_sdk import Runtime, Shadow, rollout
        decorate = rollout(candidate=lambda x: time.sleep(10), strategy=Shadow(1.0), effects="read", key="m", runtime=Runtime())
        model = decorate(lambda x: x)
        for number in range(100):
            model(number)
            time.sleep(0.001)
        print(time.monotonic())
        {ending}
    """)
    # One clock for all processes: the start of the interpreter does not count.
    assert time.monotonic() - float(result.stdout) < 2.0
    assert {"pass": 0, "raise RuntimeError": 1}.get(ending, 3) == result.returncode


def test_what_waits_at_the_exit_is_finished_when_it_is_quick(run_python, tmp_path):
    result = run_python(
        """
        import time
        from rollout_sdk import Runtime, Shadow, ShadowLimits, rollout
        runtime = Runtime(journal="journal", shadows=ShadowLimits(cpu_share=1.0))
        decorate = rollout(candidate=lambda x: time.sleep(0.02), strategy=Shadow(1.0), effects="read", key="m", runtime=runtime)
        model = decorate(lambda x: x)
        for number in range(10):
            model(number)
        """
    )
    from rollout_sdk.journal import read_journal

    ends = Counter(record["end"] for record in read_journal(tmp_path / "journal") if record["event"] == "shadow")
    assert (0, Counter(ok=10)) == (result.returncode, ends)
