"""Arrays, series and frames are compared as Python compares their numbers, by their library's own operations."""

import math
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.extra import pandas as frames

from rollout_sdk.comparators import Close, compare
from rollout_sdk.comparators.columns import as_column

NAN = math.nan
floats = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 1.0 + 1e-7, 1.0 + 1e-5, NAN, math.inf, -math.inf])
numbers = st.sampled_from(["f8", "f4", "f2", "i8", "u1", "i2", "c16"])


def close(a, b, rel=1e-6, abs_=1e-9):
    """One pair, as Python has it."""
    a, b = complex(a), complex(b)
    if a == b or (a != a and b != b):
        return True
    try:
        gap = abs(a - b)
        return math.isfinite(gap) and gap <= max(rel * max(abs(a), abs(b)), abs_)
    # Of complex numbers whose length is beyond the largest float.
    except OverflowError:
        return False


@given(st.data())
def test_arrays_match_where_numpy_says_that_every_element_is_close(data):
    shape = data.draw(arrays.array_shapes(max_dims=3, max_side=4))
    a, b = (data.draw(arrays.arrays(np.float64, shape, elements=floats)) for _ in "ab")
    if data.draw(st.booleans()):
        b = a + 1e-8 * np.where(np.isfinite(a), a, 0)
    with np.errstate(all="ignore"):
        # numpy's tolerance is relative to one side: the larger one of both is close in one direction.
        expected = (np.isclose(a, b, 1e-6, 1e-9, equal_nan=True) | np.isclose(b, a, 1e-6, 1e-9, equal_nan=True)).all()
        stricter = (np.isclose(a, b, 1e-6, 0, equal_nan=True) | np.isclose(b, a, 1e-6, 0, equal_nan=True)).all()
    found = compare(a, b).match
    # Here, the larger tolerance counts, and in numpy their sum.
    assert found <= expected
    assert found >= stricter
    assert found == all(close(x, y) for x, y in zip(a.flat, b.flat, strict=True))


@given(st.data(), numbers, numbers)
def test_arrays_of_any_numbers_are_compared_as_their_elements(data, one, other):
    shape = data.draw(arrays.array_shapes(max_dims=2, max_side=4))
    a, b = (data.draw(arrays.arrays(np.dtype(kind), shape)) for kind in (one, other))
    found = compare(a, b)
    if (one, other) != ("f4", "f4"):
        assert found.match == all(close(x, y) for x, y in zip(a.flat, b.flat, strict=True))
    assert compare(a, a.copy()).match
    assert compare(b, a).match == found.match


@given(arrays.arrays(np.float64, 5, elements=st.floats(-1e6, 1e6)), arrays.arrays(np.float64, 5, elements=st.floats(-1e6, 1e6)))
def test_the_difference_of_arrays_is_their_mean_distance(a, b):
    assert compare(a, b).difference == pytest.approx(float(np.abs(a - b).mean()))


def test_embeddings_that_are_near_are_near():
    one = np.linspace(-1, 1, 768)
    found = compare(one, one + 1e-4)
    assert (found.match, found.difference) == (False, pytest.approx(1e-4))
    assert Close(abs=1e-3)(one, one + 1e-4).match


@pytest.mark.parametrize(("a", "b"), [(5, 250), (2**63, 2**63 + 1), (2**60, 2**60 + 1), (0, 2**64 - 1)])
def test_whole_numbers_of_a_machine_do_not_overflow(a, b):
    one, other = np.array([a], dtype="u8"), np.array([b], dtype="u8")
    assert Close(rel=0, abs=0)(one, other).match is False
    assert Close(rel=0, abs=0)(one, other).difference == pytest.approx(float(b - a))


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 40_000])
def test_every_element_counts_in_large_arrays(size):
    one = np.zeros(size)
    for place in (0, 16_383, size - 1):
        other = one.copy()
        other[place if place < size else 0] = 1.0
        assert compare(one, other) == compare(one.tolist(), other.tolist())
        assert compare(one, other).match is False


TIMES = np.array(["2026-01-01", "NaT"], dtype="datetime64[s]")


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (TIMES, TIMES.copy(), None),
        (TIMES, TIMES[::-1], "value"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "value"),
        (np.array([b"a"]), np.array(["a"]), "type"),
        (np.array([True, False]), np.array([True, True]), "value"),
        (np.array([(1, 0.5)], dtype=[("n", "i4"), ("x", "f8")]), np.array([(1, 0.5)], dtype=[("n", "i4"), ("x", "f8")]), None),
        (
            np.array([(1, 0.5)], dtype=[("n", "i4"), ("x", "f8")]),
            np.array([(1, 0.7)], dtype=[("n", "i4"), ("x", "f8")]),
            "value",
        ),
        (np.array([{"a": 1.0}, None], dtype=object), np.array([{"a": 1.0 + 1e-9}, None], dtype=object), None),
        (np.array(["a", "b"], dtype=object), np.array(["a", "x"], dtype=object), "value"),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 9], mask=[0, 1]), None),
        (np.array([]), np.array([]), None),
    ],
)
def test_arrays_of_other_things(one, other, reason):
    found = compare(one, other)
    assert (found.reason, found.difference) == (reason, 1.0 if reason == "type" else found.difference)


# pandas ----------------------------------------------------------------------------------------------------------------------


# Arrow, on which pandas' texts may be built, has no surrogates.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(
    frames.data_frames(
        [frames.column("x", dtype=float), frames.column("n", dtype=int), frames.column("s", dtype=str, elements=words)]
    )
)
def test_a_frame_matches_its_copy(frame):
    assert compare(frame, frame.copy()).match


@given(frames.series(dtype=float, index=frames.range_indexes(min_size=1)), st.data())
def test_a_series_matches_where_pandas_says_that_it_is_close(series, data):
    other = series.copy()
    other.iloc[data.draw(st.integers(0, len(series) - 1))] = data.draw(floats)
    try:
        pd.testing.assert_series_equal(series, other, rtol=1e-6, atol=1e-9)
        expected = True
    except AssertionError:
        expected = False
    # pandas adds both tolerances.
    assert compare(series, other).match <= expected


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (pd.Series([1.0, NAN]), pd.Series([1.0, NAN]), None),
        (pd.Series([1, None], dtype="Int64"), pd.Series([1, None], dtype="Int64"), None),
        (pd.Series([1, None], dtype="Int64"), pd.Series([1, 0], dtype="Int64"), "missing"),
        (pd.Series([2**60, None], dtype="Int64"), pd.Series([2**60 + 2**45, None], dtype="Int64"), "value"),
        (pd.Series([True, None], dtype="boolean"), pd.Series([True, None], dtype="boolean"), None),
        (pd.Series(["a", None]), pd.Series(["a", None]), None),
        (pd.Series(["a", None]), pd.Series(["a", "b"]), "missing"),
        (pd.Series(["a", pd.NA], dtype=object), pd.Series(["a", pd.NA], dtype=object), None),
        (pd.Series(["x", "y"], dtype="category"), pd.Series(["x", "x"], dtype="category"), "value"),
        (pd.to_datetime(pd.Series(["2026-01-01", None])), pd.to_datetime(pd.Series(["2026-01-01", None])), None),
        (
            pd.Series(pd.to_datetime(["2026-01-01", None])).dt.tz_localize("UTC"),
            pd.Series(pd.to_datetime(["2026-01-02", None])).dt.tz_localize("UTC"),
            "value",
        ),
        (pd.Series([1, 2], index=["a", "b"]), pd.Series([1, 2], index=["a", "c"]), "index"),
        (pd.Series([1, 2]), pd.Series([1, 2, 3]), "shape"),
        (pd.Series([1, 2]), [1, 2], None),
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), pd.DataFrame({"a": [1.0 + 1e-9], "b": ["x"]}), None),
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), pd.DataFrame({"a": [1.0], "b": ["y"]}), "value"),
        (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]}), "columns"),
        (pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1.0, 2.0]}, index=[1, 0]), "index"),
        (pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1.0]}), "shape"),
        (pd.DataFrame(), pd.DataFrame(), None),
        (pd.MultiIndex.from_tuples([(1, "a")]), pd.MultiIndex.from_tuples([(1, "b")]), "value"),
        ({"out": pd.Series([1.0])}, {"out": pd.Series([1.0])}, None),
        (
            pd.Series([datetime(2026, 1, 1, tzinfo=UTC), timedelta(1)]),
            pd.Series([datetime(2026, 1, 1, tzinfo=UTC), timedelta(2)]),
            "value",
        ),
    ],
)
def test_objects_of_pandas(one, other, reason):
    assert compare(one, other).reason == reason


def test_the_difference_of_frames_is_the_share_of_columns():
    one = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": ["x", "y"], "d": [True, False]})
    assert compare(one, one.assign(b=[1.0, 3.0])).difference == 0.25


BERLIN = pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02", None])).dt.tz_localize("Europe/Berlin")


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        (BERLIN, BERLIN.copy(), None, 0.0),
        (BERLIN, BERLIN.dt.tz_convert("UTC"), None, 0.0),
        (BERLIN, BERLIN + pd.Timedelta("1us"), "value", 1.0),
        (BERLIN, BERLIN.ffill(), "missing", 1 / 3),
        (BERLIN, BERLIN.dt.tz_localize(None), "type", 1.0),
        (BERLIN, BERLIN.dt.tz_convert("UTC").dt.tz_localize(None), "type", 1.0),
        (BERLIN, BERLIN.astype(object), None, 0.0),
        (BERLIN, BERLIN.astype(object) + pd.Timedelta("1s"), "value", 2 / 3),
        (pd.DatetimeIndex(BERLIN), pd.DatetimeIndex(BERLIN), None, 0.0),
        (BERLIN.dt.as_unit("s"), BERLIN.dt.as_unit("ns"), None, 0.0),
    ],
)
def test_times_with_a_zone_are_compared_as_instants(one, other, reason, difference):
    found = compare(one, other)
    assert (found.reason, found.difference) == (reason, pytest.approx(difference))


def category(*values, of=None):
    return pd.Series(pd.Categorical(values, categories=of))


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        (category("a", "b"), category("a", "b"), None, 0.0),
        (category("a", "b", of=["a", "b", "c"]), category("a", "b", of=["c", "b", "a"]), None, 0.0),
        (category("a", "b"), category("a", "c"), "value", 0.5),
        (category("a", None), category("a", None), None, 0.0),
        (category("a", None), category("a", "b"), "missing", 0.5),
        (category(None, None), category(None, None), None, 0.0),
        (category(), category(), None, 0.0),
        (category(1, 2, 2), category(1, 2, 4), "value", 2 / 3),
        (category(1.0, 2.0), category(1.0, 2.0 + 1e-9), None, pytest.approx(5e-10, rel=1e-3)),
        (category(1.0, math.inf), category(1.0, -math.inf), "value", None),
        (category("a", "b"), pd.Series(["a", "b"]), None, 0.0),
        (category("a", None), pd.Series(["a", None]), None, 0.0),
        (category("a", "b"), pd.Series(["b", "b"]), "value", 0.5),
        (pd.Categorical(["a"]), pd.Categorical(["b"]), "value", 1.0),
        (pd.CategoricalIndex(["a"]), pd.CategoricalIndex(["a"]), None, 0.0),
        (category(*range(200)), category(*reversed(range(200))), "value", 100.0),
    ],
)
def test_categories_are_compared_by_their_values(one, other, reason, difference):
    found = compare(one, other)
    assert (found.reason, found.difference) == (reason, difference)


def test_categories_of_as_many_values_as_there_are_rows_are_compared_by_row(monkeypatch):
    monkeypatch.setattr("rollout_sdk.comparators.close._MOST_PAIRS", 2)
    assert compare(category("a", "b", "c"), category("a", "b", "x")).difference == pytest.approx(1 / 3)
    assert compare(category("a", "b", None), category("a", "b", None)).match
    assert compare(category(1, 2, 3), category(1, 2, 5)).difference == pytest.approx(2 / 3)


MASKED = np.ma.array([[1.0, 2.0], [3.0, NAN]], mask=[[0, 1], [0, 0]])


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        (MASKED, np.ma.array([[1.0, 9.0], [3.0, NAN]], mask=[[0, 1], [0, 0]]), None, 0.0),
        (MASKED, np.array([[1.0, NAN], [3.0, NAN]]), None, 0.0),
        (MASKED, np.array([[1.0, 2.0], [3.0, NAN]]), "missing", None),
        (MASKED, np.ma.array([[1.0, 9.0], [3.5, NAN]], mask=[[0, 1], [0, 0]]), "value", 0.25),
        (np.ma.array([1, 2]), np.ma.array([1, 4]), "value", 1.0),
        (np.ma.array(["a", "b"], mask=[0, 1]), np.ma.array(["a", "c"], mask=[0, 1]), None, 0.0),
        (np.ma.array([1, 2], mask=[0, 1]), np.array(["a", "b"]), "type", 1.0),
        (np.ma.masked, np.ma.masked, None, 0.0),
        (np.ma.array([(1, 2.0)], dtype="i4,f8"), np.ma.array([(1, 3.0)], dtype="i4,f8"), "value", 1.0),
    ],
)
def test_arrays_with_a_mask(one, other, reason, difference):
    found = compare(one, other)
    assert (found.reason, found.difference) == (reason, difference)


@pytest.mark.parametrize("kind", ["i8", "u8", ">i8"])
def test_whole_numbers_beyond_the_exact_floats_have_their_exact_distance(kind):
    one = np.array([2**62, 2**62 + 1, 5], dtype=kind)
    other = np.array([2**62 + 3, 2**62 + 1, 7], dtype=kind)
    found = Close(rel=0, abs=2)(one, other)
    assert (found.match, found.difference) == (False, pytest.approx(5 / 3))
    assert Close(rel=0, abs=3)(one, other).match
    assert Close(rel=0, abs=1e19)(np.array([-(2**63)]), np.array([2**63 - 1])).match is False
    assert compare(np.array([-(2**63)]), np.array([2**63 - 1])).difference == float(2**64)


@given(st.data())
def test_arrays_of_other_lengths_differ_by_the_places_that_are_not_the_same(data):
    a, b = (data.draw(st.lists(floats, min_size=1, max_size=5)) for _ in "ab")
    found, slow = compare(np.array(a), np.array(b)), compare(a, b)
    assert (found.reason == "shape", found.match) == (len(a) != len(b), slow.match)
    assert found.difference == (pytest.approx(slow.difference) if slow.difference is not None else None)
    assert compare([*a] * 300, [*a] * 300 + b).reason == "length"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kinds", [("f8", "f8"), ("f8", "f4"), ("i8", "i8")])
def test_frames_of_one_type_are_compared_at_once_and_differ_by_column(order, kinds):
    numbers = np.arange(60_000).reshape(20_000, 3)
    one, other = (pd.DataFrame(np.array(numbers, dtype=kind, order=order)) for kind in kinds)
    assert compare(one, other).match
    other.iloc[19_999, 2] += 5
    found = compare(one, other)
    assert (found.reason, found.difference) == ("value", pytest.approx(1 / 3))
    assert compare(one, other.astype(object)).difference == pytest.approx(1 / 3)


# Other libraries -------------------------------------------------------------------------------------------------------------


def test_objects_of_polars():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    one = pl.DataFrame(
        {
            "x": [1.0, None, NAN],
            "n": [2**60, None, 3],
            "s": ["a", None, "c"],
            "t": [datetime(2026, 1, 1, tzinfo=UTC), None, None],
        }
    )
    assert compare(one, one.clone()).match
    for name, value in (("x", [1.5, None, NAN]), ("n", [2**60, 0, 3]), ("s", ["a", None, "d"]), ("x", [1.0, NAN, NAN])):
        assert not compare(one, one.with_columns(pl.Series(name, value))).match
    assert compare(one["x"], one["x"] + 1e-9).match
    assert compare(one.select("x"), one.select("n")).reason == "columns"
    assert compare(one, one.head(2)).reason == "shape"


def test_objects_of_arrow():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    one = pa.table({"x": [1.0, None, NAN], "n": [2**60, None, 3], "s": ["a", None, "c"], "b": [True, None, False]})
    assert compare(one, pa.table(one.to_pydict())).match
    for name, value in (("x", [1.5, None, NAN]), ("n", [2**60, 0, 3]), ("s", ["a", None, "d"]), ("b", [True, False, False])):
        assert not compare(one, pa.table({**one.to_pydict(), name: value})).match
    assert compare(one["x"], one["x"]).match
    assert compare(one.column("x").chunk(0), one.column("x").chunk(0)).match
    assert compare(one, one.slice(0, 2)).reason == "shape"
    assert compare(pa.array([[1.0], None]), pa.array([[2.0], None])).reason == "value"


LISTS = [[1.0, 2.0], [], None, [3.0]]


@pytest.mark.parametrize(
    ("other", "reason", "difference"),
    [
        (LISTS, None, 0.0),
        ([[1.0, 2.0 + 1e-9], [], None, [3.0]], None, 0.0),
        ([[1.0, 2.0], [], None, [4.0]], "value", 0.25),
        ([[1.0, 2.5], [1.0], None, [4.0]], "value", 0.75),
        ([[1.0], [], None, [2.0]], "shape", 0.5),
        ([[1.0, 2.0], [], [], [3.0]], "missing", 0.25),
        ([[1.0, 2.0], [3.0]], "length", 0.75),
    ],
)
@pytest.mark.parametrize("make", ["list_", "large_list"])
def test_lists_of_arrow_are_compared_as_one_array(other, reason, difference, make):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    one, other = (pa.array(each, type=getattr(pa, make)(pa.float64())) for each in (LISTS, other))
    found = compare(one, other)
    assert (found.reason, found.difference) == (reason, difference)
    found = compare(pa.chunked_array([one[:1], one[1:]]), pa.chunked_array([other]))
    assert (found.reason, found.difference) == (reason, difference)


def test_other_lists_of_arrow():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pairs = pa.list_(pa.float64(), 2)
    one = pa.array([[1.0, 2.0], None, [3.0, 4.0]], type=pairs)
    assert compare(one, pa.array(one.to_pylist(), type=pairs)).match
    assert compare(one, pa.array([[1.0, 2.0], None, [3.0, 5.0]], type=pairs)).difference == pytest.approx(1 / 3)
    assert compare(one, pd.Series([np.array([1.0, 2.0]), None, np.array([3.0, 4.0])])).match
    assert compare(pa.array([["a"], None]), pa.array([["a"], None])).match
    assert compare(pa.array([["a"]]), pa.array([["b"]])).reason == "value"
    assert compare(pa.array([[[1.0]]]), pa.array([[[2.0]]])).reason == "value"
    assert compare(pa.array([], type=pairs), pa.array([], type=pairs)).match
    assert compare(pa.array([[1, None]]), pa.array([[1, 2]])).reason == "value"


# Torch warns of sparse layouts and of quantized tensors.
@pytest.mark.filterwarnings("ignore:.*(in beta state|quantized tensor creation):UserWarning")
def test_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    one = torch.linspace(-1, 1, 100, requires_grad=True)
    assert compare(one, one.detach() + 1e-9).match
    assert compare(one, one.detach() + 1e-3).difference == pytest.approx(1e-3, rel=1e-3)
    assert compare(one.bfloat16(), one.bfloat16()).match
    for sparse in (one.detach().to_sparse(), torch.eye(3).to_sparse_csr(), torch.eye(4).to_sparse_bsr((2, 2))):
        assert compare(sparse, sparse.clone()).match
        assert not compare(sparse, sparse * 2).match
    assert compare(*(torch.quantize_per_tensor(one.detach(), 0.1, 0, torch.qint8) for _ in "ab")).match


class Tensor:
    """As much of a tensor as is used, for machines without the library."""

    dtype, shape = "float32", (3,)

    def __init__(self, values, *, is_foreign=False):
        self._values, self._is_foreign = np.array(values), is_foreign

    def detach(self):
        return self

    def float(self):
        return Tensor(self._values)

    def numpy(self, *, force):
        if self._is_foreign:
            raise TypeError("Got unsupported ScalarType BFloat16")
        assert force
        return self._values


@pytest.mark.parametrize("is_foreign", [False, True])
def test_tensors_are_read_by_their_own_methods(is_foreign):
    one, other = (Tensor(values, is_foreign=is_foreign) for values in ([1.0, 2.0, 3.0], [1.0, 2.0, 3.5]))
    assert compare(one, one).match
    assert compare(one, other).difference == pytest.approx(0.5 / 3)


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    one = sparse.random(20, 20, density=0.1, format="csr", random_state=1)
    other = one.copy()
    other.data[0] += 1.0
    assert compare(one, one.copy()).match
    assert not compare(one, other).match


# Speed -----------------------------------------------------------------------------------------------------------------------


def fastest(function):
    times = []
    for _ in range(7):
        # Of this thread, so that other programs have no part in it.
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return min(times)


# A ratio of two times: tests that run beside it would share in it.
@pytest.mark.slow
@pytest.mark.parametrize("change", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize(
    "wrap", [lambda values: values, pd.Series, lambda values: {"scores": values}], ids=["array", "series", "mapping"]
)
def test_an_array_of_200_000_is_compared_within_twice_the_time_that_numpy_takes(wrap, change):
    one = np.random.default_rng(1).normal(size=200_000)
    other = one + change
    ours = fastest(lambda: compare(wrap(one), wrap(other)))
    numpys = fastest(lambda: bool(np.isclose(one, other, rtol=1e-6, atol=1e-9, equal_nan=True).all()))
    assert ours < 2 * numpys


def arrow_lists(values):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return pyarrow.ListArray.from_arrays(pyarrow.array(np.arange(0, len(values) + 1, 4, dtype="i4")), pyarrow.array(values))


KINDS = {
    "times with a zone": (8, lambda x: pd.Series(pd.to_datetime((x * 1e6).astype("i8"), unit="us", utc=True))),
    "category": (40, lambda x: pd.Series(pd.Categorical((x * 3).round()))),
    "array with a mask": (25, lambda x: np.ma.array(x, mask=np.arange(len(x)) % 10 == 0)),
    "lists of arrow": (25, arrow_lists),
    "large whole numbers": (8, lambda x: (x * 1e18).astype("i8")),
    "Int64 with gaps": (25, lambda x: pd.Series((x * 1e6).astype("i8"), dtype="Int64").mask(np.arange(len(x)) % 10 == 0)),
    "frame": (8, lambda x: pd.DataFrame(x.reshape(-1, 20))),
}
"""How many times as long as numpy's `isclose` they may take at most, and what makes one. Row by row, most take 1,000 times."""


@pytest.mark.slow
@pytest.mark.parametrize("change", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_200_000_values_of_any_of_these_kinds_take_a_few_times_what_numbers_take(kind, change):
    one = np.random.default_rng(1).normal(size=200_000)
    most, make = KINDS[kind]
    ours, theirs = make(one), make(one + change)
    other = one + 1e-12
    numpys = fastest(lambda: bool(np.isclose(one, other, rtol=1e-6, atol=1e-9, equal_nan=True).all()))
    assert fastest(lambda: compare(ours, theirs)) < most * numpys


def test_a_long_list_of_floats_is_compared_as_an_array():
    assert as_column([0.5] * 300) is not None
    assert as_column([1] * 300) is None
    assert compare([0.5] * 300, [0.5] * 299 + [2.0]).difference == pytest.approx(1.5 / 300)
