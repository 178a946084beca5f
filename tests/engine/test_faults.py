"""Whatever breaks, the caller gets what the bare control would have given."""

import asyncio
import contextlib
import gc
import signal
import threading
import weakref

import pytest

from rollout_sdk import ABTest, Decision, Interleave, Merged, RouteRequest, Shadow, rollout


def both(control, candidate, runtime, *, strategy=ABTest(1.0), **options):
    return rollout(candidate=candidate, strategy=strategy, effects="read", key="model", runtime=runtime, **options)(control)


def raiser(error):
    def model(x):
        raise error

    return model


def test_a_failed_candidate_is_answered_by_the_control_and_charged_to_the_candidate(runtime):
    model = both(lambda x: x, raiser(KeyError("k")), runtime)
    assert 7 == model(7)
    (event,) = runtime.routed()
    assert ("candidate", "control", None, False) == (event.decision.variant, event.served, event.error, event.excluded)
    assert [("candidate", "KeyError"), ("control", None)] == [(run.variant, run.error) for run in event.runs]


def test_when_both_fail_the_caller_gets_the_controls_own_exception_without_a_context(runtime):
    error = ValueError("the control's")
    model = both(raiser(error), raiser(KeyError("the candidate's")), runtime)
    with pytest.raises(ValueError) as caught:
        model(1)
    assert caught.value is error
    assert (None, None, False) == (error.__context__, error.__cause__, error.__suppress_context__)
    assert ["KeyError", "ValueError"] == [run.error for run in runtime.routed()[0].runs]


def test_when_both_coroutines_fail_it_is_the_same(runtime):
    error = ValueError("the control's")

    async def old(x):
        raise error

    async def new(x):
        raise KeyError

    with pytest.raises(ValueError) as caught:
        asyncio.run(both(old, new, runtime)(1))
    assert caught.value is error
    assert error.__context__ is None


def test_on_error_raise_runs_nothing_twice(runtime):
    ran = []
    model = both(ran.append, raiser(KeyError("k")), runtime, on_error="raise")
    with pytest.raises(KeyError):
        model(1)
    assert [] == ran
    assert "KeyError" == runtime.routed()[0].error


def test_an_exception_that_is_an_answer_passes_through(runtime):
    model = both(lambda x: x, raiser(LookupError("no such user")), runtime, passthrough=(LookupError,))
    with pytest.raises(LookupError):
        model(1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_not_an_error_passes_through_and_nothing_answers_in_its_place(error, runtime):
    ran = []
    with pytest.raises(error):
        both(ran.append, raiser(error()), runtime)(1)
    assert [] == ran
    (event,) = runtime.routed()
    assert (True, None) == (event.closed_early, event.error)


def test_a_cancellation_that_the_candidate_made_up_is_a_failure(runtime):
    async def old(x):
        return x

    async def new(x):
        raise asyncio.CancelledError

    assert 3 == asyncio.run(both(old, new, runtime)(3))
    assert "CancelledError" == runtime.routed()[0].runs[0].error


class Payload:
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_call_is_kept_alive_after_it(fails, runtime):
    def new(x):
        if fails:
            raise KeyError

    model = both(lambda x: None, new, runtime)
    gc.disable()
    try:
        payload = Payload()
        alive = weakref.ref(payload)
        model(payload)
        del payload
        assert alive() is None
    finally:
        gc.enable()


def test_an_exception_that_reaches_the_caller_makes_no_cycle(runtime):
    def fail(x):
        payload = Payload()
        alive.append(weakref.ref(payload))
        raise ValueError

    alive = []
    model = both(fail, fail, runtime)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            model(1)
        assert [None, None] == [reference() for reference in alive]
    finally:
        gc.enable()


class BadStrategy:
    name = "bad"

    def __init__(self, result):
        self.result = result

    def rollout_route(self, request: RouteRequest):
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


BAD = [
    ValueError("broken"),
    SystemExit(3),
    RecursionError(),
    None,
    "candidate",
    Decision("nobody"),
    Decision("candidate", shadows=("nobody",)),
    Decision("candidate", propensity=0.0),
    Decision("mixed", blend=("candidate",)),
    Decision(variant=["unhashable"]),
]


@pytest.mark.parametrize("result", BAD, ids=repr)
def test_a_strategy_that_fails_or_decides_nonsense_leaves_the_control(result, runtime):
    model = both(lambda x: "control", lambda x: "candidate", runtime, strategy=BadStrategy(result))
    assert ["control"] * 3 == [model(1) for _ in range(3)]
    assert [("control", "error", True)] * 3 == [(e.decision.variant, e.decision.reason, e.excluded) for e in runtime.routed()]


def broken(*args, **kwargs):
    raise RuntimeError("sabotage")


@pytest.mark.parametrize(
    "part", ["spans", "record", "background", "merge", "compare", "audience", "nonces", "time_ns", "item_hash", "outline"]
)
@pytest.mark.parametrize("strategy", [ABTest(1.0), Shadow(1.0), Interleave()], ids=lambda strategy: strategy.name)
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, RecursionError])
def test_a_part_of_ours_that_breaks_never_reaches_the_caller(part, strategy, error, watch):
    runtime = watch()
    model = both(lambda x: [1, 2], lambda x: [1, 2], runtime, strategy=strategy)

    class Sabotaged:
        def __getattribute__(self, name):
            raise error("sabotage")

        def __call__(self, *args, **kwargs):
            raise error("sabotage")

    setattr(model.rollout._rollout, part, Sabotaged())
    assert [1, 2] == model(1)
    assert [1, 2] == model(1)


@pytest.mark.parametrize("part", ["route", "hash", "unit", "override"])
def test_a_description_that_breaks_never_reaches_the_caller(part, runtime):
    model = both(lambda x: "control", lambda x: "control", runtime, unit="x", override={"nobody": "candidate"})
    setattr(model.rollout._router, part, broken)
    assert "control" == model("u")


def test_a_merge_that_fails_serves_the_controls_list_and_is_not_analysed(runtime):
    class Broken(Interleave):
        def rollout_merge(self, request, outputs):
            raise ValueError

    model = both(lambda x: [1, 2], lambda x: [2, 1], runtime, strategy=Broken())
    assert [1, 2] == model(1)
    (event,) = runtime.routed()
    assert ("control", True) == (event.served, event.excluded)


@pytest.mark.parametrize("candidate", [raiser(ValueError()), lambda x: [], lambda x: None])
def test_a_failed_or_empty_candidate_leaves_the_controls_list(candidate, runtime):
    model = both(lambda x: (1, 2), candidate, runtime, strategy=Interleave())
    assert (1, 2) == model(1)
    assert runtime.routed()[0].excluded


def test_a_failed_control_fails_the_blended_call(runtime):
    model = both(raiser(ValueError("mine")), lambda x: [1], runtime, strategy=Interleave())
    with pytest.raises(ValueError, match="mine"):
        model(1)
    assert "ValueError" == runtime.routed()[0].error


def test_a_blended_answer_is_of_the_controls_type(runtime):
    assert (1, 2) == both(lambda x: (1, 2), lambda x: [1, 2], runtime, strategy=Interleave())(1)
    strategy = Interleave(items=lambda output: output["items"], rebuild=lambda output, items: {**output, "items": items})
    model = rollout(candidate=lambda x: {"items": [1, 2]}, strategy=strategy, effects="read", key="dict", runtime=runtime)(
        lambda x: {"items": [1, 2], "page": 1}
    )
    assert {"items": [1, 2], "page": 1} == model(1)


def test_a_custom_merge_is_served(runtime):
    class Sum:
        name = "sum"

        def rollout_route(self, request):
            return Decision("blend", blend=(request.control, *request.candidates))

        def rollout_merge(self, outputs):
            return Merged(sum(outputs.values()))

    assert 3 == both(lambda x: 1, lambda x: 2, runtime, strategy=Sum())(0)


def test_what_goes_in_under_threads_comes_out(runtime):
    model = both(lambda x: x, raiser(ValueError()), runtime, strategy=ABTest(0.5), unit="x")

    def work(thread):
        for number in range(1000):
            assert number == model(number)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime.flush(30.0)
    status = model.rollout.status()
    assert 8000 == sum(status.calls.values()) + status.lost
    routed = runtime.routed()
    assert len(routed) == len({event.decision.id for event in routed}) == 8000 - status.lost


def test_a_signal_handler_may_call_what_it_interrupts(runtime):
    model = both(lambda x: x, lambda x: x, runtime, strategy=ABTest(0.5), unit="x")
    handled = []

    def handler(*_):
        handled.append(model(len(handled)))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        calls = 0
        while len(handled) < 100:
            model(calls)
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    runtime.flush(30.0)
    status = model.rollout.status()
    assert calls + len(handled) == sum(status.calls.values()) + status.lost


@pytest.mark.parametrize("strategy", ["ABTest(0.5)", "Shadow()"])
@pytest.mark.parametrize("spans", ["off", "all"])
def test_what_the_garbage_collector_runs_may_call_what_it_interrupts(spans, strategy, run_python):
    """Before Python 3.12 it runs wherever something is allocated, and the process crashed in `ContextVar.set`."""
    result = run_python(f"""
        import gc
        from opentelemetry.sdk.trace import TracerProvider
        from rollout_sdk import ABTest, Runtime, Shadow, Telemetry, current_decision, rollout

        def old(x):
            yield x

        def new(x):
            yield x

        runtime = Runtime(telemetry=Telemetry(tracer_provider=TracerProvider(), spans={spans!r}))
        options = dict(strategy={strategy}, unit="x", effects="read", runtime=runtime)
        stream = rollout(candidate=new, key="stream", **options)(old)
        function = rollout(candidate=lambda x: x, key="function", **options)(lambda x: x)
        inside = []

        def both(x):
            return *stream(x), function(x)

        def collecting(phase, info):
            if phase == "start":
                inside.append((both(-1), current_decision().rollout))

        both(0)
        before = gc.get_threshold()
        gc.callbacks.append(collecting)
        gc.set_threshold(1)
        right = sum(both(number) == (number, number) for number in range(100))
        gc.set_threshold(*before)
        gc.callbacks.remove(collecting)
        print(right, len(inside) > 10, set(inside), runtime.flush(20.0), runtime.faults)
    """)
    assert ("100 True {((-1, -1), 'function')} True {}\n", "", 0) == (result.stdout, result.stderr, result.returncode)


def reads_and_fails(stream):
    next(stream)
    raise ValueError


@pytest.mark.parametrize(
    "options", [{"strategy": ABTest(0.5)}, {"strategy": ABTest(1.0)}, {"override": lambda stream: "candidate"}]
)
def test_an_input_that_can_be_read_once_is_the_controls_in_every_arm(options, runtime):
    model = both(lambda stream: list(stream), reads_and_fails, runtime, **options)
    assert [[1, 2, 3]] * 20 == [model(iter([1, 2, 3])) for _ in range(10)] + [model(stream=iter([1, 2, 3])) for _ in range(10)]
    assert {("control", "one_shot", True)} == {(e.decision.variant, e.decision.reason, e.excluded) for e in runtime.routed()}


def test_an_input_that_can_be_read_once_may_be_the_candidates_when_nothing_runs_twice(runtime):
    model = both(lambda stream: list(stream), lambda stream: sum(stream), runtime, on_error="raise")
    assert 6 == model(iter([1, 2, 3]))
