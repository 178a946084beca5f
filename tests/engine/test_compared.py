"""A shadow is compared with what the control gave, whole and as it was given, and with nothing else."""

import asyncio

import pytest

from rollout_sdk import Comparison, Decision, Interleave, Shadow, rollout


def shadowed(control, candidate, runtime, *, strategy=Shadow(1.0), effects="read", key="model", **options):
    return rollout(candidate=candidate, strategy=strategy, effects="read", key=key, runtime=runtime, **options)(control)


async def let_others_run():
    """Give the loop to the shadows on it, however slow the machine is."""
    for _ in range(50):
        await asyncio.sleep(0)


def ends(runtime):
    return [(event.end, event.comparison and event.comparison.match) for event in runtime.shadowed()]


def numbers(x):
    yield from range(x)


async def anumbers(x):
    for number in range(x):
        yield number


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_a_stream_left_early_is_compared_with_nothing(kind, runtime):
    async def leave():
        stream = shadowed(*[numbers if kind == "generator" else anumbers] * 2, runtime)(9)
        if kind == "generator":
            next(stream)
            stream.close()
        else:
            await anext(stream)
            await stream.aclose()
        await let_others_run()

    asyncio.run(leave())
    assert [("ok", None)] == ends(runtime)


def test_an_interrupted_control_is_compared_with_nothing(runtime):
    def control(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shadowed(control, lambda x: x, runtime)(1)
    assert [("ok", None)] == ends(runtime)


def test_a_stream_whose_control_fails_is_a_mismatch(runtime):
    def control(x):
        yield 1
        raise ValueError

    with pytest.raises(ValueError):
        list(shadowed(control, numbers, runtime)(1))
    assert [("ok", False)] == ends(runtime)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_items_are_compared_as_they_passed(kind, runtime):
    def generator(x):
        yield {"n": 1}

    async def async_generator(x):
        yield {"n": 1}

    async def read():
        model = generator if kind == "generator" else async_generator
        stream = shadowed(model, model, runtime)(1)
        items = list(stream) if kind == "generator" else [item async for item in stream]
        items[0]["n"] = 2
        await let_others_run()

    asyncio.run(read())
    assert [("ok", True)] == ends(runtime)


def test_items_that_nothing_can_copy_are_compared_with_nothing(runtime):
    def control(x):
        yield object()

    assert 1 == len(list(shadowed(control, numbers, runtime)(1)))
    assert [("ok", None)] == ends(runtime)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_an_endless_shadow_is_ended_and_closed(kind, watch):
    runtime = watch(shadows={"kept_items": 5})
    closed = []

    def generator(x):
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def async_generator(x):
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def read():
        if kind == "generator":
            list(shadowed(numbers, generator, runtime)(2))
            runtime.flush()
        else:
            assert [0, 1] == [item async for item in shadowed(anumbers, async_generator, runtime)(2)]
            await let_others_run()

    asyncio.run(read())
    assert ([True], [("ok", None)]) == (closed, ends(runtime))


def test_a_shadow_that_does_not_close_has_failed(watch):
    runtime = watch(shadows={"kept_items": 2})
    obey = []

    def candidate(x):
        while not obey:
            try:
                yield 1
            except GeneratorExit:
                obey.append(True)
                yield 2

    list(shadowed(numbers, candidate, runtime)(2))
    (event,) = runtime.shadowed()
    assert ("error", "RuntimeError") == (event.end, event.error)


class Answer:
    """An answer of a class of one's own."""

    def __init__(self, words):
        self.words = words

    def __eq__(self, other):
        return self.words == other.words

    __hash__ = None


class Hostile(Answer):
    def __sizeof__(self):
        raise SystemExit(3)

    def __deepcopy__(self, memo):
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("answer", "isolate", "expected"),
    [
        (Answer, "auto", True),
        (Answer, "deepcopy", True),
        (Answer, "none", True),
        (Answer, lambda value: value, True),
        (Hostile, "auto", None),
        (Hostile, "deepcopy", None),
        (Hostile, "none", True),
    ],
)
def test_an_answer_is_compared_where_it_can_be_copied_or_need_not_be(answer, isolate, expected, runtime):
    given = shadowed(lambda x: answer(["a"]), lambda x: answer(["a"]), runtime, isolate=isolate)(1)
    assert ["a"] == given.words
    assert [("ok", expected)] == ends(runtime)


def test_a_deep_copy_of_an_answer_is_not_what_the_caller_changes(runtime):
    model = shadowed(lambda x: Answer(["a"]), lambda x: Answer(["a"]), runtime, isolate="deepcopy")
    model(1).words.append("b")
    assert [("ok", True)] == ends(runtime)


def test_a_copier_that_ends_the_program_costs_the_shadow_only(runtime):
    def copier(value):
        raise SystemExit(3)

    assert 1 == shadowed(lambda x: x, lambda x: x, runtime, isolate=copier)(1)
    assert [("dropped_snapshot", "SystemExit (argument 'x')")] == [(event.end, event.error) for event in runtime.shadowed()]


class ServeAndShadow:
    """Serves one candidate and shadows another."""

    name = "serve-and-shadow"

    def rollout_route(self, request):
        return Decision("v2", shadows=("v3",))


def fail(x):
    raise ValueError


@pytest.mark.parametrize(("serving", "expected"), [(lambda x: x, None), (fail, True)], ids=["answers", "fails"])
def test_a_shadow_is_never_compared_with_another_candidate(serving, expected, runtime):
    model = rollout(
        candidates={"v2": serving, "v3": lambda x: x}, strategy=ServeAndShadow(), effects="read", key="two", runtime=runtime
    )
    assert 1 == model(lambda x: x)(1)
    assert [("ok", expected)] == ends(runtime)


def test_a_stream_that_fell_back_is_compared_with_the_control(runtime):
    def broken(x):
        raise ValueError
        yield

    model = rollout(
        candidates={"v2": broken, "v3": numbers}, strategy=ServeAndShadow(), effects="read", key="two", runtime=runtime
    )(numbers)
    assert [0, 1, 2] == list(model(3))
    assert [("ok", True)] == ends(runtime)


def test_a_shadow_is_not_compared_with_a_blended_answer(runtime):
    class BlendAndShadow(Interleave):
        def rollout_route(self, request):
            return Decision("interleaved", blend=("control", "candidate"), shadows=("candidate",))

    shadowed(lambda x: [1, 2], lambda x: [1, 2], runtime, strategy=BlendAndShadow())(1)
    assert [("ok", None)] == ends(runtime)


def test_a_comparison_knows_what_the_shadow_was_asked(runtime):
    class Comparator:
        def rollout_compare(self, request, control, candidate):
            return Comparison(match=True, name=f"{request.key} {request.arguments['words']}")

    words = ["a"]
    shadowed(lambda words: words.append("b"), lambda words: None, runtime, plugins=[Comparator()])(words)
    assert "model ['a']" == runtime.shadowed()[0].comparison.name
