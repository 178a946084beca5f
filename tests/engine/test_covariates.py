"""The covariate of a call is a finite number that was known before any variant ran, or None and a fault."""

import asyncio
import math
from types import SimpleNamespace

import numpy
import pytest

from rollout_sdk import ABTest, ConfigurationError, rollout
from tests.faults.kinds import KINDS, of_kind, read


def made(runtime, covariate, control=lambda user, spent=0.0: "old", **options):
    options = {"strategy": ABTest(0.5), "unit": "user", "key": "model", **options}
    return rollout(candidate=control, covariate=covariate, runtime=runtime, **options)(control)


def covariates(runtime):
    return [event.covariate for event in runtime.routed()]


def spent_of(user, spent=0.0):
    return {"u-1": 12}.get(user, spent)


@pytest.mark.parametrize(
    ("covariate", "expected"), [("spent", 2.5), ("user.account.age", 3.0), (lambda user, spent=0.0: spent * 2, 5.0)]
)
def test_it_is_a_parameter_a_path_into_one_or_what_a_callable_gives(covariate, expected, runtime):
    user = SimpleNamespace(account={"age": 3})
    made(runtime, covariate, unit=None)(user, spent=2.5)
    made(runtime, covariate, unit=None).rollout.route(user, 2.5)
    assert [expected, expected] == covariates(runtime)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_function_may_have_one(kind, runtime):
    loop = asyncio.new_event_loop()
    model = of_kind(kind, lambda *arguments: [arguments])
    decorated = rollout(
        candidate=model, strategy=ABTest(1.0), covariate=lambda *arguments: arguments[1], key="model", runtime=runtime
    )(model)
    read(kind, lambda: decorated("u", 4), loop)
    loop.close()
    assert [4.0] == covariates(runtime)


def test_it_is_read_before_a_variant_can_change_what_it_is_read_from(runtime):
    def spends(user, spent=0.0):
        user["spent"] += 100

    made(runtime, "user.spent", control=spends, unit=None, strategy=ABTest(0.0))({"spent": 1})
    assert [1.0] == covariates(runtime)


@pytest.mark.parametrize(
    ("value", "fault"),
    [(None, "TypeError"), ("12", "TypeError"), (math.nan, "ValueError"), (math.inf, "ValueError"), (10**400, "OverflowError")],
    ids=repr,
)
def test_what_is_not_a_finite_number_is_unknown_and_a_fault_and_the_call_is_analysed(value, fault, runtime):
    model = made(runtime, "spent")
    assert ["old"] * 3 == [model(user, value) for user in "abc"]
    assert [(None, False)] * 3 == [(event.covariate, event.excluded) for event in runtime.routed()]
    assert {("covariate", fault): 3} == model.rollout.status().faults


def test_a_callable_that_raises_or_exits_is_a_fault(runtime):
    def exits(user, spent=0.0):
        raise SystemExit

    model = made(runtime, exits)
    assert "old" == model("u")
    assert ([None], {("covariate", "SystemExit"): 1}) == (covariates(runtime), model.rollout.status().faults)


def test_without_one_there_is_none(runtime):
    made(runtime, None)("u")
    assert [None] == covariates(runtime)


async def looks_it_up(user, spent=0.0):
    return spent


@pytest.mark.parametrize(
    ("covariate", "message"),
    [
        ("income", "covariate='income' names no parameter of 'model'"),
        ("user..age", "covariate='user..age' of 'model' has an empty part"),
        (7, "covariate=7 of 'model' is neither a name nor a callable"),
        (lambda user: 1, "covariate= of 'model' cannot be called as the control is"),
        (looks_it_up, "covariate= of 'model' is a coroutine function. It must return its result directly"),
    ],
)
def test_what_cannot_be_read_in_every_call_is_refused(covariate, message, runtime):
    with pytest.raises(ConfigurationError, match=message):
        made(runtime, covariate)


def rows_of(rows, users, spent):
    assert len(rows) == len(users)
    return list(rows)


@pytest.mark.parametrize("kind", [list, tuple, numpy.array], ids=["list", "tuple", "array"])
def test_each_row_of_a_batch_has_its_own(kind, runtime):
    model = made(runtime, "spent", control=rows_of, unit="users", batch="rows")
    assert [1, 2, 3] == model([1, 2, 3], ["a", "b", "c"], kind([0.5, 1.5, 2.5]))
    assert [0.5, 1.5, 2.5] == covariates(runtime)


def test_a_variant_gets_the_covariates_of_its_own_rows(runtime):
    got = []

    def control(rows, spent):
        got.append((rows, spent))
        return rows

    rollout(candidate=control, strategy=ABTest(0.5), batch="rows", covariate="spent", runtime=runtime)(control)(
        list(range(50)), [row / 2 for row in range(50)]
    )
    assert 2 == len(got)
    assert all(spent == [row / 2 for row in rows] for rows, spent in got)


def test_one_number_is_the_covariate_of_all_rows(runtime):
    made(runtime, "spent", control=rows_of, unit="users", batch="rows")([1, 2], ["a", "b"], 7)
    assert [7.0, 7.0] == covariates(runtime)


def test_a_row_without_a_number_leaves_the_others_theirs(runtime):
    model = made(runtime, "spent", control=rows_of, unit="users", batch="rows")
    model([1, 2, 3], ["a", "b", "c"], [0.5, None, 2.5])
    assert [0.5, None, 2.5] == covariates(runtime)
    assert {("covariate", "TypeError"): 1} == model.rollout.status().faults


def test_too_few_covariates_for_the_rows_are_none_and_a_fault(runtime):
    model = made(runtime, lambda rows, users, spent: [1.0], control=rows_of, unit="users", batch="rows")
    model([1, 2], ["a", "b"], 7)
    assert [None, None] == covariates(runtime)
    assert {("covariate", "ValueError"): 1} == model.rollout.status().faults
