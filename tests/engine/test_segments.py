"""The segments of a call are those declared values that its arguments have, "other", or nothing and a fault."""

import asyncio
from types import SimpleNamespace

import pytest

from rollout_sdk import ABTest, ConfigurationError, Runtime, rollout
from rollout_sdk.journal import read_journal
from rollout_sdk.plan import Criteria, Gate, from_written, written
from tests.faults.kinds import KINDS, of_kind, read

COUNTRIES = {"country": ["NL", "DE"]}


def made(runtime, segments, control=lambda user, country=None: "old", **options):
    options = {"unit": "user", "key": "model", **options}
    return rollout(candidate=control, strategy=ABTest(0.5, segments=segments), runtime=runtime, **options)(control)


def segments(runtime):
    return [dict(event.segments) for event in runtime.routed()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("NL", "NL"), ("DE", "DE"), ("FR", "other"), (None, "other"), ("nl", "other"), (["NL"], "other")],
    ids=repr,
)
def test_a_value_is_its_segment_if_it_was_declared_and_else_other(value, expected, runtime):
    made(runtime, COUNTRIES)("u-1", value)
    assert [{"country": expected}] == segments(runtime)


def test_paths_numbers_and_booleans_are_told_apart_by_their_text(runtime):
    def control(user, age):
        return age

    made(runtime, {"user.is_member": [True, False], "age": [1, 2]}, control, unit=None)(SimpleNamespace(is_member=False), 2)
    assert [{"user.is_member": "False", "age": "2"}] == segments(runtime)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_function_may_be_split(kind, runtime):
    loop = asyncio.new_event_loop()
    model = of_kind(kind, lambda *arguments: [arguments])
    # A function with *arguments has no parameters to name, but for those that are passed by name.
    with pytest.raises(ConfigurationError, match="segments='arguments' of 'model' names"):
        rollout(candidate=model, strategy=ABTest(segments={"arguments": ["NL"]}), key="model", runtime=runtime)(model)
    (named,) = [control_of(kind)]
    decorated = made(runtime, COUNTRIES, named)
    read(kind, lambda: decorated("u", "NL"), loop)
    loop.close()
    assert [{"country": "NL"}] == segments(runtime)


def control_of(kind):
    def function(user, country):
        return country

    async def coroutine(user, country):
        return country

    def generator(user, country):
        yield country

    async def async_generator(user, country):
        yield country

    return dict(zip(KINDS, [function, coroutine, generator, async_generator], strict=True))[kind]


def test_an_attribute_that_cannot_be_read_is_a_fault_and_the_others_are_read(runtime):
    class Hidden:
        @property
        def country(self):
            raise PermissionError

    def control(user, country):
        return country

    model = made(runtime, {"user.country": ["NL"], "country": ["DE"]}, control, unit=None)
    model(Hidden(), "DE")
    assert [{"country": "DE"}] == segments(runtime)
    assert {("segments", "PermissionError"): 1} == model.rollout.status().faults


def test_without_segments_there_are_none(runtime):
    made(runtime, None)("u", "NL")
    assert [{}] == segments(runtime)


def rows_of(rows, users, country):
    assert len(rows) == len(users)
    return list(rows)


def test_each_row_of_a_batch_has_its_own_and_each_variant_those_of_its_rows(tmp_path):
    got = []

    def control(rows, users, country):
        got.append(list(country))
        assert all(name == ("NL" if row % 2 else "FR") for row, name in zip(rows, country, strict=True))
        return list(rows)

    runtime = Runtime(journal=tmp_path)
    model = made(runtime, COUNTRIES, control, unit="users", batch="rows")
    model(list(range(40)), [f"u{n}" for n in range(40)], ["NL" if n % 2 else "FR" for n in range(40)])
    runtime.close(10)
    assert (2, 40) == (len(got), sum(map(len, got)))
    lines = [line for line in read_journal(tmp_path) if line["event"] == "decision"]
    assert (40, 20) == (len(lines), sum(line["segments"] == {"country": "NL"} for line in lines))
    assert 20 == sum(line["segments"] == {"country": "other"} for line in lines)


def test_one_value_is_that_of_all_rows_and_too_few_are_none_and_a_fault(runtime):
    model = made(runtime, COUNTRIES, rows_of, unit="users", batch="rows")
    model([1, 2], ["a", "b"], "NL")
    model([1, 2], ["a", "b"], ["NL"])
    assert [{"country": "NL"}] * 2 + [{}] * 2 == segments(runtime)
    assert {("segments", "ValueError"): 1} == model.rollout.status().faults


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (["NL"], "does not list up to 4 attributes"),
        ({name: ["x"] for name in "abcde"}, "does not list up to 4 attributes"),
        ({"country": "NL"}, "lists 1 to 20 different texts"),
        ({"country": []}, "lists 1 to 20 different texts"),
        ({"country": range(21)}, "lists 1 to 20 different texts"),
        ({"country": ["NL", "NL"]}, "lists 1 to 20 different texts"),
        ({"country": [1.5]}, "lists 1 to 20 different texts"),
        ({"country": ["other"]}, "lists 1 to 20 different texts"),
        ({"country": ["a\nb"]}, "lists 1 to 20 different texts"),
        ({"country": ["x" * 61]}, "lists 1 to 20 different texts"),
        ({"user..country": ["NL"]}, "neither a parameter nor a path"),
        ({"a=b": ["NL"]}, "neither a parameter nor a path"),
        ({3: ["NL"]}, "neither a parameter nor a path"),
    ],
)
def test_what_is_no_small_set_of_values_is_refused(segments, message):
    with pytest.raises(ConfigurationError, match=message):
        ABTest(0.5, segments=segments)


def test_an_attribute_that_no_call_has_is_refused(runtime):
    with pytest.raises(ConfigurationError, match="segments='region' names no parameter of 'model'"):
        made(runtime, {"region": ["NL"]})


def test_segments_are_in_the_written_plan_and_change_no_fingerprint(runtime):
    criteria = Criteria.of_test(gates=[Gate("click")], segments={"country": ["NL"], "age": [1]})
    table = written(criteria)
    assert {"country": ["NL"], "age": ["1"]} == table["segments"]
    assert criteria == from_written(table)
    bare = from_written(written(Criteria.of_test(segments=COUNTRIES)))
    assert ((), {"country": ("NL", "DE")}) == (bare.all, bare.segments)
    assert {"shares", "gates", "guardrails", "horizon", "alpha", "segments"} == set(ABTest.not_fingerprinted)
