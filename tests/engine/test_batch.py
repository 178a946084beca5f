"""A batch is decided by row, each variant is called once, and results come back in the input's order."""

import asyncio
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Canary, Runtime, Shadow, rollout

RUNTIME = Runtime()


def batched(control, candidate, runtime, *, strategy=ABTest(0.5), batch="rows", **options):
    return rollout(candidate=candidate, strategy=strategy, batch=batch, key="batch", runtime=runtime, **options)(control)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=3), max_size=30))
def test_a_batch_gives_what_its_rows_would_give_one_by_one(users):
    def old(rows):
        return [f"old {row}" for row in rows]

    def new(rows):
        return [f"new {row}" for row in rows]

    model = rollout(candidate=new, strategy=ABTest(0.5), batch="rows", unit="rows", key="rows", runtime=RUNTIME)(old)
    assert [model([user])[0] for user in users] == model(users)


def test_each_variant_is_called_once_with_its_own_rows(runtime):
    calls = []

    def old(rows, users):
        calls.append(("old", list(rows), list(users)))
        return [row * 10 for row in rows]

    def new(rows, users):
        calls.append(("new", list(rows), list(users)))
        return [row * 100 for row in rows]

    model = batched(old, new, runtime, unit="users")
    users = [f"u{n}" for n in range(20)]
    routed = model.rollout.route(list(range(20)), users=users)
    new_rows = [n for n, decision in enumerate(routed.decisions) if decision.variant == "candidate"]
    old_rows = [n for n in range(20) if n not in new_rows]
    expected = [("old", old_rows, [users[n] for n in old_rows]), ("new", new_rows, [users[n] for n in new_rows])]
    assert expected == calls
    assert [n * (100 if n in new_rows else 10) for n in range(20)] == routed.value
    assert Counter(event.decision.variant for event in runtime.routed()) == Counter(d.variant for d in routed.decisions)
    assert len({event.decision.id for event in runtime.routed()}) == 20


def test_a_single_unit_keeps_the_batch_whole(runtime):
    got = []
    model = batched(
        lambda rows, user: got.append(rows) or rows, lambda rows, user: got.append(rows) or rows, runtime, unit="user"
    )
    rows = [1, 2, 3]
    assert rows == model(rows, "u-1")
    assert got[0] is rows


@pytest.mark.parametrize("make", [tuple, np.array, lambda rows: np.array(rows).reshape(-1, 1)])
def test_rows_and_results_keep_their_type(make, runtime):
    model = batched(lambda rows: rows, lambda rows: rows, runtime)
    rows = make(list(range(50)))
    result = model(rows)
    assert type(rows) is type(result)
    assert np.array_equal(rows, result)


def test_a_mixture_of_types_gives_a_list(runtime):
    model = batched(lambda rows: np.array(rows), lambda rows: list(rows), runtime)
    assert list(range(50)) == [int(value) for value in model(list(range(50)))]


def test_a_failed_candidate_is_answered_by_the_control_for_its_rows_only(runtime):
    seen = []

    def old(rows):
        seen.append(len(rows))
        return list(rows)

    def new(rows):
        raise ValueError

    model = batched(old, new, runtime)
    assert list(range(40)) == model(list(range(40)))
    assert 40 == sum(seen)
    events = runtime.routed()
    failed = [event for event in events if event.decision.variant == "candidate"]
    assert {("control", "ValueError")} == {(event.served, event.runs[0].error) for event in failed}
    assert {None} == {event.error for event in events}


def test_a_candidate_with_the_wrong_number_of_results_has_failed(runtime):
    model = batched(lambda rows: list(rows), lambda rows: [0], runtime, strategy=ABTest(0.9))
    assert list(range(40)) == model(list(range(40)))
    assert "ValueError" in {run.error for event in runtime.routed() for run in event.runs}


def test_a_control_that_answers_no_rows_answers_the_whole_batch(runtime):
    model = batched(lambda rows: sum(rows), lambda rows: list(rows), runtime)
    assert sum(range(40)) == model(list(range(40)))


def test_a_failed_control_fails_the_batch(runtime):
    def old(rows):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        batched(old, lambda rows: list(rows), runtime)(list(range(40)))
    assert {"ValueError"} == {event.error for event in runtime.routed()}


@pytest.mark.parametrize("empty", [[], (), np.array([])])
def test_an_empty_batch_is_the_controls(empty, runtime):
    model = batched(lambda rows: ("control", len(rows)), lambda rows: ("candidate", len(rows)), runtime)
    assert ("control", 0) == model(empty)


def test_rows_without_a_length_are_the_controls(runtime):
    model = batched(lambda rows: list(rows), lambda rows: [], runtime, strategy=ABTest(1.0))
    assert [1, 2] == model(iter([1, 2]))


def test_a_list_of_units_of_another_length_is_counted_and_gives_the_control(runtime):
    model = batched(lambda rows, users: "control", lambda rows, users: "candidate", runtime, unit="users", strategy=ABTest(1.0))
    assert "control" == model([1, 2, 3], ["u"])
    assert {("unit", "ValueError"): 1} == runtime.faults


def test_coroutines_are_batched_too(runtime):
    async def old(rows):
        return [("old", row) for row in rows]

    async def new(rows):
        await asyncio.sleep(0)
        return [("new", row) for row in rows]

    got = asyncio.run(batched(old, new, runtime)(list(range(40))))
    assert list(range(40)) == [row for _, row in got]
    assert {"old", "new"} == {name for name, _ in got}


def test_shadows_run_on_the_rows_that_they_shadow_and_are_compared_by_row(runtime):
    ran = []

    def new(rows):
        ran.append(list(rows))
        return [row % 10 for row in rows]

    model = batched(lambda rows: list(rows), new, runtime, strategy=Shadow(0.5))
    rows = list(range(40))
    assert rows == model(rows)
    shadowed = [event.decision.id for event in runtime.routed() if event.decision.shadows]
    events = runtime.shadowed()
    assert sorted(shadowed) == sorted(event.decision.id for event in events)
    assert len(events) == len(ran[0]) == sum(len(run) for run in ran)
    assert sum(row < 10 for row in ran[0]) == sum(event.comparison.match for event in events)


def test_rows_outside_the_canary_can_be_shadowed(runtime):
    model = batched(lambda rows: list(rows), lambda rows: list(rows), runtime, strategy=Canary(["30%"], shadow=1.0))
    assert list(range(40)) == model(list(range(40)))
    by_control = [event for event in runtime.routed() if event.decision.variant == "control"]
    assert len(by_control) == len(runtime.shadowed())


def test_one_decision_of_many_cannot_be_asked_for(runtime):
    routed = batched(lambda rows: list(rows), lambda rows: list(rows), runtime).rollout.route([1, 2])
    with pytest.raises(ValueError, match="too many"):
        _ = routed.decision
