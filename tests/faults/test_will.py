"""Rows F43 to F46: what is the caller's will passes through, from wherever it comes; all else is a failure of who raised it."""

import asyncio
import signal
import sys
import time
import types

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from rollout_sdk import ABTest, Decision, Interleave, Shadow, Telemetry, rollout
from tests.faults.kinds import KINDS, of_kind, read, turns
from tests.faults.models import served


class PanicException(BaseException):
    """As PyO3 raises it when Rust code panics."""


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def raiser(error):
    def raises(*_, **__):
        raise error

    return raises


def old(*_):
    return ["old"]


def stream_of(kind, answer):
    """A function that returns, instead of its answer, what gives the answer once it is driven."""
    return (lambda *arguments: of_kind(kind, answer)(*arguments)) if kind != "function" else answer


WAYS = {
    **{kind: (kind, {}) for kind in KINDS},
    "coroutine with a deadline": ("coroutine", {"deadline_s": 5.0}),
    "async generator with a deadline": ("async generator", {"deadline_s": 5.0}),
    "interleaved functions": ("function", {"strategy": Interleave()}),
    "interleaved coroutines": ("coroutine", {"strategy": Interleave()}),
    "interleaved generators": ("generator", {"strategy": Interleave()}),
    "interleaved async generators": ("async generator", {"strategy": Interleave()}),
}


def made(way, runtime, candidate, control=old, **options):
    kind, settings = WAYS[way]
    options = {"strategy": ABTest(1.0), "key": "model", "runtime": runtime, **settings, **options}
    return rollout(candidate=of_kind(kind, candidate), **options)(of_kind(kind, control))


def answer(way, model, loop):
    return read(WAYS[way][0], lambda: model(1), loop)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [PanicException, GeneratorExit])
def test_f43_a_candidate_that_panics_is_answered_by_the_control(way, error, watch, loop, figure):
    runtime = watch()
    model = made(way, runtime, raiser(error("unwrap on None")))
    answers = [answer(way, model, loop) for _ in range(5)]
    assert [(["old"], None)] * 5 == answers
    runs = [run for event in runtime.routed() for run in event.runs if run.variant == "candidate"]
    assert [error.__name__] * 5 == [run.error for run in runs]
    figure(
        "F43",
        "the control's answer for {right} of {calls} calls in {way} ways to run a candidate, {charged} failures "
        "attributed to the candidate",
        right=answers.count((["old"], None)),
        calls=len(answers),
        way=way,
        charged=len(runs),
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("base", [Exception, BaseException])
@pytest.mark.parametrize("name", ["Timeout", "Cancelled", "SoftTimeLimitExceeded", "Interrupt"])
def test_f46_a_failure_that_shares_its_name_with_a_librarys_interruption_is_a_failure(name, base, way, watch, loop):
    """As `requests.Timeout` does with gevent's."""
    runtime = watch()
    model = made(way, runtime, raiser(type(name, (base,), {})()))
    assert (["old"], None) == answer(way, model, loop)
    (event,) = runtime.routed()
    assert [name] == [run.error for run in event.runs if run.variant == "candidate"]


@pytest.mark.parametrize("kind", ["coroutine", "generator", "async generator"])
@pytest.mark.parametrize("error", [PanicException, GeneratorExit])
def test_f43_what_a_plain_function_returns_may_panic_later(kind, error, watch, loop):
    model = served(stream_of(kind, old), stream_of(kind, raiser(error())), watch())
    assert (["old"], None) == read(kind, lambda: model(1), loop)


@pytest.mark.parametrize("error", [PanicException, GeneratorExit])
def test_f43_rows_of_a_candidate_that_panics_are_answered_by_the_control(error, watch):
    model = rollout(
        candidate=lambda rows, users: raiser(error())(),
        strategy=ABTest(0.5),
        unit="users",
        batch="rows",
        key="b",
        runtime=watch(),
    )(lambda rows, users: [-row for row in rows])
    assert [-row for row in range(40)] == model(list(range(40)), list(range(40)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_f43_what_ends_the_process_reaches_the_caller(way, error, watch, loop):
    raised = error("now")
    assert raised is answer(way, made(way, watch(), raiser(raised)), loop)[1]


@pytest.mark.parametrize("way", [way for way in WAYS if "generator" in way and "interleaved" not in way])
def test_f43_a_stream_that_is_closed_is_closed(way, watch, loop):
    closed = []

    def items(*arguments):
        try:
            yield 1
            yield 2
        finally:
            closed.append(way)

    async def read_one():
        stream = model(1)
        first = await anext(stream)
        await stream.aclose()
        return first

    async def candidate(*arguments):
        try:
            yield 1
            yield 2
        finally:
            closed.append(way)

    kind, options = WAYS[way]
    runtime = watch()
    model = served(of_kind(kind, old), candidate if "async" in way else items, runtime, **options)
    if "async" in way:
        assert 1 == loop.run_until_complete(read_one())
    else:
        stream = model(1)
        assert 1 == next(stream)
        stream.close()
    assert [way] == closed
    assert [(True, None)] == [(event.closed_early, event.error) for event in runtime.routed()]


class Panics:
    """A plugin of which every hook panics."""

    name = "panics"

    def __init__(self, *hooks):
        for hook in hooks:
            setattr(self, hook, raiser(PanicException()))


class PanickingProcessor(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise PanicException

    def on_end(self, span):
        raise PanicException


class Uncopyable:
    __deepcopy__ = __copy__ = __reduce_ex__ = raiser(PanicException())


def traced():
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(PanickingProcessor())
    return {"telemetry": Telemetry(tracer_provider=provider)}


def captured():
    return {"telemetry": Telemetry(capture=raiser(PanicException()), tracer_provider=TracerProvider(shutdown_on_exit=False))}


class Panicking:
    """A strategy that panics when it is asked."""

    name = "panicking"
    rollout_route = staticmethod(raiser(PanicException()))


COLLABORATORS = {
    "strategy": ({"strategy": Panicking()}, {}),
    "unit": ({"unit": raiser(PanicException())}, {}),
    "override": ({"override": raiser(PanicException())}, {}),
    "covariate": ({"covariate": raiser(PanicException())}, {}),
    "failed_if": ({"failed_if": raiser(PanicException())}, {}),
    "copier": ({"isolate": raiser(PanicException())}, {}),
    "copier of a shadow": ({"isolate": raiser(PanicException()), "strategy": Shadow(1.0), "effects": "read"}, {}),
    "key": ({"strategy": Interleave(key=raiser(PanicException()))}, {}),
    "items": ({"strategy": Interleave(items=raiser(PanicException()), rebuild=old)}, {}),
    "first_page": ({"strategy": Interleave(first_page=raiser(PanicException()))}, {}),
    "comparator": ({"strategy": Shadow(1.0), "effects": "read", "plugins": [Panics("rollout_compare")]}, {}),
    "observer": ({"plugins": [Panics("rollout_routed")]}, {}),
    "span processor": ({}, traced()),
    "capture": ({}, captured()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COLLABORATORS)
def test_f44_a_collaborator_that_panics_is_never_the_callers_concern(name, kind, watch, loop, figure):
    if name == "failed_if" and "generator" in kind:
        pytest.skip("streams have no answer that could be asked about")
    options, about = COLLABORATORS[name]
    runtime = watch(**about)
    model = rollout(candidate=of_kind(kind, old), runtime=runtime, **{"strategy": ABTest(0.5), "key": "model", **options})(
        of_kind(kind, old)
    )
    answers = [read(kind, lambda: model([1]), loop) for _ in range(20)]
    assert [(["old"], None)] * 20 == answers
    turns(loop)
    runtime.events()
    # That a copier fails is not a fault: then the argument is shared, or the shadow is dropped.
    assert "copier" in name or "PanicException" in {error for _, error in runtime.faults}
    figure(
        "F44",
        "{right:,} of {calls:,} calls answered while each of {name} collaborators panics, for {kind} kinds of functions",
        right=answers.count((["old"], None)),
        calls=len(answers),
        name=name,
        kind=kind,
    )


def test_f44_an_argument_that_panics_when_it_is_copied_is_shared(watch):
    model = served(lambda x: "old", lambda x: x["held"], watch(), isolate="deepcopy")
    held = Uncopyable()
    assert held is model({"held": held})


def cancels_then_waits(_):
    asyncio.current_task().cancel()
    return asyncio.sleep(0)


async def nothing():
    """Awaited, and never suspended."""


def cancels_and_answers(_):
    asyncio.current_task().cancel()
    return nothing()


def cancels_and_fails(_):
    asyncio.current_task().cancel()
    raise ValueError


def makes_it_up(x):
    raise asyncio.CancelledError


def awaits_what_was_cancelled(_):
    awaited = asyncio.ensure_future(asyncio.sleep(9))
    awaited.cancel()
    return awaited


MADE_UP = [cancels_then_waits, cancels_and_answers, cancels_and_fails, makes_it_up, awaits_what_was_cancelled]


@pytest.mark.parametrize("deadline_s", [None, 5.0])
@pytest.mark.parametrize("does", MADE_UP)
@pytest.mark.parametrize("kind", ["coroutine", "async generator", "interleaved", "returned"])
def test_f45_a_candidate_that_cancels_its_own_task_is_answered_by_the_control(does, kind, deadline_s, watch, figure):
    async def candidate(x):
        await does(x)
        return ["new"]

    async def control(x):
        await asyncio.sleep(0)
        return ["old"]

    async def new_items(x):
        yield await candidate(x)

    async def old_items(x):
        yield await control(x)

    async def call():
        if kind == "async generator":
            (given,) = [item async for item in model(1)]
        else:
            given = await model(1)
        # What was asked for must not be delivered later either.
        await asyncio.sleep(0.001)
        return given, asyncio.current_task().cancelling()

    runtime = watch()
    if kind == "returned":
        model = served(lambda x: control(x), lambda x: candidate(x), runtime)
    elif kind == "async generator":
        model = served(old_items, new_items, runtime, deadline_s=deadline_s)
    else:
        strategy = Interleave() if kind == "interleaved" else ABTest(1.0)
        model = served(control, candidate, runtime, strategy=strategy, deadline_s=deadline_s)
    given, cancelling = asyncio.run(call())
    assert (["old"], 0) == (given, cancelling)
    (event,) = runtime.routed()
    error = "ValueError" if does is cancels_and_fails else "CancelledError"
    assert [error] == [run.error for run in event.runs if run.variant == "candidate"]
    assert not event.closed_early
    figure(
        "F45",
        "the control's answer for {right} of {runs} calls, with {does} ways to raise a cancellation; {left} "
        "cancellations remain in the tasks",
        right=int(given == ["old"]),
        does=does.__name__,
        left=cancelling,
    )


def test_f45_a_plain_function_cannot_be_cancelled(watch):
    model = served(lambda x: "old", makes_it_up, watch())

    async def main():
        first = model(1)
        asyncio.current_task().cancel()
        second = model(1)
        # The cancellation is delivered where the task waits.
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        return first, second

    assert "old" == model(1)
    assert ("old", "old") == asyncio.run(main())


async def waits(x):
    await asyncio.sleep(9)


async def makes_another_of_it(x):
    try:
        await asyncio.sleep(9)
    except asyncio.CancelledError:
        raise ValueError("stopped") from None


@pytest.mark.parametrize("deadline_s", [None, 5.0])
@pytest.mark.parametrize("candidate", [waits, makes_another_of_it])
def test_f45_a_time_limit_around_the_call_holds(candidate, deadline_s, watch):
    runtime = watch()
    model = served(waits, candidate, runtime, deadline_s=deadline_s)

    async def main():
        began = time.perf_counter()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await model(1)
        return time.perf_counter() - began

    assert asyncio.run(main()) < 4.0
    assert [True] == [event.closed_early for event in runtime.routed()]


def test_f45_a_cancellation_that_was_asked_for_before_the_call_is_delivered(watch):
    model = served(waits, waits, watch())

    async def main():
        asyncio.current_task().cancel()
        await model(1)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_f45_a_cancellation_that_was_never_taken_back_does_not_make_later_ones_real(watch):
    async def control(x):
        return "old"

    async def candidate(x):
        raise asyncio.CancelledError

    model = served(control, candidate, watch())

    async def main():
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return await model(1)

    assert "old" == asyncio.run(main())


def test_f45_a_ctrl_c_in_the_midst_of_a_coroutine_ends_the_program(watch):
    async def control(x):
        return "old"

    async def candidate(x):
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(9)

    model = served(control, candidate, watch())
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(model(1))


def test_f45_the_limit_of_a_candidate_itself_is_its_failure(watch):
    async def control(x):
        return "old"

    async def candidate(x):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(9)

    model = served(control, candidate, watch())

    async def main():
        return await model(1), asyncio.current_task().cancelling()

    assert ("old", 0) == asyncio.run(main())


def test_f45_a_coroutine_that_is_closed_is_closed(watch):
    closed = []

    async def candidate(x):
        try:
            await asyncio.sleep(9)
        finally:
            closed.append(x)

    runtime = watch()
    model = served(waits, candidate, runtime)

    async def main():
        coroutine = model(1)
        coroutine.send(None)
        coroutine.close()

    asyncio.run(main())
    assert [1] == closed
    assert [True] == [event.closed_early for event in runtime.routed()]


def test_f45_a_cancellation_under_trio_is_real_and_its_own_limit_is_not(watch):
    trio = pytest.importorskip("trio", reason="for cancel scopes")

    async def control(x):
        return "old"

    async def candidate(x):
        with trio.fail_after(x):
            await trio.sleep(9)

    runtime = watch()
    model = served(control, candidate, runtime)

    async def main():
        with trio.move_on_after(0.05) as scope:
            await model(8)
        return scope.cancelled_caught, await model(0.01)

    assert (True, "old") == trio.run(main)
    assert [True, False] == [event.closed_early for event in runtime.routed()]


def test_f45_a_greenlet_can_cancel_a_plain_function(watch, monkeypatch):
    """As SQLAlchemy does it: a plain function runs in a greenlet, and what it waits for is awaited outside."""
    monkeypatch.setitem(
        sys.modules, "greenlet", types.SimpleNamespace(getcurrent=lambda: types.SimpleNamespace(parent=object()))
    )
    model = served(lambda x: "old", makes_it_up, watch())

    async def main():
        asyncio.current_task().cancel()
        return model(1)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


class SoftTimeLimitError(Exception):
    """What the handler of a worker raises."""


@pytest.fixture
def alarm():
    """Has a handler of SIGALRM raise SoftTimeLimitError."""

    def handler(signum, frame):
        raise SoftTimeLimitError

    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def too_slow(*_, **__):
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(5)
    return ["new"]


@pytest.mark.parametrize("way", [way for way in WAYS if "deadline" not in way])
def test_f46_a_soft_time_limit_reaches_the_caller(way, alarm, watch, loop, figure):
    runtime = watch()
    model = made(way, runtime, too_slow)
    raised = answer(way, model, loop)[1]
    assert isinstance(raised, SoftTimeLimitError)
    events = runtime.routed()
    assert [True] == [event.closed_early for event in events]
    after = sum(run.variant == "control" for event in events for run in event.runs) if "interleaved" not in way else 0
    assert 0 == after
    figure("F46", "the exception of a signal handler reaches {reached} of {runs} callers, in {way} ways to run a candidate; "
           "{after} controls run after it", reached=int(isinstance(raised, SoftTimeLimitError)), way=way,
           after=after)  # fmt: skip


@pytest.mark.parametrize("batched", [False, True])
def test_f46_a_soft_time_limit_reaches_the_caller_of_a_batch(batched, alarm, watch):
    model = rollout(
        candidate=lambda rows: too_slow(), strategy=ABTest(1.0), key="b", runtime=watch(), batch="rows" if batched else None
    )(lambda rows: rows)
    with pytest.raises(SoftTimeLimitError):
        model([1, 2])


@pytest.mark.parametrize("option", ["unit", "override", "isolate", "failed_if"])
def test_f46_a_soft_time_limit_within_a_collaborator_reaches_the_caller(option, alarm, watch):
    model = served(lambda x: "old", lambda x: "new", watch(), **{option: too_slow})
    with pytest.raises(SoftTimeLimitError):
        model([1])


def test_f46_the_end_of_the_process_within_a_collaborator_ends_it(watch):
    def handler(signum, frame):
        sys.exit(3)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(SystemExit):
            served(lambda x: "old", lambda x: "new", watch(), unit=too_slow)(1)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_f46_a_time_limit_of_the_candidates_own_is_its_failure(watch):
    def candidate(x):
        def handler(signum, frame):
            raise SoftTimeLimitError

        before = signal.signal(signal.SIGALRM, handler)
        try:
            return too_slow()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    assert "old" == served(lambda x: "old", candidate, watch())(1)


class Worker:
    """Handlers as libraries write them."""

    def method(self, signum, frame):
        raise SoftTimeLimitError

    __call__ = method


@pytest.mark.parametrize("handler", [Worker().method, Worker(), lambda *_: raiser(SoftTimeLimitError())()])
def test_f46_any_callable_can_be_the_handler(handler, watch):
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(SoftTimeLimitError):
            served(lambda x: "old", too_slow, watch())(1)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_f46_the_limit_of_celery_is_known(watch):
    limit = pytest.importorskip("celery.exceptions", reason="for its exception").SoftTimeLimitExceeded
    with pytest.raises(limit):
        served(lambda x: "old", raiser(limit()), watch())(1)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("billiard.exceptions", "SoftTimeLimitExceeded"),
        ("rq.timeouts", "BaseTimeoutException"),
        ("dramatiq.middleware", "Interrupt"),
    ],
)
def test_f46_the_limits_of_workers_are_known_by_their_names(module, name, watch, monkeypatch):
    limit = type("Limit", (type(name, (Exception,), {}),), {})
    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: limit.__base__}))
    with pytest.raises(limit):
        served(lambda x: "old", raiser(limit()), watch())(1)


def test_f46_a_timeout_of_gevent_is_the_callers_until_its_timer_is_closed(run_python):
    pytest.importorskip("gevent", reason="for its timeouts")
    done = run_python("""
        import contextlib
        import warnings
        warnings.simplefilter("ignore")
        import gevent
        from rollout_sdk import ABTest, Runtime, rollout

        def own(x):
            with gevent.Timeout(0.01):
                gevent.sleep(5)

        def slow(x):
            gevent.sleep(5)

        with contextlib.closing(Runtime()) as runtime:
            limited = rollout(candidate=own, strategy=ABTest(1.0), key="own", runtime=runtime)(lambda x: "old")
            assert "old" == limited(1)
            model = rollout(candidate=slow, strategy=ABTest(1.0), key="slow", runtime=runtime)(lambda x: "old")
            try:
                with gevent.Timeout(0.05):
                    model(1)
            except gevent.Timeout:
                pass
            else:
                raise SystemExit("the caller's timeout was lost")
            assert "late" == gevent.with_timeout(0.05, model, 1, timeout_value="late")
            job = gevent.spawn(model, 1)
            gevent.sleep(0.01)
            job.kill()
            assert isinstance(job.value, gevent.GreenletExit), job.value
    """)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("batched", [False, True])
def test_f46_what_passthrough_names_is_an_answer_in_every_row(batched, watch):
    runtime = watch()
    model = rollout(
        candidate=raiser(LookupError()), strategy=ABTest(1.0), key="b", runtime=runtime, passthrough=(LookupError,),
        batch="rows" if batched else None,
    )(lambda rows: rows)  # fmt: skip
    with pytest.raises(LookupError):
        model([1, 2, 3])
    assert [True] * (3 if batched else 1) == [event.answered for event in runtime.routed()]


def test_f46_rows_that_another_variant_answered_are_not_answers_by_exception(watch):
    runtime = watch()

    class Split:
        name = "split"

        def rollout_route(self, request):
            return Decision("first" if request.arguments["rows"] == 0 else "second")

    model = rollout(
        candidates={"first": raiser(LookupError()), "second": lambda rows: [-row for row in rows]}, strategy=Split(), key="b",
        runtime=runtime, passthrough=(LookupError,), batch="rows",
    )(lambda rows: rows)  # fmt: skip
    with pytest.raises(LookupError):
        model([0, 1, 0])
    assert [("first", True), ("second", False), ("first", True)] == [
        (event.decision.variant, event.answered) for event in runtime.routed()
    ]


@pytest.mark.parametrize("passthrough", [(), (LookupError,)])
def test_f46_what_passthrough_names_does_not_open_the_breaker_of_a_shadow(passthrough, watch):
    runtime = watch()
    model = served(
        lambda x: "old", raiser(LookupError()), runtime, strategy=Shadow(1.0), effects="read", passthrough=passthrough
    )  # fmt: skip
    for n in range(40):
        assert "old" == model(n)
        assert runtime.flush(10.0)
    assert (() if passthrough else ("candidate",)) == model.rollout.status().open_breakers
