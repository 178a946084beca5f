"""Who gets which variant, when what assigns them is asynchronous, shares change, and users log in."""

import gc
import itertools
import warnings
from collections import Counter

import pytest

from rollout_sdk import ABTest, Canary, ConfigurationError, Interleave, Telemetry, moved_units, rollout
from tests.faults.models import served

UNITS = [f"u-{number}" for number in range(10_000)]


async def asynchronous(*args, **kwargs):
    return "candidate"


class Asynchronous:
    async def __call__(self, *args, **kwargs):
        return "candidate"


def test_f77_functions_that_would_have_to_be_awaited_are_refused_when_decorating(watch, figure):
    runtime, refused = watch(), Counter()
    options = {
        "unit": lambda function: served(lambda x: x, lambda x: x, runtime, unit=function),
        "override": lambda function: served(lambda x: x, lambda x: x, runtime, override=function),
        "isolate": lambda function: served(lambda x: x, lambda x: x, runtime, isolate=function),
        "covariate": lambda function: served(lambda x: x, lambda x: x, runtime, covariate=function),
        "failed_if": lambda function: served(lambda x: x, lambda x: x, runtime, failed_if=function),
        "approve": lambda function: Canary(approve=function),
        "capture": lambda function: Telemetry(capture=function),
        "redact": lambda function: Telemetry(redact=function),
        "key": lambda function: Interleave(key=function),
        "stamp": lambda function: Interleave(stamp=function),
        "first_page": lambda function: Interleave(first_page=function),
        "rebuild": lambda function: Interleave(rebuild=function),
    }
    kinds = (asynchronous, Asynchronous(), Asynchronous().__call__)
    for option, function in itertools.product(options, kinds):
        try:
            options[option](function)
        except ConfigurationError:
            refused[option] += 1
    assert refused == dict.fromkeys(options, 3)
    figure("F77", "{refused} of {given} refused: {kinds} kinds of functions for {options} options", refused=refused.total(),
           given=len(kinds) * len(options), kinds=len(kinds), options=len(refused))  # fmt: skip


def kinds_of_functions():
    def function(user):
        return "control"

    async def coroutine(user):
        return "control"

    def generator(user):
        yield "control"

    async def async_generator(user):
        yield "control"

    return {"function": function, "coroutine": coroutine, "generator": generator, "async generator": async_generator}


def answer_of(model, user):
    import asyncio
    import inspect

    value = model(user)
    if inspect.isgenerator(value):
        return next(iter(list(value)))
    if inspect.isasyncgen(value):

        async def read():
            return [item async for item in value]

        return asyncio.run(read())[0]
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def candidate_like(control):
    """A candidate of the control's kind, which says that it is one."""
    namespace = {}
    kind = next(
        kind for kind, function in kinds_of_functions().items() if function.__code__.co_flags == control.__code__.co_flags
    )
    asynchronous_, ends = "async " * (kind in ("coroutine", "async generator")), "yield" if "generator" in kind else "return"
    exec(f"{asynchronous_}def candidate(user): {ends} 'candidate'", namespace)
    return namespace["candidate"]


@pytest.mark.parametrize("kind", kinds_of_functions())
def test_f78_a_coroutine_at_run_time_is_a_fault_and_the_control_serves(kind, watch, figure):
    calls, served_by = 250, Counter()
    for option, options in {
        "unit": {"unit": lambda user: asynchronous(), "strategy": ABTest(1.0)},
        "override": {"override": lambda user: asynchronous(), "strategy": ABTest(0.0)},
    }.items():
        runtime, control = watch(), kinds_of_functions()[kind]
        model = served(control, candidate_like(control), runtime, **options)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            answers = Counter(answer_of(model, unit) for unit in UNITS[:calls])
            gc.collect()
        served_by += answers
        assert answers == {"control": calls}
        assert model.rollout.status().faults == {(option, "TypeError"): calls}
        assert [] == [str(each.message) for each in warned]
    figure(
        "F78",
        "{right:,} of {calls:,} calls answered by the control, each a fault, no coroutine left unawaited, for "
        "{kind} kinds of functions",
        right=served_by["control"],
        calls=served_by.total(),
        kind=kind,
    )


def arms(names, shares, runtime, **options):
    """Every unit's arm in a process that decorates this rollout."""
    model = rollout(
        candidates={name: lambda user: None for name in names},
        strategy=ABTest(shares) if isinstance(shares, dict) else Canary(shares, guardrails=[]),
        unit="user",
        key="shop",
        runtime=runtime,
        **options,
    )(lambda user: None)
    return model, arms_of(model)


def arms_of(model):
    return [model.rollout.assign(unit).variant for unit in UNITS]


def between(before, after):
    """How many units went from one candidate to another."""
    return sum(left != joined and "control" not in (left, joined) for left, joined in zip(before, after, strict=True))


CHANGES = [
    ({"a": 0.2, "b": 0.2, "c": 0.2}, {"a": 0.19, "b": 0.21, "c": 0.2}),
    ({"a": 0.2, "b": 0.2, "c": 0.2}, {"a": 0.2, "b": 0.2, "c": 0.2, "d": 0.1}),
    ({"a": 0.2, "b": 0.2, "c": 0.2}, {"a": 0.2, "c": 0.2}),
    ({"v2": 0.05, "v3": 0.05, "v4": 0.05}, {"v2": 0.25, "v3": 0.25, "v4": 0.25}),
    ({"llm": 0.7, "rules": 0.1}, {"llm": 0.7, "rules": 0.3}),
]


def test_f79_users_stay_with_their_candidate_when_shares_change(watch, tmp_path, figure):
    moved, changes = Counter(), Counter()
    # Without a store: another process with other shares.
    for before, after in CHANGES:
        _, one = arms(before, before, watch(key=b"k" * 16))
        _, other = arms(after, after, watch(key=b"k" * 16))
        moved["stateless"] += between(one, other)
        changes["stateless"] += 1
        expected = {pair: pytest.approx(share, abs=0.015) for pair, share in moved_units(before, after).items()}
        went = Counter((left, joined) for left, joined in zip(one, other, strict=True) if left != joined)
        assert {pair: count / len(UNITS) for pair, count in went.items()} == expected
    # Steps of a canary that outgrow every room, and shares set by hand.
    names = ("a", "b", "c")
    steps = [dict(zip(names, step, strict=True)) for step in ((0.05, 0.05, 0.05), (0.05, 0.05, 0.4), (0.25, 0.3, 0.4))]
    store = f"sqlite:///{tmp_path}/rollouts.db"
    model, before = arms(names, steps, watch(key=b"k" * 16, store=store))
    for change in (
        lambda rollout: rollout.promote(),
        lambda rollout: rollout.promote(),
        lambda rollout: rollout.set_share(0.05, "c"),
        lambda rollout: rollout.set_share(0.6, "a"),
        lambda rollout: rollout.set_share(0.3, "a"),
        lambda rollout: rollout.set_share(0.3, "c"),
    ):
        change(model.rollout)
        before, after = arms_of(model), before
        moved["changed"] += between(before, after)
        changes["changed"] += 1
    # A process that comes later stands where the store says.
    _, later = arms(names, steps, watch(key=b"k" * 16, store=store))
    assert later == before
    # A new version, with another candidate, goes on from there.
    _, newer = arms((*names, "d"), {"a": 0.3, "b": 0.3, "c": 0.2, "d": 0.1}, watch(key=b"k" * 16, store=store), version="2")
    moved["version"] += between(before, newer)
    assert moved == {"stateless": 0, "changed": 0, "version": 0}
    figure("F79", "{moved} of {units:,} units changed candidate in {stateless} changes without a store, {changed} steps and "
           "shares, and a new version", moved=moved.total(), units=len(before), **changes)  # fmt: skip


def test_f79_three_that_have_outgrown_their_room_move_users_without_a_store_and_it_can_be_seen_before(watch, figure):
    before, after = {"a": 0.5, "b": 0.1, "c": 0.1}, {"a": 0.5, "b": 0.3, "c": 0.1}
    _, one = arms(before, before, watch(key=b"k" * 16))
    _, other = arms(after, after, watch(key=b"k" * 16))
    foreseen = sum(share for pair, share in moved_units(before, after).items() if "control" not in pair)
    assert between(one, other) / len(UNITS) == pytest.approx(foreseen, abs=0.01)
    assert foreseen == pytest.approx(0.05)


@pytest.mark.parametrize(("shares", "expected"), [({"v2": 0.5}, 0.5), ({"v2": 0.1}, 0.82), ({"v2": 0.25, "v3": 0.25}, 0.375)])
def test_f80_at_login_the_arm_stays_as_often_as_documented_and_always_with_a_remembered_unit(shares, expected, watch, figure):
    def control(user_id, device_id, remembered=None):
        return None

    options = {"candidates": dict.fromkeys(shares, control), "strategy": ABTest(shares)}
    first = rollout(unit=("user_id", "device_id"), key="login", runtime=watch(), **options)(control)
    kept = rollout(unit=("remembered", "user_id", "device_id"), key="kept", runtime=watch(), **options)(control)
    stays = Counter()
    for number in range(10_000):
        user, device = f"u-{number}", f"d-{number}"
        for name, model, remembered in (("first", first, None), ("kept", kept, device)):
            out = model.rollout.route(None, device).decision.variant
            logged_in = model.rollout.route(user, device, remembered).decision.variant
            stays[name] += out == logged_in
    assert stays["first"] / 10_000 == pytest.approx(expected, abs=0.02)
    assert stays["kept"] == 10_000
    if len(shares) == 1 and shares["v2"] == 0.5:
        figure(
            "F80",
            "{first:.0%} of the users keep an arm of {share:.0%} at login (the sum of the squared shares); {kept:.0%} "
            "if the application remembers their first unit",
            first=stays["first"] / 10_000,
            kept=stays["kept"] / 10_000,
            share=shares["v2"],
        )
