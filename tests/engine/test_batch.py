"""A batch is decided by row, each variant is called once, and results come back in the input's order."""

import asyncio
import threading
from collections import Counter
from contextvars import ContextVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Canary, Decision, Runtime, Shadow, rollout

RUNTIME = Runtime()


def batched(control, candidate, runtime, *, strategy=ABTest(0.5), batch="rows", key="batch", **options):
    return rollout(candidate=candidate, strategy=strategy, effects="read", batch=batch, key=key, runtime=runtime, **options)(
        control
    )


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
    user = next(user for user in map(str, range(100)) if model.rollout.assign(user).variant == "control")
    assert rows == model(rows, user)
    assert got[0] is rows


@pytest.mark.parametrize("make", [tuple, np.array, lambda rows: np.array(rows).reshape(-1, 1)])
def test_rows_and_results_keep_their_type(make, runtime):
    model = batched(lambda rows: rows, lambda rows: rows, runtime)
    rows = make(list(range(50)))
    result = model(rows)
    assert type(rows) is type(result)
    assert np.array_equal(rows, result)


@pytest.mark.parametrize("make", [list, tuple])
def test_results_of_any_type_stand_among_those_of_a_control_that_gives_a_list(make, runtime):
    model = batched(lambda rows: make(rows), lambda rows: np.array(rows), runtime)
    answer = model(list(range(50)))
    assert (make, make(range(50))) == (type(answer), answer)


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
    assert "BatchError" in {run.error for event in runtime.routed() for run in event.runs}


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


def test_answers_that_are_no_rows_are_never_taken_for_rows(runtime):
    """A mapping can have as many keys as there are rows."""
    model = batched(
        lambda rows: dict.fromkeys(rows, "control"), lambda rows: dict.fromkeys(rows, "candidate"), runtime, unit="rows"
    )
    rows = [f"u{n}" for n in range(20)]
    assert dict.fromkeys(rows, "control") == model(rows)
    events = runtime.routed()
    assert {"control"} == {event.served for event in events}
    assert {"BatchError"} == {event.runs[0].error for event in events if event.decision.variant == "candidate"}


def test_rows_that_the_control_answered_after_all_are_recorded_as_its_own(runtime):
    model = batched(lambda rows: sum(rows), lambda rows: list(rows), runtime)
    model(list(range(40)))
    events = runtime.routed()
    assert {"control"} == {event.served for event in events}
    assert {2} == {len(event.runs) for event in events if event.decision.variant == "candidate"}


def test_arrays_that_do_not_fit_together_are_the_controls(runtime):
    model = batched(lambda rows: np.zeros((len(rows), 2)), lambda rows: np.ones((len(rows), 3)), runtime)
    assert np.zeros((40, 2)).tolist() == model(list(range(40))).tolist()
    assert {("engine.batch", "ValueError"): 1} == runtime.faults


def test_arrays_of_an_unknown_library_are_the_controls(runtime):
    class Tensor:
        shape = (1,)

        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            return self.rows[index]

    model = batched(Tensor, Tensor, runtime)
    answer = model(list(range(40)))
    assert (Tensor, list(range(40))) == (type(answer), answer.rows)
    assert {("engine.batch", "BatchError"): 1} == runtime.faults


def test_a_scalar_array_is_no_row(runtime):
    model = batched(lambda rows: np.float64(len(rows)), lambda rows: np.array(len(rows)), runtime)
    assert 40.0 == model(list(range(40)))


@pytest.mark.parametrize("options", [{}, {"passthrough": (Exception,)}])
def test_a_wrong_number_of_results_is_never_an_answer(options, runtime):
    model = batched(lambda rows: list(rows), lambda rows: [], runtime, **options)
    assert list(range(40)) == model(list(range(40)))


def test_a_wrong_number_of_results_is_told_where_nothing_may_run_twice(runtime):
    model = batched(lambda rows: list(rows), lambda rows: {}, runtime, strategy=ABTest(1.0), on_error="raise")
    with pytest.raises(ValueError, match=r"'candidate' of 'batch' gave no rows for 3 rows\. With batch="):
        model([1, 2, 3])


def test_a_candidate_that_fails_in_a_batch_fails_it_where_nothing_may_run_twice(runtime):
    def new(rows):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        batched(lambda rows: list(rows), new, runtime, on_error="raise")(list(range(40)))
    served = Counter((event.decision.variant, event.served, event.error) for event in runtime.routed())
    assert {("control", "control", "KeyError"), ("candidate", "candidate", "KeyError")} == set(served)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_a_batch_reaches_the_caller_and_every_row_is_recorded(error, runtime):
    def new(rows):
        raise error

    candidates = {"v2": new, "v3": lambda rows: list(rows)}
    strategy = ABTest({"v2": 0.4, "v3": 0.4})
    model = rollout(candidates=candidates, strategy=strategy, effects="read", batch="rows", key="batch", runtime=runtime)(
        lambda rows: list(rows)
    )
    with pytest.raises(error):
        model(list(range(60)))
    events = runtime.routed()
    assert {(True, None)} == {(event.closed_early, event.error) for event in events}
    # Nobody fell back: the rows whose turn never came have their own variant, and no run.
    assert {True} == {event.served == event.decision.variant for event in events}
    assert 60 == len(events)


def test_a_cancelled_batch_is_cancelled(runtime):
    ended = []

    async def slow(rows):
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(len(rows))

    async def serve():
        task = asyncio.create_task(batched(slow, slow, runtime)(list(range(40))))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(serve())
    assert 40 == sum(ended)
    assert {True} == {event.closed_early for event in runtime.routed()}


def test_shadows_of_rows_that_a_candidate_answered_are_compared_with_nothing(runtime):
    class ServeAndShadow:
        name = "serve-and-shadow"

        def rollout_route(self, request):
            return Decision("v2", shadows=("v3",))

    same = {"v2": lambda rows: list(rows), "v3": lambda rows: list(rows)}
    model = rollout(candidates=same, strategy=ServeAndShadow(), effects="read", batch="rows", key="rows", runtime=runtime)(
        lambda rows: rows
    )
    model([1, 2])
    assert [("ok", None)] * 2 == [(event.end, event.comparison) for event in runtime.shadowed()]


def test_shadows_by_row_share_the_fate_of_their_run(runtime):
    def new(rows):
        if rows[0] == 0:
            raise ValueError
        return [0]

    model = batched(lambda rows: list(rows), new, runtime, strategy=Shadow(1.0))
    model([0, 1])
    model([1, 2])
    found = Counter((event.end, event.error, event.comparison) for event in runtime.shadowed())
    assert {("error", "ValueError", None): 2, ("ok", None, None): 2} == dict(found)


def test_shadows_by_row_of_a_control_that_fails_are_mismatches(runtime):
    def old(rows):
        raise ValueError

    with pytest.raises(ValueError):
        batched(old, lambda rows: list(rows), runtime, strategy=Shadow(1.0))([1, 2])
    assert [(False, "control_error")] * 2 == [(event.comparison.match, event.comparison.reason) for event in runtime.shadowed()]


def test_rows_that_cannot_be_copied_are_not_shadowed(runtime):
    model = batched(lambda rows: list(rows), lambda rows: list(rows), runtime, strategy=Shadow(1.0))
    model([threading.Lock(), threading.Lock()])
    assert ["dropped_snapshot"] * 2 == [event.end for event in runtime.shadowed()]


def test_a_batch_of_one_variant_runs_in_its_callers_context(runtime):
    tenant = ContextVar("tenant", default="none")

    async def model(rows):
        tenant.set("model")
        return list(rows)

    async def serve():
        await batched(model, model, runtime, strategy=ABTest(1.0))([1, 2])
        return tenant.get()

    assert "model" == asyncio.run(serve())


def test_rows_of_any_other_sequence_are_given_as_a_list(runtime):
    kinds = set()
    model = batched(lambda rows: kinds.add(type(rows)) or list(rows), lambda rows: kinds.add(type(rows)) or list(rows), runtime)
    assert list(range(40)) == model(range(40))
    assert {list} == kinds


def test_results_of_any_other_sequence_are_the_controls_for_all_rows(runtime):
    model = batched(lambda rows: range(len(rows)), lambda rows: range(len(rows)), runtime, unit="rows")
    assert range(20) == model([f"u{n}" for n in range(20)])


def test_a_tuple_of_units_gives_each_row_its_own(runtime):
    model = batched(lambda rows, users: list(rows), lambda rows, users: list(rows), runtime, unit="users")
    users = tuple(f"u{n}" for n in range(40))
    routed = model.rollout.route(list(range(40)), users)
    assert [model.rollout.assign(user).variant for user in users] == [decision.variant for decision in routed.decisions]


def test_a_strategy_sees_the_row_in_the_place_of_the_rows(runtime):
    class EvenOnes:
        name = "even"

        def rollout_route(self, request):
            even = request.arguments["rows"] % 2 == 0 and request.arguments["flag"] == "on"
            return Decision("candidate" if even else request.control)

    old, new = lambda rows, flag: [("old", row) for row in rows], lambda rows, flag: [("new", row) for row in rows]
    model = batched(old, new, runtime, strategy=EvenOnes())
    assert [("new" if row % 2 == 0 else "old", row) for row in range(6)] == model(np.arange(6), flag="on")


def test_all_rows_of_a_batch_have_one_time_and_one_phase(runtime):
    events = []
    model = batched(lambda rows: list(rows), lambda rows: list(rows), runtime, strategy=Canary(["30%"]))
    model(list(range(40)))
    events = runtime.routed()
    assert (1, 1) == (len({event.decision.time_s for event in events}), len({event.decision.phase for event in events}))
    assert 40 == len({event.decision.id for event in events})


def test_rows_are_counted_and_observed_one_by_one_with_their_covariates(runtime):
    model = batched(
        lambda rows, known: [1 / row for row in rows], lambda rows, known: list(rows), runtime, covariate="known", unit="rows"
    )
    model([1, 2, 3], [0.5, float("nan"), 1.5])
    assert [0.5, None, 1.5] == [event.covariate for event in runtime.routed()]
    assert 3 == sum(model.rollout.status().calls.values())


def test_a_control_whose_answers_are_no_rows_runs_once_more_and_no_candidates_fallback(runtime):
    sizes = []

    def old(rows):
        sizes.append(len(rows))
        return {"rows": len(rows)}

    model = batched(old, lambda rows: (np.zeros(len(rows)), np.zeros(len(rows))), runtime, breaker=None)
    assert {"rows": 40} == model(list(range(40)))
    assert (2, 40) == (len(sizes), sizes[-1])
