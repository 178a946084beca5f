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

from rollout_sdk import Comparison, ShadowLimits
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
    found, errors = ends(runtime), {event.error for event in runtime.shadowed() if event.end == "error"}
    assert (1000, Counter(error=1000, ok=1)) == (right, found)
    assert 8 == len(errors)
    # What a shadow raises is its result, and no fault of ours.
    assert {} == runtime.faults
    figure("F1", "{right:,} of {calls:,} calls answered under {kinds} kinds of exceptions; {after} shadow afterwards ran",
           right=right, calls=found["error"], kinds=len(errors), after=found["ok"])  # fmt: skip


def test_f2_hung_shadows_cost_a_few_threads_and_no_time(watch, figure):
    # Those of other tests may hang on.
    before = set(threading.enumerate())
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
        peak = max(peak, sum(thread.name == "rollout-shadow" for thread in set(threading.enumerate()) - before))
        time.sleep(0.002)
    release.set()
    runtime.close(2.0)
    # Two workers, three that were given up and have successors; and two workers of the calm one, too.
    threads = peak - 2
    assert 2 + 3 == threads
    assert quantile(took, 0.5) < 1e-3
    ended = sum(hasattr(event, "end") for event in runtime.plugins[0].events)
    assert 700 == ended
    hung, others = ([quantile(times, q) * 1e6 for q in (0.5, 0.99)] for times in (took, calmly))
    figure(
        "F2",
        "{threads} threads; a call p50 and p99 {p50:.0f} and {p99:.0f} us, {calm:.0f} and {calm_p99:.0f} us if "
        "none hangs; {ended} of {calls} ended",
        threads=threads,
        p50=hung[0],
        p99=hung[1],
        calm=others[0],
        calm_p99=others[1],
        ended=ended,
        calls=len(took),
    )


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
    known = sum(status.shadows.values()) + sum(status.calls.values()) + status.lost
    assert 40_000 == known == 2 * len(took)
    # Whoever has run makes room for another.
    assert status.shadows["candidate", "ok"] > 16
    figure("F3", "{known:,} of {made:,} calls and shadows accounted for; a shadowed call p50 {p50:.0f} us", known=known,
           made=2 * len(took), p50=quantile(took, 0.5) * 1e6)  # fmt: skip


def test_f4_large_inputs_behind_a_slow_shadow_stay_within_their_bytes(watch, figure):
    runtime = watch(shadows={"workers": 1, "timeout_s": 60.0})
    gate = threading.Event()
    model = shadowed(lambda x: None, lambda x: gate.wait(30), runtime)
    for number in range(64):
        model([bytes(900_000), number])
    held = sum(run.size for run in runtime.background._threads.jobs.values())
    large = shadowed(lambda x: None, lambda x: gate.wait(30), runtime, key="large")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 5_000_000
    for _ in range(64):
        large(os.urandom(size))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    gate.set()
    found = Counter((event.decision.rollout, event.end) for event in runtime.shadowed())
    assert 0 < held <= 32 << 20
    assert grown < 32
    assert 64 == found["large", "dropped_snapshot"]
    # On a busy machine, the copy of a small input can take too long as well.
    small = {end: count for (key, end), count in found.items() if key == model.rollout.key}
    assert 64 == sum(small.values())
    assert set(small) <= {"ok", "dropped_too_large", "dropped_snapshot"}
    assert small["ok"]
    assert small["dropped_too_large"]
    figure("F4", "{held:.1f} MiB of a budget of {budget:.0f} MiB held; {large} inputs of {size:.0f} MB pinned {grown:.0f} MiB",
           held=held / 2**20, budget=runtime.shadows.max_bytes / 2**20, large=found["large", "dropped_snapshot"],
           size=size / 1e6, grown=grown)  # fmt: skip


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
    figure("F5", "{differ} of {calls:,} answers or requests differ when a shadow changes its input", differ=int(differ),
           calls=number + 1)  # fmt: skip


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
    lost = 100 * len(read) - sum(read)
    figure("F6", "{lost} of {items} items lost to the control, of {kinds} kinds of streams", lost=lost, items=100 * len(read),
           kinds=len(read))  # fmt: skip


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
        levels = 100_000
        hostile = [threading.Lock(), file, Uncopyable(), deep(levels)] * 25
        right = sum(model(value) is value for value in hostile)
    assert 100 == right
    runtime.flush()
    assert {"dropped_snapshot"} <= set(ends(runtime)) <= {"dropped_snapshot", "ok"}
    figure("F7", "{right} of {calls} calls answered with locks, files, raising copies and lists of depth {levels:,.0f}",
           right=right, calls=len(hostile), levels=float(levels))  # fmt: skip


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
    # What it raises is met at its own guard, and what it gives before anything is made of it: every shadow is counted.
    faults = {slow: set(), ambiguous: {"bad.rollout_compare"}, sys_exit: {"bad.rollout_compare"}}
    assert faults.get(compare, {"engine.compare"}) == {what for what, _ in runtime.faults}
    assert {("candidate", "ok"): 5} == model.rollout.status().shadows
    figure(
        "F8",
        "a call p50 at most {p50:.0f} us while a comparison is slow, raises, exits or returns an invalid value ({runs} kinds)",
        p50=quantile(took, 0.5) * 1e6,
    )


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
    lost = 2 * (2000 + len(inside)) - accounted(model.rollout.status())
    assert (2000, 0) == (len(inside), lost)
    figure("F14", "{lost} of {calls:,} calls lost, {inside:,} of them from finalisers inside others", lost=lost,
           calls=2000 + len(inside), inside=len(inside))  # fmt: skip


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
    lost = 2 * (right + len(inside)) - accounted(model.rollout.status())
    assert 0 == lost
    figure("F14", "{lost} of {calls:,} calls lost, {inside:,} of them from signal handlers inside others", lost=lost,
           calls=right + len(inside), inside=len(inside))  # fmt: skip


def test_f16_a_cancelled_caller_is_cancelled_and_its_shadow_completes(watch, figure):
    runtime = watch()
    shadows, begun, cancelled = [], [], 0

    async def control(x):
        begun.append(x)
        await asyncio.sleep(10)

    async def quick(x):
        return x

    async def candidate(x):
        await asyncio.sleep(0.01)
        shadows.append(x)

    async def main():
        nonlocal cancelled
        slow_model = shadowed(control, candidate, runtime)
        task = asyncio.create_task(slow_model(1))
        await until(lambda: begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled += task.cancelled()
        # A shadow that runs already outlives its caller.
        later = asyncio.create_task(shadowed(quick, candidate, runtime, key="quick")(2))
        await later
        later.cancel()
        await until(lambda: 2 in shadows)

    asyncio.run(main())
    assert (1, 1) == (cancelled, shadows.count(2))
    # And it is no failure of the model's.
    assert [("model", True), ("quick", False)] == [(e.decision.rollout, e.closed_early) for e in runtime.routed()]
    assert "ok" in ends(runtime)
    figure("F16", "CancelledError reaches {cancelled} of {callers} callers; {completed} running shadow completed",
           cancelled=cancelled, callers=len(begun), completed=shadows.count(2))  # fmt: skip


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

    answers = asyncio.run(main())
    assert list(range(100)) == answers
    assert Counter(error=100) == ends(runtime)
    figure("F17", "{right} of {calls} calls served on a loop whose shadows raise SystemExit or KeyboardInterrupt",
           right=len(answers), calls=ends(runtime)["error"])  # fmt: skip


def test_f19_a_shadow_is_not_collected_while_it_runs(watch, figure):
    # What a collection takes is the heap's affair.
    runtime = watch(shadows={"timeout_s": 100.0})

    async def control(x):
        return x

    waited_for = []

    async def candidate(x):
        # Nothing but the task refers to what it waits for, and nothing but that to the task.
        answer = asyncio.get_running_loop().create_future()
        waited_for.append(weakref.ref(answer))
        await answer

    async def main():
        model = shadowed(control, candidate, runtime)
        for x in range(5):
            await model(x)
        await until(lambda: len(waited_for) == 5)
        for _ in range(3):
            gc.collect()
        assert None not in [reference() for reference in waited_for]
        for reference in waited_for:
            reference().set_result(None)
        await until(lambda: sum(ends(runtime).values()) == 5)

    asyncio.run(main())
    found = ends(runtime)
    assert Counter(ok=5) == found
    figure("F19", "{ok} of {shadows} shadows completed under gc.collect()", ok=found["ok"], shadows=found.total())


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
    foreign = {var.name for var in changed} - {"rollout_sdk_call"}
    figure("F20", "{changed} of {variables} variables of the caller changed; {seen} of {runs} shadow saw the caller's",
           changed=len(foreign), variables=len(before), seen=seen.count("caller"))  # fmt: skip


def test_f21_a_recursive_function_is_shadowed_once_a_level(watch, figure):
    runtime = watch()
    ran = []

    def control(depth):
        return model(depth - 1) + 1 if depth else 0

    def candidate(depth):
        ran.append(depth)
        return model(depth - 1) + 1 if depth else 0

    model = shadowed(control, candidate, runtime)
    depth = 10
    assert depth == model(depth)
    runtime.flush()
    assert depth + 1 == len(ran)
    figure(
        "F21",
        "{ran} runs of the candidate at depth {depth}; with a shadow of each shadow, there would be {all:,}",
        ran=len(ran),
        depth=max(ran),
        all=2 ** len(ran) - 1,
    )


def burn(seconds):
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        pass


def test_f41_a_shadow_that_burns_processor_time_keeps_to_its_share(watch, figure):
    took, default = {}, ShadowLimits()
    for name, share in (("throttled", default.cpu_share), ("free", 1.0)):
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
    (p50, p95, p99), (free, free_p95, free_p99) = ([value * 1000 for value in took[name][:3]] for name in ("throttled", "free"))
    figure("F41", "p50/p95/p99 {p50:.1f}/{p95:.1f}/{p99:.1f} ms with the default share of {share:.0%} ({used:.0%} used), "
           "{free:.1f}/{free_p95:.1f}/{free_p99:.1f} ms with a whole core", p50=p50, p95=p95, p99=p99, free=free,
           free_p95=free_p95, free_p99=free_p99, share=default.cpu_share, used=took["throttled"][3])  # fmt: skip


def test_f42_what_a_failed_candidate_held_is_freed(watch, figure):
    runtime = watch()
    alive, size = [], 10_000_000

    class Payload:
        def __init__(self):
            self.data = bytearray(size)

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
        freed = sum(reference() is None for reference in alive)
    finally:
        gc.enable()
    assert (10, 10) == (freed, len(alive))
    figure("F42", "{freed} of {payloads} payloads of {size:.0f} MB freed without a collection", freed=freed,
           payloads=len(alive), size=size / 1e6)  # fmt: skip
