"""The rows of a batch are columns, and nothing shows it: not what is decided, counted, judged or journalled."""

from array import array
from collections import Counter
from contextlib import suppress
from datetime import date
from functools import partial
from unittest import mock

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Breaker, Canary, Decision, Guardrail, MissingUnitError, Runtime, Shadow, rollout
from rollout_sdk.engine.batches.decided_rows import DecidedRows
from rollout_sdk.engine.batches.rows import each_row
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.rollout import Nonces
from rollout_sdk.judging import Evidence
from rollout_sdk.tally import Tally

RUNTIME = Runtime()
ONE_BY_ONE = {"return_value": None}
UNITS = st.one_of(
    st.sampled_from(
        ["a", "b", "1", 1, True, 1.0, None, "", float("nan"), b"a", ("a", 1), date(2026, 1, 2), np.str_("b"), np.int64(1), []]
    ),
    st.text(max_size=3),
    st.integers(-3, 3),
)


def batched(strategy=ABTest(0.5), *, control=list, candidate=list, runtime=RUNTIME, **options):
    return rollout(
        candidate=lambda rows, users: candidate(rows), strategy=strategy, unit="users", batch="rows", effects="read",
        key="rows", runtime=runtime, **options,
    )(lambda rows, users: control(rows))  # fmt: skip


MODEL = batched()
RANDOM = batched(missing_unit="random", runtime=Runtime())


def decisions(model, users):
    return model.rollout.route(list(range(len(users))), users).decisions


@example([1, True, 1.0])
@example([True, 1])
@given(st.one_of(st.lists(UNITS, min_size=1), st.lists(st.text(), min_size=1), st.lists(st.integers(), min_size=1)))
def test_a_row_is_decided_as_a_call_with_its_unit(users):
    found = decisions(MODEL, users)
    for user, decision in zip(users, found, strict=True):
        expected = MODEL.rollout.assign(user)
        assert (expected.variant, expected.reason, expected.propensity) == (
            decision.variant,
            decision.reason,
            decision.propensity,
        )
        if decision.reason != "no_unit":
            assert expected.bucket == decision.bucket
    assert len(users) == len({decision.id for decision in found})


@pytest.mark.parametrize(
    "column",
    [
        np.array(["u-1", "u-2", "u-1"]), np.array([3, 4, 3]), np.array([3.0, 4.5], dtype="float32"), np.array([True, False]),
        np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[ns]"), pd.Series(["u-1", "u-2", "u-1"], index=[7, 8, 9]),
        pd.Series([3, None, 3], dtype="Int64"), pd.Series(["a", "b", "a"], dtype="category"), pl.Series(["u-1", "u-2", "u-1"]),
        pl.Series([3, None, 3]), pa.array(["u-1", "u-2", None]), pa.chunked_array([[3], [4, 3]]), ("u-1", "u-2", "u-1"),
    ],
    ids=lambda column: f"{type(column).__module__.partition('.')[0]} {getattr(column, 'dtype', getattr(column, 'type', ''))}",
)  # fmt: skip
def test_units_in_columns_of_any_library_are_those_that_they_are_one_by_one(column):
    expected = [MODEL.rollout.assign(unit) for unit in each_row(column)]
    found = decisions(MODEL, column)
    assert [(each.variant, each.reason) for each in expected] == [(each.variant, each.reason) for each in found]
    buckets = [{one.bucket, other.bucket} for one, other in zip(expected, found, strict=True) if one.reason != "no_unit"]
    assert {1} >= set(map(len, buckets))


def test_rows_without_a_unit_are_units_of_their_own():
    found = decisions(RANDOM, [None] * 400)
    assert {"split"} == {decision.reason for decision in found}
    assert 100 < len({decision.bucket for decision in found})
    assert 120 < Counter(decision.variant for decision in found)["candidate"] < 280


def test_a_missing_unit_is_refused_if_it_must_be_there():
    model = batched(missing_unit="raise", runtime=Runtime())
    with pytest.raises(MissingUnitError):
        model([1, 2], ["u-1", None])


# Scenes -----------------------------------------------------------------------------------------------------------------


def fails(rows):
    raise ValueError


def some(rows):
    return [None if row % 3 == 0 else row for row in rows]


ANSWERS = {
    "all": list,
    "fails": fails,
    "some": some,
    "none": lambda rows: [None] * len(rows),
    "too few": lambda rows: rows[:-1],
}
STRATEGIES = [ABTest(0.5), ABTest(1.0), Canary(["30%"]), Shadow(0.5), ABTest(0.5, shadow=0.5)]


def scene(strategy, control, candidate, users, options, *, one_by_one=False):
    """What a batch gives, and its fact."""
    facts, outcome = [], None
    runtime = Runtime()
    model = batched(
        strategy, control=ANSWERS[control], candidate=ANSWERS[candidate], runtime=runtime, failed_if=lambda row: row is None,
        breaker=Breaker(min_runs=2), **options,
    )  # fmt: skip
    engine = model.rollout._rollout
    conclude = engine.conclude
    engine.conclude = lambda fact: (facts.append(fact), conclude(fact))
    columns = mock.patch("rollout_sdk.engine.serving.decide_by_columns", **ONE_BY_ONE) if one_by_one else suppress()
    with columns:
        for _ in range(3):
            try:
                outcome = model(list(range(len(users))), users)
            except ValueError as error:
                outcome = type(error)
    assert runtime.flush(10.0)
    status = model.rollout.status()
    calls = dict(status.calls)
    runtime.close()
    return outcome, facts, calls


SCENES = st.tuples(
    st.sampled_from(STRATEGIES),
    st.sampled_from(sorted(ANSWERS)),
    st.sampled_from(sorted(ANSWERS)),
    st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=2, max_size=12),
    st.sampled_from([{}, {"on_error": "raise"}]),
)


def known_of(call):
    runs = [(variant, error) for variant, _, error, _ in call.runs]
    return (
        call.decision.variant, call.decision.reason, call.served, runs, call.withheld, call.error, call.unit, call.is_excluded,
        call.no_evidence, call.answered, call.closed_early, len(call.measured),
    )  # fmt: skip


@settings(max_examples=40)
@given(SCENES)
def test_columns_and_rows_one_by_one_end_alike(found):
    *about, options = found
    if about[0].__class__ is Shadow or getattr(about[0], "shadow", 0):
        # Which rows are shadowed is drawn.
        about[0] = ABTest(0.5)
    ours, facts, calls = scene(*about, options)
    theirs, others, expected = scene(*about, options, one_by_one=True)
    assert theirs == ours
    assert [list(map(known_of, rows(fact))) for fact in others] == [list(map(known_of, rows(fact))) for fact in facts]
    assert expected == calls


def rows(fact):
    return [fact] if isinstance(fact, Call) else fact


CRITERIA = [[], [Guardrail("error_rate")], [Guardrail("latency", threshold_s=0.5)]]


@settings(max_examples=40)
@given(SCENES, st.sampled_from(CRITERIA))
def test_rows_are_counted_judged_and_journalled_together_as_one_by_one(found, criteria):
    *about, options = found
    for fact in scene(*about, options)[1]:
        if not isinstance(fact, DecidedRows):
            continue
        together, apart = Evidence(criteria), Evidence(criteria)
        counts, expected_counts = Tally(), Tally()
        fact.add_to_evidence(together)
        fact.count_in(counts)
        for call in fact:
            call.add_to_evidence(apart)
            call.count_in(expected_counts)
        assert expected_counts == counts
        evidence, expected = ({name: phase.as_dict() for name, phase in each.phases.items()} for each in (apart, together))
        assert expected == evidence
        event = fact.as_event()
        written = [
            evolve(event.like[kind], decision=evolve(event.like[kind].decision, id=id_, bucket=bucket), unit=unit)
            for kind, id_, bucket, unit in zip(event.kind, event.ids, event.buckets, event.units, strict=True)
        ]
        assert [call.as_event() for call in fact] == written
        assert [call.decision_id for call in fact.part(1, 2)] == [fact[1].decision_id]


# Columns ----------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=20),
    st.lists(st.tuples(st.one_of(st.sets(st.integers(0, 19)), st.sampled_from(["even", "odd"])), st.integers()), max_size=6),
    st.sampled_from([bytearray, partial(array, "I")]),
)
def test_what_is_changed_for_some_rows_is_changed_for_no_others(kind, changes, make):
    kinds = [Call.__new__(Call) for _ in range(4)]
    for number, each in enumerate(kinds):
        each.runs, each.decision = (number,), Decision("odd" if number % 2 else "even", "split")
    found = DecidedRows(kinds, make(kind), array("Q", range(len(kind))), range(len(kind)))
    groups = found.of_variants("even")
    assert list(range(len(kind))) == sorted(place for places in groups.values() for place in places)
    expected = [(number,) for number in kind]
    for places, run in changes:
        # As one list, those of a variant are known to be whole kinds.
        known = groups.get(places, []) if isinstance(places, str) else None
        indices = sorted(place for place in places if place < len(kind)) if known is None else known
        for each in found.apart(indices):
            each.runs = (*each.runs, run)
        for index in indices:
            expected[index] = (*expected[index], run)
    assert expected == [row.runs for row in found]
    assert expected[::2] == [row.runs for row in found[::2]]
    assert len(kind) == sum(size for _, size in found.sizes())


def test_a_run_for_many_rows_is_timed_once():
    fact = scene(ABTest(0.5), "all", "all", list("abcdefgh"), {})[1][0]
    assert {"control": 1, "candidate": 1} == Counter(run[0] for row in fact.timed() for run in row.measured)
    timed = [row for row in fact if row.measured]
    assert [timed[1].decision_id] == [row.decision_id for row in fact[timed[1].index :].timed()]


def test_a_large_batch_is_one_fact_with_an_object_for_each_kind_of_row(runtime):
    facts = []
    model = batched(runtime=runtime)
    model.rollout._rollout.conclude = facts.append
    model(list(range(50_000)), [f"u-{number % 100}" for number in range(50_000)])
    (fact,) = facts
    assert (50_000, 2, 100) == (fact.weight, len(fact.kinds), len({row.digest for row in fact}))


@pytest.mark.parametrize("distinct", [3, 300, 700])
def test_units_that_come_again_are_found_whether_most_rows_differ_or_not(distinct, runtime):
    users = [f"u-{number % distinct}" for number in range(700)]
    model = batched(runtime=runtime)
    found = model.rollout.route(users, users)
    assert users == found.value
    assert [model.rollout.assign(user).variant for user in users] == [decision.variant for decision in found.decisions]
    assert len(users) == len({decision.id for decision in found.decisions})


def test_rows_of_more_kinds_than_a_byte_counts_stay_apart():
    kind = Call.__new__(Call)
    kind.runs, kind.decision = (), Decision("control", "split")
    rows = DecidedRows([kind], bytearray(400), array("Q", range(400)), range(400))
    for index in range(300):
        for each in rows.apart([index]):
            each.runs = (index,)
    assert [(index,) if index < 300 else () for index in range(400)] == [row.runs for row in rows]
    assert [(299,), ()] == [row.runs for row in rows.at([299, 300])]
    assert list(range(400)) == list(rows.of_variants("control")["control"])


def test_numbers_are_taken_once_also_where_another_thread_takes_some_in_between():
    nonces, others = Nonces(), []

    class Shared:
        def __init__(self):
            self.numbers = iter(range(100))

        def __iter__(self):
            return self

        def __next__(self):
            number = next(self.numbers)
            if number == 3:
                others.append(next(self.numbers))
            return number

    nonces.sequence = Shared()
    taken = list(nonces.take(6))
    assert (6, 6) == (len(taken), len(set(taken)))
    assert not {*taken} & {*others}
    assert range(50) == Nonces().take(50)
    assert [0] == list(Nonces().take(1))
