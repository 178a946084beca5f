"""Rows F1 to F8, F14, F16, F17, F19 to F21, F41 and F42: what a shadow may do to whoever it shadows."""

import asyncio
import contextvars
import copy
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
import weakref
from collections import Counter

import numpy
import pytest

from rollout_sdk import Comparison
from tests.faults.models import quantile, shadowed

BASE = [
    Exception, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, RecursionError, MemoryError, StopIteration,
]  # fmt: skip


def ends(runtime):
    return Counter(event.end for event in runtime.shadowed())


async def until(condition):
    for _ in range(50_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("waited in vain")


def test_f1_whatever_a_shadow_raises_the_caller_has_its_answer_and_the_worker_lives(watch, figure):
    runtime = watch()

    def candidate(x):
        raise BASE[x % len(BASE)]

    model = shadowed(lambda x: x, candidate, runtime, breaker=None)
    right = sum(x == model(x) for x in range(1000))
    calm = shadowed(lambda x: x, lambda x: x, runtime, key="calm")
    calm(1)
    assert (1000, Counter(error=1000, ok=1)) == (right, ends(runtime))
    assert 8 == len({event.error for event in runtime.shadowed() if event.end == "error"})
    figure("F1", f"{right} of 1,000 calls answered under 8 kinds of exceptions; the next shadow ran")


def test_f2_hung_shadows_cost_a_few_threads_and_no_time(watch, figure):
    runtime = watch(shadows={"workers": 2, "max_abandoned": 3, "timeout_s": 0.2, "max_age_s": 0.3, "max_jobs": 64})
    release = threading.Event()
    model = shadowed(lambda x: x, lambda x: release.wait(30), runtime, breaker=None)
    calm = shadowed(lambda x: x, lambda x: x, watch(), key="calm", breaker=None)
    peak, took, calmly = 0, [], []
    for number in range(700):
        began = time.perf_counter()
        assert number == model(number)
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
        calm(number)
        calmly.append(time.perf_counter() - began)
        peak = max(peak, sum(thread.name == "rollout-shadow" for thread in threading.enumerate()))
        time.sleep(0.002)
    release.set()
    runtime.close(2.0)
    # Two workers of the calm one, too.
    assert peak <= 2 + 3 + 2
    assert quantile(took, 0.5) < 1e-3
    assert 700 == sum(Counter(event.end for event in runtime.plugins[0].events if hasattr(event, "end")).values())
    hung, others = (f"{quantile(times, 0.5) * 1e6:.0f} and {quantile(times, 0.99) * 1e6:.0f}" for times in (took, calmly))
    threads = peak - 2
    figure("F2", f"{threads} threads; a call p50 and p99 {hung} us, {others} us where none hangs; 700 of 700 ended")


def test_f3_a_full_queue_blocks_nobody_and_loses_count_of_nothing(watch, figure):
    runtime = watch(shadows={"max_jobs": 16})
    model = shadowed(lambda x: x, lambda x: x, runtime)
    took = []

    def submit():
        mine = []
        for number in range(2500):
            began = time.perf_counter()
            model(number)
            mine.append(time.perf_counter() - began)
        took.extend(mine)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime.flush(30.0)
    status = model.rollout.status()
    # What did not fit the recorder's queue is counted as lost, calls and shadows alike.
    assert 40_000 == sum(status.shadows.values()) + sum(status.calls.values()) + status.lost
    figure("F3", f"20,000 of 20,000 accounted for; a shadowed call p50 {quantile(took, 0.5) * 1e6:.0f} us")


def test_f4_large_inputs_behind_a_slow_shadow_stay_within_their_bytes(watch, figure):
    runtime = watch(shadows={"workers": 1, "timeout_s": 60.0})
    gate = threading.Event()
    model = shadowed(lambda x: None, lambda x: gate.wait(30), runtime)
    for number in range(64):
        model([bytes(900_000), number])
    held = sum(run.size for run in runtime.background._threads.jobs.values())
    large = shadowed(lambda x: None, lambda x: gate.wait(30), runtime, key="large")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(64):
        large(os.urandom(5_000_000))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    gate.set()
    found = ends(runtime)
    assert 0 < held <= 32 << 20
    assert grown < 32
    assert 64 == found["dropped_snapshot"]
    assert found["dropped_too_large"] == 64 - found["ok"] > 0
    figure("F4", f"{held / 2**20:.1f} MiB of a budget of 32 MiB held; 64 inputs of 5 MB pinned {grown:.0f} MiB")


def test_f5_a_shadow_that_changes_its_input_changes_nothing_that_was_served(watch, figure):
    runtime = watch()
    started = threading.Semaphore(0)

    def spoils(request):
        started.release()
        request["items"].clear()
        request["features"][0] = -1.0
        request.clear()

    def answers(request):
        # The answer is the request's own list.
        return request["items"]

    model = shadowed(answers, spoils, runtime)
    differ = 0
    for number in range(1000):
        request = {"items": [number, 2, 3], "features": numpy.ones(4)}
        answer = model(request)
        if number % 10 == 0:
            assert started.acquire(timeout=5), "no shadow began"
        differ += answer != [number, 2, 3] or request["features"][0] != 1.0
    assert 0 == differ
    figure("F5", "0 of 1,000 answers or requests differ (laboratory: 487)")


def one_shots(tmp_path):
    path = tmp_path / "file"
    path.write_text("line\n" * 100)
    left, right = socket.socketpair()
    right.sendall(b"line\n" * 100)
    right.close()
    with path.open() as file, left, left.makefile("r") as stream:
        yield "a generator", ("line\n" for _ in range(100))
        yield "a file", file
        yield "a socket", stream
        yield "map", map(str, ["line\n"] * 100)


def test_f6_an_input_that_can_be_read_once_is_read_by_the_control_alone(tmp_path, watch, figure):
    runtime = watch()
    ran = []
    model = shadowed(lambda lines: len(list(lines)), lambda lines: ran.append(list(lines)), runtime)
    read = [model(lines) for _, lines in one_shots(tmp_path)]

    async def stream():
        for _ in range(100):
            yield "line"

    async def control(lines):
        return len([line async for line in lines])

    async def candidate(lines):
        ran.append(lines)

    read.append(asyncio.run(shadowed(control, candidate, runtime, key="async")(stream())))
    assert [100] * 5 == read
    assert [] == ran
    assert Counter(dropped_snapshot=5) == ends(runtime)
    figure("F6", "0 of 500 items lost to the control, of 5 kinds of streams")


class Uncopyable:
    def __deepcopy__(self, memo):
        raise RuntimeError("no copy")

    def __copy__(self):
        raise SystemExit("no copy")

    @property
    def __dict__(self):
        raise RecursionError


def deep(levels):
    nested = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize("isolate", ["auto", "deepcopy", copy.copy])
def test_f7_what_cannot_be_copied_costs_a_shadow_and_nothing_else(isolate, tmp_path, watch, figure):
    runtime = watch()
    model = shadowed(lambda x: x, lambda x: None, runtime, isolate=isolate, key=str(isolate))
    with (tmp_path / "file").open("w") as file:
        hostile = [threading.Lock(), file, Uncopyable(), deep(100_000)]
        right = sum(model(value) is value for value in hostile * 25)
    assert 100 == right
    runtime.flush()
    assert {"dropped_snapshot"} <= set(ends(runtime)) <= {"dropped_snapshot", "ok"}
    figure("F7", "100 % of the calls answered with locks, files, raising copies and lists 100,000 deep")


def ambiguous(control, candidate):
    return bool(numpy.array([1, 2]) == numpy.array([1, 2]))


def slow(control, candidate):
    time.sleep(0.3)
    return Comparison(match=True)


def sys_exit(control, candidate):
    sys.exit(3)


@pytest.mark.parametrize("compare", [ambiguous, slow, sys_exit, lambda control, candidate: "same"], ids=lambda f: f.__name__)
def test_f8_a_comparison_that_fails_or_takes_its_time_is_nobodys_time(compare, watch, figure):
    class Comparator:
        name = "bad"

        @staticmethod
        def rollout_compare(control, candidate):
            return compare(control, candidate)

    runtime = watch()
    model = shadowed(lambda x: x, lambda x: x, runtime, plugins=[Comparator()])
    took = []
    for number in range(5):
        began = time.perf_counter()
        assert number == model(number)
        took.append(time.perf_counter() - began)
    assert quantile(took, 0.5) < 0.1
    assert Counter(ok=5) == ends(runtime)
    figure("F8", f"a call p50 {quantile(took, 0.5) * 1e6:.0f} us while a comparison takes 0.3 s, raises or exits")


def test_f8_results_that_compare_badly_are_compared_all_the_same(watch):
    runtime = watch()
    for number, (ours, theirs, match) in enumerate(
        [
            (float("nan"), float("nan"), True),
            (numpy.array([1.0, float("nan")]), numpy.array([1.0, float("nan")]), True),
            (numpy.array([1, 2]), numpy.array([1, 3]), False),
        ]
    ):
        shadowed(lambda x, v=ours: v, lambda x, v=theirs: v, runtime, key=f"k{number}")(1)
        assert match is runtime.shadowed()[-1].comparison.match


def test_f14_a_finaliser_may_call_what_it_interrupts(watch, figure):
    runtime = watch()
    model = shadowed(lambda x: x, lambda x: x, runtime)
    inside = []

    class Calls:
        def __init__(self):
            self.me = self

        def __del__(self):
            inside.append(model(-1))

    for number in range(2000):
        Calls()
        model(number)
        if number % 50 == 0:
            gc.collect()
    for _ in range(1000):
        # While another thread collects, this does nothing.
        gc.collect()
        if len(inside) == 2000:
            break
        time.sleep(0.01)
    runtime.flush(30.0)
    assert 2000 == len(inside)
    assert 8000 == accounted(model.rollout.status())
    figure("F14", "0 of 4,000 calls lost, half of them from finalisers inside others")


def accounted(status):
    """Calls and shadows that were counted, or counted as lost; a call inside a shadow has none of its own."""
    return sum(status.calls.values()) + sum(status.shadows.values()) + status.lost + status.excluded.get("nested", 0)


def test_f14_a_signal_handler_may_call_what_it_interrupts(watch, figure):
    runtime = watch()
    model = shadowed(lambda x: x, lambda x: x, runtime)
    inside = []
    before = signal.signal(signal.SIGALRM, lambda *_: inside.append(model(-1)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        right = sum(model(number) == number for number in range(5000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert runtime.flush(30.0)
    assert (5000, {-1}) == (right, set(inside))
    assert 2 * (5000 + len(inside)) == accounted(model.rollout.status())
    figure("F14", f"0 of {5000 + len(inside):,} calls lost, {len(inside)} of them from signal handlers inside others")


def test_f16_a_cancelled_caller_is_cancelled_and_its_shadow_completes(watch, figure):
    runtime = watch()
    shadows, begun = [], []

    async def control(x):
        begun.append(x)
        await asyncio.sleep(10)

    async def quick(x):
        return x

    async def candidate(x):
        await asyncio.sleep(0.01)
        shadows.append(x)

    async def main():
        slow_model = shadowed(control, candidate, runtime)
        task = asyncio.create_task(slow_model(1))
        await until(lambda: begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        # A shadow that runs already outlives its caller.
        later = asyncio.create_task(shadowed(quick, candidate, runtime, key="quick")(2))
        await later
        later.cancel()
        await until(lambda: 2 in shadows)

    asyncio.run(main())
    assert "ok" in ends(runtime)
    figure("F16", "CancelledError reaches the caller unchanged; the shadow under way completed")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_f17_an_asynchronous_shadow_cannot_end_the_loop(error, watch, figure):
    runtime = watch()

    async def control(x):
        return x

    async def candidate(x):
        raise error

    async def main():
        model = shadowed(control, candidate, runtime, breaker=None)
        answers = []
        for x in range(100):
            answers.append(await model(x))
            await asyncio.sleep(0)
        await until(lambda: sum(ends(runtime).values()) == 100)
        return answers

    assert list(range(100)) == asyncio.run(main())
    assert Counter(error=100) == ends(runtime)
    figure("F17", "100 of 100 calls served on a loop whose shadows raise SystemExit or KeyboardInterrupt")


def test_f19_a_shadow_is_not_collected_while_it_runs(watch, figure):
    # What a collection takes is the heap's affair.
    runtime = watch(shadows={"timeout_s": 100.0})

    async def control(x):
        return x

    async def candidate(x):
        for _ in range(2):
            await asyncio.sleep(0)
            gc.collect()

    async def main():
        model = shadowed(control, candidate, runtime)
        for x in range(5):
            await model(x)
        await until(lambda: sum(ends(runtime).values()) == 5)

    asyncio.run(main())
    assert Counter(ok=5) == ends(runtime)
    figure("F19", "5 of 5 shadows completed under gc.collect()")


def test_f20_what_a_shadow_sets_in_its_context_stays_there(watch, figure):
    runtime = watch()
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def candidate(x):
        seen.append(variable.get())
        variable.set("shadow")

    model = shadowed(lambda x: x, candidate, runtime)
    variable.set("caller")
    before = dict(contextvars.copy_context())
    model(1)
    runtime.flush()
    after = dict(contextvars.copy_context())
    changed = {var for var in after if after[var] is not before.get(var)}
    assert (["caller"], "caller") == (seen, variable.get())
    # The decision of the call itself is there, for current_decision().
    assert {"rollout_sdk_call"} == {var.name for var in changed}
    figure("F20", "the caller's context is equal before and after; the shadow saw the caller's")


def test_f21_a_recursive_function_is_shadowed_once_a_level(watch, figure):
    runtime = watch()
    ran = []

    def control(depth):
        return model(depth - 1) + 1 if depth else 0

    def candidate(depth):
        ran.append(depth)
        return model(depth - 1) + 1 if depth else 0

    model = shadowed(control, candidate, runtime)
    assert 10 == model(10)
    runtime.flush()
    assert 11 == len(ran)
    figure("F21", "11 runs of the candidate at depth 10, not 2,047")


def burn(seconds):
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


def test_f41_a_shadow_that_burns_processor_time_keeps_to_its_share(watch, figure):
    took = {}
    for name, share in (("throttled", 0.1), ("free", 1.0)):
        runtime = watch(shadows={"cpu_share": share, "max_jobs": 64, "max_age_s": 5.0})
        burnt = []
        model = shadowed(lambda x: burn(0.002), lambda x, *, burnt=burnt: burnt.append(burn(0.05)), runtime, key=name)
        began = time.perf_counter()
        times = []
        for number in range(400):
            start = time.perf_counter()
            model(number)
            times.append(time.perf_counter() - start)
            time.sleep(0.005)
        elapsed = time.perf_counter() - began
        took[name] = (quantile(times, 0.5), quantile(times, 0.95), quantile(times, 0.99), len(burnt) * 0.05 / elapsed)
        runtime.close(1.0)
    # A tenth, and the two that began at once.
    assert took["throttled"][3] < 0.15
    assert took["throttled"][3] < took["free"][3] / 2
    throttled, free = ([f"{value * 1000:.1f}" for value in took[name][:3]] for name in ("throttled", "free"))
    figure(
        "F41",
        f"p50/p95/p99 {'/'.join(throttled)} ms with the default share of 10 % ({took['throttled'][3]:.0%} used), "
        f"{'/'.join(free)} ms with a whole core, of a control of 2 ms",
    )


def test_f42_what_a_failed_candidate_held_is_freed(watch, figure):
    runtime = watch()
    alive = []

    class Payload:
        def __init__(self):
            self.data = bytearray(10_000_000)

    def candidate(x):
        payload = Payload()
        alive.append(weakref.ref(payload))
        raise ValueError(x)

    model = shadowed(lambda x: x, candidate, runtime)
    gc.disable()
    try:
        for number in range(10):
            model(number)
        runtime.flush()
        assert [None] * 10 == [reference() for reference in alive]
    finally:
        gc.enable()
    figure("F42", "10 of 10 payloads of 10 MB freed without a collection")
