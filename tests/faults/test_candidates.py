"""Rows F5, F15, F22, F29, F36, F37 and F39: candidates and strategies that fail on the caller's path."""

import asyncio
import functools
import inspect
import socket
import threading
import time
import tracemalloc
from collections import Counter

import pytest

from rollout_sdk import ABTest, Canary, Decision, StoreError, rollout
from rollout_sdk.control.stores import MemoryStore
from rollout_sdk.resilience import breaker
from tests.faults.models import quantile, served


def test_f5_a_candidate_that_changes_its_input_and_fails_leaves_the_control_its_own(watch, figure):
    def spoils(request):
        request["items"].clear()
        request.pop("user")
        raise KeyError

    model = served(lambda request: (request["user"], list(request["items"])), spoils, watch(), breaker=None)
    differ = [(n, [n, 2]) != model({"user": n, "items": [n, 2]}) for n in range(1000)]
    assert 0 == sum(differ)
    figure("F5", "{differ} of {calls:,} answers differ when a candidate changes its input and fails", differ=sum(differ),
           calls=len(differ))  # fmt: skip


def test_f15_a_candidate_that_swallows_its_cancellation_is_left_in_time(watch, figure):
    async def control(x):
        return "control"

    async def candidate(x):
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    deadline_s = 0.1

    async def main():
        model = served(control, candidate, watch(), deadline_s=deadline_s)
        began = time.perf_counter()
        answers = await asyncio.gather(*(model(n) for n in range(10)))
        return answers, time.perf_counter() - began

    answers, took_s = asyncio.run(main())
    assert ["control"] * 10 == answers
    assert took_s < 0.3
    figure(
        "F15",
        "{callers} callers have their answer after {took_s:.2f} s with a deadline of {deadline_s:.2f} s",
        callers=len(answers),
        took_s=took_s,
        deadline_s=deadline_s,
    )


NONSENSE = [None, "candidate", 7, Decision("nobody"), Decision(["unhashable"]), Decision("candidate", propensity=2.0)]


@pytest.mark.parametrize("result", [*NONSENSE, ValueError(), SystemExit(3), RecursionError()], ids=repr)
def test_f22_a_strategy_that_fails_or_decides_nonsense_leaves_the_control(result, watch, figure):
    calls = []

    class Broken:
        name = "broken"

        def rollout_route(self, request):
            calls.append(1)
            if isinstance(result, BaseException):
                raise result
            return result

    class Other:
        name = "other"
        asked = 0

        def rollout_route(self, request):
            self.asked += 1

    other, runtime = Other(), watch()
    model = served(lambda x: "control", lambda x: "candidate", runtime, strategy=Broken(), plugins=[other])
    answers = [model(n) for n in range(1000)]
    assert ["control"] * 1000 == answers
    # Nonsense is told from a decision by us; a plugin after it is asked when it raised or had no opinion.
    raised = isinstance(result, BaseException)
    assert (3 if raised else 1000) == len(calls)
    assert (1000 if raised or result is None else 0) == other.asked
    assert {("control", "error")} == {(e.decision.variant, e.decision.reason) for e in runtime.routed()}
    figure(
        "F22",
        "{right:,} of {calls:,} calls answered by the control for {runs} kinds of failures; a strategy that "
        "raises is suspended after {strikes:.0f} strikes; others are called {asked:,} times",
        right=answers.count("control"),
        calls=len(answers),
        strikes=float(len(calls) if raised else 0),
        asked=other.asked,
    )


def test_f29_a_strategy_that_waits_for_a_black_hole_is_benched(watch, figure):
    """A store that accepts and never answers, as seen by a strategy that asks it on every call (what the guide forbids)."""
    hole = socket.create_server(("127.0.0.1", 0))
    asked = []

    class Remote:
        name = "remote"

        def rollout_route(self, request):
            asked.append(1)
            with socket.create_connection(hole.getsockname(), timeout=0.05) as connection:
                connection.sendall(b"GET")
                connection.recv(1)

    model = served(lambda x: "control", lambda x: "candidate", watch(), strategy=Remote())
    took = []
    with hole:
        for number in range(1000):
            began = time.perf_counter()
            assert "control" == model(number)
            took.append(time.perf_counter() - began)
    assert 3 == len(asked)
    assert sum(took) < 5.0
    slow = [each for each in took if each > 0.04]
    assert 3 == len(slow)
    figure(
        "F29",
        "{slow} of {calls:,} calls waited, at most {longest:.0f} ms; p50 of the others {p50:.0f} us",
        slow=len(slow),
        calls=len(took),
        longest=max(slow) * 1e3,
        p50=quantile(sorted(took)[:-3], 0.5) * 1e6,
    )


@pytest.mark.parametrize("fault", ["refuses", "never answers", "raises SystemExit", "answers nonsense"])
def test_f29_no_call_waits_for_a_store_that_is_gone(fault, watch, figure):
    """The store breaks while a canary is served by several threads: its phase stays, and calls are as quick as before."""
    store, released, asked = MemoryStore(), threading.Event(), []

    class Broken:
        broken = False

        def __getattr__(self, name):
            def call(*args, **kwargs):
                if not self.broken or name == "close":
                    return getattr(store, name)(*args, **kwargs)
                asked.append(name)
                if fault == "never answers":
                    released.wait(30)
                if fault == "raises SystemExit":
                    raise SystemExit
                if fault == "answers nonsense":
                    return 5
                raise StoreError("refused")

            return call

    broken = Broken()
    runtime = watch(store=broken)
    runtime.reconciler._judging.every_s = 0.1
    model = served(lambda x: "control", lambda x: "candidate", runtime, strategy=Canary(["30%", "60%"]), unit="x")
    expected = [model(number) for number in range(2000)]
    broken.broken = True
    took, answers = [], []
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline or len(answers) < 2000:
        began = time.perf_counter()
        answers.append(model(len(answers) % 2000))
        took.append(time.perf_counter() - began)
    assert expected == answers[:2000]
    kept = model.rollout.phase.name
    assert "0:30%" == kept
    assert asked
    assert quantile(took, 0.99) < 0.01
    stop = threading.Thread(target=model.rollout.abort)
    stop.start()
    stop.join(0.5)
    assert {"control"} == {model(number) for number in range(200)}
    released.set()
    stop.join(20)
    figure(
        "F29",
        "a store that fails in {fault} ways: p50 at most {p50:.0f} us and p99 {p99:.0f} us, {phase} phase before and after",
        fault=fault,
        p50=quantile(took, 0.5) * 1e6,
        p99=quantile(took, 0.99) * 1e6,
        phase=kept,
    )


def test_f36_an_open_breaker_costs_no_memory_and_lets_one_probe_through(watch, monkeypatch, figure):
    now = [0.0]
    monkeypatch.setattr(breaker, "monotonic", lambda: now[0])
    ran, gate = [], threading.Event()

    def candidate(x):
        ran.append(x)
        if now[0]:
            gate.wait(10)
        raise ValueError

    runtime = watch()
    model = served(lambda x: "control", candidate, runtime)
    for number in range(20):
        model(number)
    circuit = model.rollout._rollout.local_state.breakers["candidate"]
    assert circuit.is_open
    runtime.close(5.0)
    failed, refused = len(ran), 0
    tracemalloc.start()
    for _ in range(100_000):
        refused += circuit.admit() is None
    # Threads of other tests' runtimes may be at work: only what the breaker allocated is its cost.
    kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(inclusive=True, filename_pattern=breaker.__file__)])
    tracemalloc.stop()
    grown = sum(each.size for each in kept.statistics("filename"))
    for number in range(1000):
        assert "control" == model(number)
    now[0] = 31.0
    threads = [threading.Thread(target=model, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    gate.set()
    for thread in threads:
        thread.join()
    assert (21, 20, 100_000) == (len(ran), failed, refused)
    assert grown < 2_000
    figure("F36", "{probes} probe of {callers} callers; {refused:,} refusals took {grown} bytes", probes=len(ran) - failed,
           callers=len(threads), refused=refused, grown=grown)  # fmt: skip


def test_f37_when_both_fail_the_caller_sees_the_controls_exception_alone(watch, figure):
    error = ValueError("the control's")

    def control(x):
        raise error

    def candidate(x):
        try:
            raise KeyError("first")
        except KeyError as first:
            raise RuntimeError("the candidate's") from first

    model, raised, own = served(control, candidate, watch(), breaker=None), [], 0
    for _ in range(20):
        with pytest.raises(ValueError) as caught:
            model(1)
        own += caught.value is error
        raised += [caught.value.__context__, caught.value.__cause__]
    assert (20, {None}) == (own, set(raised))
    figure(
        "F37",
        "{own} of {calls} callers get the control's own exception object, {others} with another as its context",
        own=own,
        calls=len(raised) // 2,
        others=len(raised) - raised.count(None),
    )


class Kinds:
    def method(self, x: int) -> int:
        """Documented."""
        return x

    async def coroutine(self, x: int) -> int:
        """Documented."""
        return x

    def generator(self, x: int):
        """Documented."""
        yield x

    async def async_generator(self, x: int):
        """Documented."""
        yield x


TESTS = [
    inspect.iscoroutinefunction, asyncio.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction,
    inspect.isfunction, inspect.signature, inspect.getdoc,
]  # fmt: skip


@pytest.mark.parametrize("name", ["method", "coroutine", "generator", "async_generator"])
@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction' is deprecated")
def test_f39_a_decorated_function_is_of_its_kind(name, watch, figure):
    function = vars(Kinds)[name]
    decorated = rollout(candidate=function, strategy=ABTest(0.5), key=name, runtime=watch())(function)
    same = [look(function) == look(decorated) for look in TESTS]
    assert all(same)
    assert (function.__name__, function.__qualname__, function) == (
        decorated.__name__,
        decorated.__qualname__,
        decorated.__wrapped__,
    )
    figure("F39", "{name} kinds of functions keep their kind: {same} of {looks} checks by inspect and asyncio", name=name,
           same=sum(same), looks=len(same))  # fmt: skip


@pytest.mark.parametrize("wrap", [staticmethod, classmethod, functools.partial, lambda function: Called(function)])
def test_f39_descriptors_partials_and_objects_can_be_decorated(wrap, watch):
    def score(*given):
        return len(given)

    wrapped = wrap(score)
    decorated = rollout(candidate=score, strategy=ABTest(0.5), key="k", runtime=watch())(wrapped)
    if isinstance(wrapped, staticmethod | classmethod):
        assert type(wrapped) is type(decorated)
        holder = type("Holder", (), {"score": decorated})
        assert {staticmethod: 1, classmethod: 2}[type(wrapped)] == holder().score(1)
    else:
        assert 2 == decorated(1, 2)


def test_f39_a_builtin_can_be_decorated(watch):
    assert Counter({3: 10}) == Counter(
        rollout(candidate=sum, strategy=ABTest(0.5), key="k", runtime=watch())(sum)([1, 2]) for _ in range(10)
    )


class Called:
    def __init__(self, function):
        self.function = function

    def __call__(self, *given):
        return self.function(*given)
