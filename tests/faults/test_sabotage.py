"""Every collaborator in turn is replaced by one that raises on any use: the caller has the control's exact result."""

import asyncio
import itertools
import traceback

import pytest

from rollout_sdk import ABTest, Interleave, Shadow, rollout

ERRORS = [Exception, SystemExit, RecursionError]
STRATEGIES = [ABTest(1.0), Shadow(1.0), Interleave()]


class Sabotaged:
    """Raises on any use: call, attribute, item, iteration, truth, comparison, length, context."""

    def __init__(self, error):
        object.__setattr__(self, "error", error)

    def __getattribute__(self, name):
        raise object.__getattribute__(self, "error")("sabotage")

    def _raise(self, *args, **kwargs):
        raise object.__getattribute__(self, "error")("sabotage")

    __call__ = __getitem__ = __setitem__ = __iter__ = __bool__ = __eq__ = __len__ = __contains__ = __enter__ = _raise
    __hash__ = __int__ = __float__ = __index__ = __next__ = __lt__ = __add__ = __str__ = __repr__ = _raise


ANSWER = [1, 2]


def function(x):
    return ANSWER


async def coroutine(x):
    return ANSWER


def generator(x):
    yield from ANSWER


async def async_generator(x):
    for item in ANSWER:
        yield item


async def gathered(stream):
    return [item async for item in stream]


async def settled(work):
    result = await work
    # Shadows on this loop get their turn.
    for _ in range(5):
        await asyncio.sleep(0)
    return result


CALL = {
    function: lambda model: model(1),
    coroutine: lambda model: asyncio.run(settled(model(1))),
    generator: lambda model: list(model(1)),
    async_generator: lambda model: asyncio.run(settled(gathered(model(1)))),
}


def replaced(model, runtime, part, saboteur):
    """Replace one collaborator of a decorated function."""
    engine, describe = model.rollout._rollout, model.rollout._router
    holders = {
        "strategy": (describe, "route"),
        "merger": (engine, "merge"),
        "comparator": (engine, "compare"),
        "journal": (runtime._delivery.sinks, "journal"),
        "observers": (engine, "observers"),
        "tracer": (runtime.spans._spans, "_given"),
        "spans": (engine, "spans"),
        "meter": (runtime._delivery, "metrics"),
        "logger": (runtime._delivery.sinks, "log_events"),
        "audience": (engine, "audience"),
        "wall clock": (engine, "time_ns"),
        "hasher": (describe, "hash"),
        "item hasher": (engine, "item_hash"),
        "recorder's queue": (runtime.recorder, "_queue"),
        "recorder": (engine, "record"),
        "recorder of calls": (engine, "conclude"),
        "shadow queue": (runtime.background._threads, "_queue"),
        "shadow tokens": (runtime.background._threads, "_tokens"),
        "background": (engine, "background"),
        "copier": (engine, "isolate"),
        "limits": (engine, "limits"),
        "nonces": (engine, "nonces"),
        "outline": (engine, "outline"),
        "unit": (describe, "unit"),
        "layer": (describe, "layer"),
        "override": (describe, "override"),
        "breakers": (engine.local_state, "breakers"),
        "control file": (runtime._steering, "file"),
        "shown": (engine, "shown"),
        "store": (runtime.reconciler.store, "_store"),
        "judge": (runtime._delivery, "add_to_evidence"),
    }
    if part == "tracer":
        # As after the application has set its provider.
        runtime.spans._spans._is_final = True
    setattr(*holders[part], saboteur)


PARTS = [
    "strategy", "merger", "comparator", "journal", "observers", "tracer", "spans", "meter", "logger", "audience", "wall clock",
    "hasher", "item hasher", "recorder's queue", "recorder", "recorder of calls", "shadow queue", "shadow tokens", "background",
    "copier", "limits", "nonces", "outline", "unit", "layer", "override", "breakers", "control file", "shown",
    "store", "judge",
]  # fmt: skip


def outcome(part, kind, error, strategy, watch):
    """What three calls gave, or how they failed; the saboteur himself stays here, because even to print him raises."""
    runtime = watch(shadows={"timeout_s": 1.0})
    model = rollout(candidate=kind, strategy=strategy, effects="read", unit="x", key="model", runtime=runtime)(kind)
    try:
        CALL[kind](model)
        replaced(model, runtime, part, Sabotaged(error))
        return [CALL[kind](model) for _ in range(3)]
    except BaseException:
        return traceback.format_exc()


@pytest.mark.parametrize("kind", CALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("part", PARTS)
def test_a_sabotaged_part_never_reaches_the_caller(part, kind, watch, capfd, figure):
    cases = list(itertools.product(ERRORS, STRATEGIES))
    found = {(error.__name__, strategy.name): outcome(part, kind, error, strategy, watch) for error, strategy in cases}
    assert {case: [ANSWER] * 3 for case in found} == found
    assert ("", "") == capfd.readouterr()
    figure(
        "sabotage",
        "{part} collaborators x {exceptions:.0f} exceptions x {strategies:.0f} strategies x {kind} kinds of "
        "functions: {right:,} of {calls:,} calls return the control's result",
        part=part,
        kind=kind.__name__,
        exceptions=float(len({error for error, _ in found})),
        strategies=float(len({name for _, name in found})),
        right=sum(each == ANSWER for answers in found.values() for each in answers),
        calls=sum(map(len, found.values())),
    )


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("clock", ["monotonic", "perf_counter"])
def test_a_clock_of_the_background_that_breaks_never_reaches_the_caller(clock, error, watch, monkeypatch):
    runtime = watch()
    model = rollout(candidate=function, strategy=Shadow(1.0), effects="read", key="model", runtime=runtime)(function)

    def broken():
        raise error("sabotage")

    module = {"monotonic": "rollout_sdk.engine.shadows.pool", "perf_counter": "rollout_sdk.engine.copies.snapshot"}[clock]
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{clock}", broken)
        assert [ANSWER] * 5 == [model(1) for _ in range(5)]
    assert ANSWER == model(1)
