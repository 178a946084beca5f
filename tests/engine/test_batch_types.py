"""Batches come and go as arrays, frames and tables of any library: split by row, and put together as the control gives them."""

from collections import namedtuple

import numpy as np
import pytest
from structlog.testing import capture_logs

from rollout_sdk import ABTest, Decision, Shadow, rollout

COUNT = 12
USERS = [f"u{number}" for number in range(COUNT)]


def scored(control, candidate, runtime, *, strategy=ABTest(0.5), key="types", **options):
    options = {"unit": "users", "batch": "rows", "effects": "read", **options}
    return rollout(candidate=candidate, strategy=strategy, key=key, runtime=runtime, **options)(control)


def as_given(rows, users):
    return rows


def library(name):
    return pytest.importorskip(name, reason="a library of batches")


def pandas_frame():
    return library("pandas").DataFrame({"a": range(COUNT), "b": ["x"] * COUNT}, index=range(100, 100 + COUNT))


def pandas_series():
    return library("pandas").Series(range(COUNT), name="x")


def pandas_of_times():
    return library("pandas").Series(range(COUNT), index=library("pandas").date_range("2026-01-01", periods=COUNT, tz="UTC"))


def pandas_of_two_levels():
    pandas = library("pandas")
    return pandas.DataFrame({"a": range(COUNT)}, index=pandas.MultiIndex.from_product([["x", "y"], range(COUNT // 2)]))


def polars_frame():
    return library("polars").DataFrame({"a": list(range(COUNT)), "b": ["x"] * COUNT})


def polars_series():
    return library("polars").Series("a", list(range(COUNT)))


def arrow_table():
    return library("pyarrow").table({"a": list(range(COUNT)), "b": ["x"] * COUNT})


def arrow_batch():
    return library("pyarrow").record_batch({"a": list(range(COUNT))})


def arrow_array():
    return library("pyarrow").array(range(COUNT))


def arrow_chunks():
    return library("pyarrow").chunked_array([[1, 2, 3], list(range(COUNT - 3))])


FRAMES = [
    pandas_frame,
    pandas_series,
    pandas_of_times,
    pandas_of_two_levels,
    polars_frame,
    polars_series,
    arrow_table,
    arrow_batch,
    arrow_array,
    arrow_chunks,
]


@pytest.mark.parametrize("make", FRAMES)
def test_a_frame_is_split_and_put_together_as_it_was(make, runtime):
    given, sizes = make(), []

    def model(rows, users):
        sizes.append((type(rows), len(rows), len(users)))
        return rows

    answer = scored(model, model, runtime)(given, USERS)
    assert (type(given), True) == (type(answer), given.equals(answer))
    if hasattr(given, "iloc"):
        assert given.index.equals(answer.index)
    assert (2, COUNT) == (len(sizes), sum(count for _, count, _ in sizes))
    assert all(kind is type(given) and rows == users for kind, rows, users in sizes)
    assert {} == runtime.faults


@pytest.mark.parametrize("make", FRAMES)
def test_the_rows_of_a_frame_are_compared_one_by_one(make, runtime):
    scored(as_given, as_given, runtime, strategy=Shadow(1.0), isolate="none")(make(), USERS)
    assert [True] * COUNT == [event.comparison.match for event in runtime.shadowed()]


@pytest.mark.parametrize("make", [polars_series, arrow_array, pandas_series])
def test_units_come_in_any_of_them(make, runtime):
    model = scored(as_given, as_given, runtime)
    routed = model.rollout.route(list(range(COUNT)), make())
    of_list = model.rollout.route(list(range(COUNT)), list(range(COUNT)))
    assert [decision.variant for decision in of_list.decisions] == [decision.variant for decision in routed.decisions]
    assert {"split"} == {decision.reason for decision in routed.decisions}


def test_a_counted_index_goes_on_counting(runtime):
    model = scored(lambda rows, users: series(0.0)(rows), lambda rows, users: series(1.0)(rows), runtime)
    answer = model(np.arange(COUNT), USERS)
    assert (list(range(COUNT)), {0.0, 1.0}) == (answer.index.tolist(), set(answer))


def test_an_index_of_the_models_own_stays_with_its_rows(runtime):
    pandas = library("pandas")

    def model(value):
        return lambda rows, users: pandas.Series([value] * len(rows), index=users)

    answer = scored(model(0.0), model(1.0), runtime)(np.arange(COUNT), USERS)
    assert (USERS, {0.0, 1.0}) == (answer.index.tolist(), set(answer))


def frame(**columns):
    return lambda rows: library("pandas").DataFrame({name: [value] * len(rows) for name, value in columns.items()})


def series(value, **options):
    return lambda rows: library("pandas").Series([value] * len(rows), **options)


def own_labels(rows):
    return series(1, index=range(900, 900 + len(rows)), name="a")(rows)


OTHERS = {
    "another column": (frame(a=1), frame(a=1, b=2)),
    "a missing column": (frame(a=1, b=2**53 + 1), frame(a=1)),
    "a column of another type": (frame(a=1), frame(a=0.5)),
    "another name": (series(1, name="x"), series(1, name="y")),
    "other categories": (series("a", dtype="category"), series("b", dtype="category")),
    "an index of the input's, and a counted one": (lambda rows: rows["a"] * 0, series(1, name="a")),
    "an index of the model's own, and a counted one": (own_labels, series(1, name="a")),
    "a counted index, and one of the model's own": (series(1, name="a"), own_labels),
    "an index of the model's own, and the input's": (own_labels, lambda rows: rows["a"] * 0),
    "a frame and a series": (frame(a=1), series(1)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_frames_that_do_not_fit_together_are_the_controls(kind, runtime):
    control, candidate = OTHERS[kind]
    rows = pandas_frame()
    answer = scored(lambda rows, users: control(rows), lambda rows, users: candidate(rows), runtime)(rows, USERS)
    assert (type(control(rows)), True) == (type(answer), control(rows).equals(answer))
    assert {("engine.batch", "BatchError"): 1} == runtime.faults


def test_an_index_that_may_be_counted_or_the_input_s_is_refused(runtime):
    pandas = library("pandas")
    rows = pandas.DataFrame({"a": range(4)}, index=[0, 1, 0, 1])

    class ByHalves:
        name = "halves"

        def rollout_route(self, request):
            return Decision("control" if request.arguments["rows"].a < 2 else "candidate")

    model = scored(lambda rows, users: series(0)(rows), lambda rows, users: series(1)(rows), runtime, strategy=ByHalves())
    assert [0, 1, 2, 3] == model(rows, USERS[:4]).index.tolist()
    assert {("engine.batch", "BatchError"): 1} == runtime.faults


def test_tensors_of_one_type_are_put_together_and_of_two_are_the_controls(runtime):
    torch = library("torch")
    rows = torch.arange(COUNT)
    assert torch.equal(rows, scored(as_given, as_given, runtime)(rows, USERS))
    mixed = scored(lambda rows, users: rows.float(), lambda rows, users: rows.double(), runtime, key="two")
    assert torch.float32 == mixed(rows, USERS).dtype
    assert {("engine.batch", "BatchError"): 1} == runtime.faults


@pytest.mark.parametrize(
    "rows",
    [
        np.ma.array(range(COUNT), mask=[0, 1] * (COUNT // 2)),
        np.arange(COUNT).astype("M8[D]"),
        np.array([(number, 2.0) for number in range(COUNT)], dtype=[("a", int), ("b", float)]),
        np.array(["no", "maybe"] * (COUNT // 2)),
    ],
    ids=["masked", "times", "fields", "texts"],
)
def test_arrays_of_every_kind_keep_kind_and_type(rows, runtime):
    answer = scored(as_given, as_given, runtime)(rows, USERS)
    assert (type(rows), rows.dtype, rows.tolist()) == (type(answer), answer.dtype, answer.tolist())


def test_a_longer_text_of_a_candidate_is_not_cut(runtime):
    def says(text):
        return lambda rows, users: np.array([text] * len(rows))

    model = scored(says("no"), says("maybe"), runtime)
    assert {"no", "maybe"} == set(model(np.arange(COUNT), USERS).tolist())


def test_a_named_tuple_is_not_rows(runtime):
    pair = namedtuple("pair", "labels scores")
    model = scored(lambda rows, users: pair(0, 1), lambda rows, users: pair(2, 3), runtime)
    for number in range(20):
        assert pair(0, 1) == model([1, 2], [f"{number}a", f"{number}b"])


def test_what_is_refused_is_logged_once_with_the_cure(runtime):
    model = scored(lambda rows, users: np.zeros(len(rows)), lambda rows, users: [1.0] * len(rows), runtime)
    with capture_logs() as logs:
        for _ in range(3):
            model(list(range(COUNT)), USERS)
        assert runtime.flush(10.0)
    (event,) = [event for event in logs if event["event"] == "rollout.batch.refused"]
    assert "cannot be joined" in event["why"]
    assert "Have every variant return the control's type" in event["why"]
