"""When a stop returns, no candidate starts any more: neither in another thread, nor from a queue, nor on a loop."""

import asyncio
import collections
import linecache
import operator
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import rollout_sdk
from rollout_sdk import ABTest, Interleave, Shadow, rollout
from rollout_sdk.engine import stopping
from tests.faults.kinds import KINDS, answered, of_kind, of_rows

STOPS = {
    "abort": lambda model: model.rollout.abort(),
    "hold": lambda model: model.rollout.disable(holder="flag"),
    "disable": lambda model: rollout_sdk.disable(),
}
stops = pytest.mark.parametrize("stop", STOPS)


@pytest.fixture(autouse=True)
def enabled():
    yield
    rollout_sdk.enable()


# What waits -----------------------------------------------------------------------------------------------------------------


@stops
@pytest.mark.parametrize(("kind", "batch"), [*((kind, None) for kind in KINDS), ("function", "rows"), ("coroutine", "rows")])
def test_a_shadow_that_waits_does_not_start_after_a_stop(kind, batch, stop, watch):
    runtime = watch(shadows={"workers": 1})
    begun, release, ran = threading.Event(), threading.Event(), []

    def hold(x):
        begun.set()
        assert release.wait(10)

    def candidate(rows):
        ran.append(rows)
        return rows

    options = {"strategy": Shadow(1.0), "effects": "read", "runtime": runtime}
    # It takes the one thread; shadows of coroutines wait for a turn of their loop.
    rollout(candidate=hold, key="hold", **options)(lambda x: None)(1)
    assert begun.wait(10)
    of = of_rows if batch else of_kind
    model = rollout(candidate=of(kind, candidate), key="model", batch=batch, **options)(of(kind, lambda rows: rows))

    async def serve():
        answers = [await answered(kind, model([number])) for number in range(3)]
        STOPS[stop](model)
        release.set()
        await asyncio.sleep(0.01)
        return answers

    assert [[0], [1], [2]] == asyncio.run(serve())
    assert runtime.flush(10.0)
    assert [] == ran
    assert Counter(ok=1, dropped_aborted=3) == Counter(event.end for event in runtime.shadowed())


@stops
def test_a_shadow_whose_stream_was_returned_and_waits_does_not_start_after_a_stop(stop, watch):
    runtime = watch(shadows={"workers": 1})
    release, ran = threading.Event(), []

    def candidate(x):
        if x == 0:
            assert release.wait(10)
        ran.append(x)
        return map(str, [x])

    model = rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(
        lambda x: map(str, [x])
    )
    assert ["0"] == list(model(0))
    assert ["1"] == list(model(1))
    STOPS[stop](model)
    release.set()
    assert runtime.flush(10.0)
    assert 1 not in ran


# What is about to start -----------------------------------------------------------------------------------------------------


class Looks:
    """What the wait does between two looks: it lets go of the candidate that it waits for."""

    def __init__(self, monkeypatch):
        self.lock = threading.Lock()
        self.lock.acquire()
        self.number = 0
        monkeypatch.setattr(stopping, "sleep", self)

    def __call__(self, seconds):
        self.number += 1
        if self.lock.locked():
            self.lock.release()
        # For long enough that the other threads go on.
        threading.Event().wait(0.001)

    def reached(self):
        """Wait until another thread stands between its last look at the gate and the candidate's first instruction."""
        stand = threading.Event()
        for _ in range(10_000):
            if stopping._starting() - {threading.get_ident()}:
                return
            stand.wait(0.001)
        raise AssertionError("no candidate was about to start")


@pytest.fixture
def looks(monkeypatch):
    looks = Looks(monkeypatch)
    yield looks
    if looks.lock.locked():
        looks.lock.release()


# Written in C: the innermost code of the thread that Python knows of is that which starts candidates, as if it were suspended
# just there.
ACQUIRE = operator.methodcaller("acquire")


@stops
@pytest.mark.parametrize("strategy", [ABTest(1.0), Shadow(1.0)], ids=["candidate", "shadow"])
def test_a_stop_waits_for_a_candidate_that_is_about_to_start(strategy, stop, looks, runtime):
    options = {"strategy": strategy, "effects": "read", "on_error": "raise", "isolate": "none", "runtime": runtime}
    model = rollout(candidate=ACQUIRE, key="model", **options)(lambda lock, /: None)
    thread = threading.Thread(target=model, args=(looks.lock,))
    thread.start()
    try:
        looks.reached()
        STOPS[stop](model)
        assert looks.number > 0
        # It has begun by now: the wait has seen it go on.
        assert not stopping._starting() - {threading.get_ident()}
    finally:
        if looks.lock.locked():
            looks.lock.release()
        thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def about_to_start(looks, runtime):
    """A rollout whose candidate is about to start in another thread."""
    options = {"strategy": ABTest(1.0), "effects": "read", "on_error": "raise", "key": "model", "runtime": runtime}
    model = rollout(candidate=ACQUIRE, **options)(lambda lock, /: None)
    thread = threading.Thread(target=model, args=(looks.lock,))
    thread.start()
    looks.reached()
    yield model
    if looks.lock.locked():
        looks.lock.release()
    thread.join(10)
    assert not thread.is_alive()


def test_a_stop_that_is_read_in_the_store_waits_as_well(about_to_start, looks, runtime):
    kept = runtime.reconciler.rollouts["model"]
    runtime.reconciler._sync.enter(kept, kept.state.abort())
    assert looks.number > 0


def test_an_abort_waits_also_where_another_thread_has_just_aborted(about_to_start, looks, runtime):
    """The other one has closed the gate, and is still waiting itself."""
    kept = runtime.reconciler.rollouts["model"]
    kept.local_state.enter(kept.state.abort())
    about_to_start.rollout.abort()
    assert looks.number > 0


def test_the_wait_is_for_those_who_were_about_to_start_and_for_no_one_who_comes_later(monkeypatch):
    me = threading.get_ident()
    seen = iter([{me, 1, 2}, {2, 3}, {2, 4}, {3, 4}])
    slept = []
    monkeypatch.setattr(stopping, "_starting", lambda: next(seen))
    monkeypatch.setattr(stopping, "sleep", slept.append)
    assert stopping.wait_for_starts(60.0)
    assert ([], 3) == (list(seen), len(slept))


ENGINE = str(Path(stopping.__file__).parent)
WAYS = {
    **{f"{kind}, split": (kind, {}) for kind in KINDS},
    **{f"{kind}, shadow": (kind, {"strategy": Shadow(1.0), "effects": "read"}) for kind in KINDS},
    **{f"{kind}, interleaved": (kind, {"strategy": Interleave()}) for kind in KINDS},
    **{f"{kind}, in time": (kind, {"deadline_s": 5.0}) for kind in ("coroutine", "async generator")},
    **{f"{kind}, returned": (kind, {}) for kind in KINDS[1:]},
    **{f"{kind}, returned, shadow": (kind, {"strategy": Shadow(1.0), "effects": "read"}) for kind in KINDS[1:]},
    # The control's answer is there at once: the shadow gets an event loop of its own.
    **{f"{kind}, returned, alone": (kind, {"strategy": Shadow(1.0), "effects": "read"}) for kind in KINDS[1:]},
}


@pytest.mark.parametrize("way", WAYS)
def test_between_its_last_look_at_the_gate_and_a_candidates_first_line_every_thread_is_about_to_start_it(way, runtime):
    """Wherever the interpreter may suspend it."""
    kind, options = WAYS[way]
    found, reached = collections.defaultdict(list), {}
    candidate = begins = of_kind(kind, lambda x: ["new"])
    # Code of its own, by which it is told from the control.
    begins.__code__ = begins.__code__.replace(co_name="candidate")
    control = of_kind(kind, lambda x: ["old"])
    if "returned" in way:
        candidate, control = (lambda x, made=made: made(x) for made in (candidate, control))
    if "alone" in way:
        control, kind = (lambda x: ["old"]), "function"

    def trace(frame, event, _):
        is_candidate = frame.f_code is begins.__code__
        if reached or not (is_candidate or frame.f_code.co_filename.startswith(ENGINE)):
            return trace
        thread = threading.get_ident()
        if is_candidate and event == "line":
            reached[thread] = stopping._is_starting(frame)
            return trace
        if event == "line" and "switch.off" in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            # The last look is what counts.
            found[thread].clear()
        else:
            found[thread].append((frame.f_code.co_name, frame.f_lineno, event, stopping._is_starting(frame)))
        return trace

    model = rollout(**{"strategy": ABTest(1.0), **options}, candidate=candidate, key="model", runtime=runtime)(control)

    async def serve():
        given = await answered(kind, model(1)) if kind in ("coroutine", "async generator") else model(1)
        items = list(given) if kind == "generator" else given
        await asyncio.sleep(0.01)
        return items

    before = sys.gettrace()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        answer = asyncio.run(serve())
        assert runtime.flush(10.0)
    finally:
        sys.settrace(before)
        threading.settrace(None)
    assert answer in (["new"], ["old"], ["new", "old"], ["old", "new"])
    ((thread, has_begun),) = [(thread, not is_starting) for thread, is_starting in reached.items()]
    assert has_begun
    assert ("call", True) == found[thread][-1][2:]
    assert [] == [where for where in found[thread] if not where[3]]


def test_the_wait_ends_when_its_time_is_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stopping, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping, "sleep", lambda seconds: now.__setitem__(0, now[0] + 0.3))
    monkeypatch.setattr(stopping, "_starting", lambda: {1})
    assert not stopping.wait_for_starts(1.0)
    assert 1.2 == pytest.approx(now[0])


def test_a_stop_from_within_a_candidate_does_not_wait_for_itself(runtime, monkeypatch):
    monkeypatch.setattr(stopping, "sleep", lambda seconds: pytest.fail("it waited"))
    stopped = []

    def candidate(x):
        stopped.append(model.rollout.abort().status)
        return ["new"]

    model = rollout(candidate=candidate, strategy=ABTest(1.0), key="model", runtime=runtime)(lambda x: ["old"])
    assert [["new"], ["old"]] == [model(1), model(1)]
    assert ["aborted"] == stopped


@stops
@pytest.mark.parametrize("kind", ["coroutine", "async generator"])
def test_a_candidate_with_a_deadline_does_not_start_after_a_stop_that_came_before_its_task(kind, stop, runtime):
    ran = []

    def candidate(x):
        ran.append(x)
        return ["new"]

    options = {"strategy": ABTest(1.0), "key": "model", "runtime": runtime, "deadline_s": 5.0}
    model = rollout(candidate=of_kind(kind, candidate), **options)(of_kind(kind, lambda x: ["old"]))

    async def main():
        call = asyncio.ensure_future(answered(kind, model(1)))
        # The call has made the candidate's task, which waits for its turn.
        await asyncio.sleep(0)
        assert [] == ran
        STOPS[stop](model)
        return await call

    assert (["old"], []) == (asyncio.run(main()), ran)
    events = runtime.routed()
    assert ["disabled" if stop != "abort" else "aborted"] * len(events) == [event.withheld for event in events]


# Where a candidate is stopped at the last moment ----------------------------------------------------------------------------


@stops
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", [ABTest(1.0), Interleave()], ids=["split", "interleaved"])
def test_a_candidate_that_was_decided_and_not_begun_when_a_stop_came_is_not_run(kind, strategy, stop, runtime):
    ran = []

    class Stopping(type(strategy)):
        def rollout_route(self, request):
            decision = super().rollout_route(request)
            STOPS[stop](model)
            return decision

    def candidate(x):
        ran.append(x)
        return ["new"]

    late = Stopping(1.0) if isinstance(strategy, ABTest) else Stopping()
    model = rollout(candidate=of_kind(kind, candidate), strategy=late, key="model", runtime=runtime)(
        of_kind(kind, lambda x: ["old"])
    )
    assert ["old"] == asyncio.run(answered(kind, model(1)))
    assert [] == ran
    (event,) = runtime.routed()
    assert ("control", "aborted" if stop == "abort" else "disabled") == (event.served, event.withheld)
