"""Rows F48 and F49: rollouts inside rollouts do not multiply the work of a call that fails, and keep nothing of it."""

import asyncio
import gc
import threading
import weakref

import pytest

from rollout_sdk import ABTest, Interleave, rollout
from tests.faults.kinds import KINDS, of_kind, read
from tests.faults.models import served

DEPTH = 5


class DownError(ConnectionError):
    """The last dependency is down."""


class WrappedError(Exception):
    """What a level makes of it."""


class FrozenError(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def passes(error):
    raise error


def wraps(error):
    raise WrappedError from error


def replaces(error):
    raise WrappedError


def hides(error):
    raise WrappedError from None


def calling(kind, inner, reacts):
    """A function of a kind that gives what `inner` does, and reacts to what that raises."""

    def function(x):
        try:
            return inner(x)
        except Exception as error:
            return reacts(error)

    async def coroutine(x):
        try:
            return await inner(x)
        except Exception as error:
            return reacts(error)

    def generator(x):
        try:
            yield from inner(x)
        except Exception as error:
            reacts(error)

    async def async_generator(x):
        try:
            async for item in inner(x):
                yield item
        except Exception as error:
            reacts(error)

    return dict(zip(KINDS, [function, coroutine, generator, async_generator], strict=True))[kind]


def chain(kind, reacts, runtime, *, error=DownError, **options):
    """A chain of rollouts, each calling the next one; the last fails. And a list of its requests."""
    asked = []

    def fails(x):
        asked.append(x)
        raise error

    function = of_kind(kind, fails)
    for level in range(DEPTH):
        control, candidate = calling(kind, function, reacts), calling(kind, function, reacts)
        options = {"strategy": ABTest(1.0), "breaker": None, **options}
        function = rollout(candidate=candidate, key=f"level-{level}", runtime=runtime, **options)(control)
    return function, asked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reacts", [passes, wraps])
@pytest.mark.parametrize("error", [DownError, FrozenError])
def test_f48_an_exception_of_an_inner_control_is_not_tried_again(kind, reacts, error, watch, loop, figure):
    runtime = watch()
    model, asked = chain(kind, reacts, runtime, error=error)
    _, raised = read(kind, lambda: model(1), loop)
    assert error is type(raised if reacts is passes else innermost(raised))
    # The candidate and the control of the innermost rollout.
    assert 2 == len(asked)
    figure(
        "F48",
        "{requests:.0f} requests per call through {depth:.0f} rollouts, for {kind} kinds of functions, also if "
        "each level wraps with `from`",
        requests=float(len(asked)),
        depth=float(len(runtime.rollouts)),
        kind=kind,
    )


def innermost(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reacts", [replaces, hides])
def test_f48_an_exception_that_cannot_be_known_again_costs_one_run_for_each_level(kind, reacts, watch, loop, figure):
    model, asked = chain(kind, reacts, watch())
    assert WrappedError is type(read(kind, lambda: model(1), loop)[1])
    assert DEPTH + 1 == len(asked)
    figure("F48", "{requests:.0f} if each level raises another exception", requests=float(len(asked)))


def test_f48_batches_do_not_multiply(watch):
    model, asked = chain("function", passes, watch(), batch="x")
    with pytest.raises(DownError):
        model([1, 2, 3])
    assert 2 == len(asked)


def test_f48_streams_that_functions_return_do_not_multiply(watch):
    asked, runtime = [], watch()

    def stream(x):
        asked.append(x)
        yield from ()
        raise DownError

    model = lambda x: stream(x)
    for level in range(DEPTH):
        step = lambda x, inner=model: inner(x)
        model = rollout(candidate=step, strategy=ABTest(1.0), key=f"level-{level}", runtime=runtime)(step)
    with pytest.raises(DownError):
        list(model(1))
    assert len(asked) <= DEPTH + 1


def test_f48_a_group_of_them_is_not_tried_again(watch, loop):
    asked = []

    async def fails(x):
        asked.append(x)
        raise DownError

    inner = rollout(candidate=fails, strategy=ABTest(1.0), key="inner", runtime=watch())(fails)

    async def both(x):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inner(x))

    runs = []

    async def control(x):
        runs.append(x)

    outer = rollout(candidate=both, strategy=ABTest(1.0), key="outer", runtime=watch())(control)
    with pytest.raises(ExceptionGroup):
        loop.run_until_complete(outer(1))
    assert (2, []) == (len(asked), runs)


def test_f48_a_recursion_is_as_long_as_the_bare_one(watch, figure):
    runs = []

    def countdown(x):
        runs.append(x)
        if x == 0:
            raise DownError
        return model(x - 1)

    model = rollout(candidate=countdown, strategy=ABTest(1.0), key="k", breaker=None, runtime=watch())(countdown)
    with pytest.raises(DownError):
        model(14)
    assert 16 == len(runs)
    figure("F48", "{runs_of} runs in a recursion of depth {depth}, instead of a tree of {tree:,}", runs_of=len(runs),
           depth=max(runs), tree=2 ** len(runs) - 2)  # fmt: skip


def inner_of(runtime, error=DownError, key="inner", **options):
    def fails(x):
        raise error

    return rollout(candidate=fails, strategy=ABTest(1.0), key=key, runtime=runtime, **options)(fails)


def test_f48_a_failure_of_the_candidates_own_after_one_further_in_is_answered_by_the_control(watch):
    """Also where its exception gets the address of the one that is gone."""
    runtime = watch()
    inner = inner_of(runtime)

    def candidate(x):
        try:
            inner(x)
        except DownError:
            pass
        raise DownError

    model = served(lambda x: "old", candidate, runtime, breaker=None)
    assert ["old"] * 200 == [model(n) for n in range(200)]


def test_f48_an_exception_that_was_raised_before_is_not_taken_for_one_from_further_in(watch):
    """One object, raised again and again, has the frames of all that it has passed."""
    runtime = watch()
    error = DownError()

    def fails(x):
        raise error

    failing = rollout(candidate=fails, strategy=ABTest(0.0), key="failing", runtime=runtime)(fails)
    model = served(lambda x: "old", fails, runtime, breaker=None)
    for _ in range(3):
        with pytest.raises(DownError):
            failing(1)
        assert "old" == model(1)


def test_f48_what_an_inner_candidate_raises_is_answered_by_the_outer_control(watch):
    runtime = watch()
    inner = inner_of(runtime, on_error="raise")
    assert "old" == served(lambda x: "old", lambda x: inner(x), runtime)(1)


def test_f48_a_call_beside_a_stream_is_not_inside_it(watch):
    runtime = watch()
    other = inner_of(runtime)

    def candidate(x):
        yield 1
        raise DownError

    def control(x):
        yield 2

    decided = []
    plain = rollout(candidate=lambda x: "new", strategy=ABTest(1.0), key="plain", runtime=runtime)(lambda x: "old")

    def failing(x):
        raise KeyError
        yield x

    for _ in served(control, failing, runtime)(1):
        # The control answers in its place: that is not where this call is.
        decided.append(plain(1))
        with pytest.raises(DownError):
            other(1)
    assert ["new"] == decided


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_f48_both_arms_are_charged_alike_with_what_an_inner_control_raises(share, watch):
    runtime = watch()
    inner = inner_of(runtime)
    model = served(lambda x: inner(x), lambda x: inner(x), runtime, strategy=ABTest(share))
    with pytest.raises(DownError):
        model(1)
    (event,) = [each for each in runtime.routed() if each.decision.rollout == "model"]
    assert ("DownError", ["DownError"], event.decision.variant) == (
        event.error,
        [run.error for run in event.runs],
        event.served,
    )
    assert (False, False) == (event.no_evidence, event.excluded)


def test_f48_what_is_asked_again_inside_a_fallback_is_answered_by_controls_and_not_analysed(watch):
    runtime = watch()
    inner = rollout(candidate=lambda x: "new", strategy=ABTest(1.0), key="inner", runtime=runtime)(lambda x: "old")

    def candidate(x):
        raise KeyError(inner(x))

    model = served(lambda x: inner(x), candidate, runtime)
    assert ("old", "new") == (model(1), inner(1))
    events = [event for event in runtime.routed() if event.decision.rollout == "inner"]
    assert [("static", False), ("nested", True), ("static", False)] == [
        (event.decision.reason, event.excluded) for event in events
    ]


def test_f48_a_task_that_a_fallback_began_is_not_inside_it_when_the_call_has_ended(watch, loop):
    runtime, tasks = watch(), []

    async def old(x):
        return "old"

    async def new(x):
        return "new"

    inner = rollout(candidate=new, strategy=ABTest(1.0), key="inner", runtime=runtime)(old)

    async def later(x):
        first = await inner(x)
        await asyncio.sleep(0.05)
        return first, await inner(x)

    async def control(x):
        tasks.append(asyncio.ensure_future(later(x)))
        await asyncio.sleep(0.01)
        return "old"

    async def candidate(x):
        raise KeyError

    async def main():
        await served(control, candidate, runtime)(1)
        return await tasks[0]

    assert ("old", "new") == loop.run_until_complete(main())


def test_f48_interleaved_lists_do_not_multiply(watch):
    model, asked = chain("function", passes, watch(), strategy=Interleave())
    with pytest.raises(DownError):
        model(1)
    assert len(asked) <= DEPTH + 1


class Payload:
    """What a frame holds."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("caught", [False, True])
def test_f49_nothing_keeps_an_exception_or_its_frames_that_passed(kind, caught, watch, loop, figure):
    runtime, held = watch(), []

    def fails(x):
        payload = Payload()
        held.append(weakref.ref(payload))
        raise DownError

    inner = rollout(candidate=of_kind(kind, fails), strategy=ABTest(1.0), key="inner", runtime=runtime)(of_kind(kind, fails))

    def answers(error):
        return []

    # A function that raises what it was given would hold that in a cycle of its own.
    nothing = of_kind(kind, lambda x: [])
    candidate, control = (calling(kind, each, answers) if caught else each for each in (inner, nothing))
    outer = served(control, candidate, runtime)
    raised = []

    async def main():
        """In a task: what leaves a task is held by it."""
        try:
            if kind == "coroutine":
                await outer(1)
            else:
                [item async for item in outer(1)]
        except DownError:
            raised.append(True)
        return sum(each() is not None for each in held)

    def call():
        try:
            list(outer(1))
        except DownError:
            raised.append(True)
        return sum(each() is not None for each in held)

    gc.collect()
    gc.disable()
    try:
        alive = loop.run_until_complete(main()) if "coroutine" in kind or "async" in kind else call()
    finally:
        gc.enable()
    assert caught != bool(raised)
    assert (2, 0) == (len(held), alive)
    figure(
        "F49",
        "{alive} of {frames} frames alive after the caller released an exception that passed two rollouts, "
        "without a collection",
        alive=alive,
        frames=len(held),
    )


def test_f49_an_exception_that_a_candidate_dealt_with_is_gone_while_it_goes_on(watch):
    runtime, held, alive = watch(), [], []

    def fails(x):
        payload = Payload()
        held.append(weakref.ref(payload))
        raise DownError

    inner = rollout(candidate=fails, strategy=ABTest(1.0), key="inner", runtime=runtime)(fails)

    def candidate(x):
        try:
            inner(x)
        except DownError:
            pass
        alive.append(sum(each() is not None for each in held))
        return "new"

    gc.collect()
    gc.disable()
    try:
        assert "new" == served(lambda x: "old", candidate, runtime)(1)
    finally:
        gc.enable()
    assert (2, [0]) == (len(held), alive)


def test_f49_calls_of_one_thread_do_not_hold_each_other(watch):
    runtime = watch()
    model = served(lambda x: "old", lambda x: "new", runtime)
    arguments = [weakref.ref(argument) for argument in (Payload() for _ in range(50)) if model(argument)]
    assert runtime.flush(10.0)
    gc.collect()
    assert 0 == sum(each() is not None for each in arguments)


def test_f48_other_threads_are_not_inside(watch):
    """A thread that a candidate starts has a context of its own: what fails there is nobody's but its caller's."""
    runtime = watch()
    inner, failed = inner_of(runtime), []

    def in_thread(x):
        try:
            inner(x)
        except DownError as error:
            failed.append(error)

    def candidate(x):
        thread = threading.Thread(target=in_thread, args=(x,))
        thread.start()
        thread.join()
        raise KeyError

    assert "old" == served(lambda x: "old", candidate, runtime)(1)
    assert 1 == len(failed)
