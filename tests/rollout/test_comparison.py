"""The default comparison of two outputs."""

import math
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import Comparison
from rollout_sdk.comparators import compare

NAN, INF = math.nan, math.inf
HUGE = 10**400

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers() | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(json_values)
def test_every_value_matches_itself(value):
    assert compare(value, value).match


@given(json_values)
def test_a_collection_that_matches_is_no_distance_away(value):
    if isinstance(value, list | dict | tuple):
        assert compare(value, value).difference == 0.0


@given(json_values, json_values)
def test_a_comparison_has_no_direction(one, other):
    there, back = compare(one, other), compare(other, one)
    assert (there.match, there.difference) == (back.match, back.difference)


@given(json_values, json_values)
def test_a_mismatch_has_a_reason_and_a_match_has_none(one, other):
    comparison = compare(one, other)
    assert (comparison.reason is None) == comparison.match


@given(json_values, json_values)
def test_a_difference_is_finite_or_none(one, other):
    difference = compare(one, other).difference
    assert difference is None or (math.isfinite(difference) and difference >= 0)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_two_numbers_match_within_the_tolerance_and_differ_by_their_distance(one, other):
    assert compare(one, other) == Comparison(
        match=abs(one - other) <= max(1e-6 * max(abs(one), abs(other)), 1e-9),
        difference=abs(one - other),
        reason=None if math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) else "value",
    )


@pytest.mark.parametrize(
    ("one", "other", "match", "difference"),
    [
        (1, 1.0, True, 0.0),
        (1.0, np.float64(1.0), True, 0.0),
        (0.1 + 0.2, 0.3, True, pytest.approx(5.5e-17)),
        (1, 2, False, 1.0),
        (NAN, NAN, True, 0.0),
        (NAN, 1.0, False, None),
        (Decimal("nan"), NAN, True, 0.0),
        (INF, INF, True, 0.0),
        (INF, -INF, False, None),
        (INF, 1.0, False, None),
        (Decimal("0.5"), 0.5, True, 0.0),
        (Decimal("0.5"), 0.75, False, 0.25),
        (Fraction(1, 3), 1 / 3, True, 0.0),
        (1 + 1j, 1 + 1j, True, 0.0),
        (1 + 1j, 1.0, False, 1.0),
        (complex(NAN, 1), complex(NAN, 1), True, 0.0),
        (Decimal(1), 1j, False, None),
        (HUGE, HUGE + 1, True, 1.0),
        (HUGE, 2 * HUGE, False, None),
        (HUGE, 1.5, False, None),
        (HUGE, INF, False, None),
        (HUGE, NAN, False, None),
        (True, True, True, None),
        (np.True_, True, True, None),
    ],
)
def test_numbers_of_all_kinds(one, other, match, difference):
    expected = Comparison(match=match, difference=difference, reason=None if match else "value")
    assert (compare(one, other), compare(other, one)) == (expected, expected)


@pytest.mark.parametrize(("one", "other"), [(True, 1), ("1", 1), (None, 0), ("a", b"a"), ([1], {1}), ({"a": 1}, [("a", 1)])])
def test_values_of_different_types_differ_by_type(one, other):
    assert compare(one, other) == Comparison(match=False, reason="type")


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        ([1, 2, 3], [1, 2, 3], None, 0.0),
        ([1, 2, 3], (1, 2, 3), None, 0.0),
        ([1, 2, 3], [1, 9, 3], "value", pytest.approx(7 / 3)),
        ([1, 2, 3], [1, 2], "length", pytest.approx(1 / 3)),
        ([1, 2], ["1", 2], "type", 0.5),
        ([], [], None, 0.0),
        ([], [1], "length", 1.0),
        ([NAN], [NAN], None, 0.0),
        ([[1], [2, 3]], [[1], [2, 4]], "value", 0.5),
        (deque([1, 2]), [1, 2], None, 0.0),
        (range(3), [0, 1, 2], None, 0.0),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, None, 0.0),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "value", 0.5),
        ({"a": 1}, {"b": 1}, "keys", 1.0),
        ({"a": 1}, OrderedDict(a=1), None, 0.0),
        ({1: "x"}, {1.0: "x"}, None, 0.0),
        ({}, {}, None, 0.0),
        ("abc", "abd", "value", None),
        (b"abc", b"abc", None, None),
        ({1, 2}, {2, 1}, None, None),
        (None, None, None, None),
    ],
)
def test_collections_are_compared_element_by_element(one, other, reason, difference):
    assert compare(one, other) == Comparison(match=reason is None, difference=difference, reason=reason)


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        (np.array([1, 2]), np.array([1.0, 2.0]), None, 0.0),
        (np.array([1, 2]), [1, 2], None, 0.0),
        (np.array([1, 2]), np.array([1, 3]), "value", 0.5),
        (np.array([1, 2]), np.array([[1, 2]]), "shape", 1.0),
        (np.zeros((0, 3)), np.zeros((0, 5)), "shape", 0.0),
        (np.array([NAN, 1]), np.array([NAN, 1]), None, 0.0),
        (np.array(5), 5, None, 0.0),
        (np.array(["a", "b"]), ["a", "b"], None, 0.0),
        (np.array([True]), np.array([1]), "type", 1.0),
        ({"scores": np.array([0.1, 0.2])}, {"scores": np.array([0.1, 0.2])}, None, 0.0),
        (np.float32(0.1), 0.1, None, pytest.approx(1.5e-9, abs=1e-9)),
    ],
)
def test_arrays_are_never_ambiguous(one, other, reason, difference):
    assert compare(one, other) == Comparison(match=reason is None, difference=difference, reason=reason)


class Frame:
    """As much of a data frame as the comparison looks at; its truth is ambiguous, as a real one's."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self.shape = (len(next(iter(columns.values()))), len(columns))
        self._columns = columns

    def to_dict(self):
        return self._columns

    def __eq__(self, other):
        raise ValueError("The truth value of a DataFrame is ambiguous")

    __hash__ = None


def test_frames_are_compared_column_by_column():
    assert compare(Frame(a=[1, 2], b=[3, 4]), Frame(a=[1, 2], b=[3, 4.0])).match
    assert compare(Frame(a=[1, 2], b=[3, 4]), Frame(a=[1, 2], b=[3, 5])) == Comparison(
        match=False, difference=0.5, reason="value"
    )
    assert compare(Frame(a=[1, 2]), Frame(a=[1])).reason == "shape"


@dataclass
class Score:
    value: float


@attrs.frozen
class Label:
    value: str


class Plain:
    pass


@pytest.mark.parametrize(
    ("one", "other", "reason", "difference"),
    [
        (Score(1.0), Score(1.0), None, 0.0),
        (Score(1.0), Score(1.0 + 1e-9), None, 0.0),
        (Score(1.0), Score(2.0), "value", 1.0),
        (Label("a"), Label("a"), None, 0.0),
        (Label("a"), Label("b"), "value", 1.0),
        (Label("a"), Score(1.0), "type", None),
        (Plain(), Plain(), "value", None),
    ],
)
def test_objects_are_compared_by_field_and_those_without_by_their_equality(one, other, reason, difference):
    assert compare(one, other) == Comparison(match=reason is None, reason=reason, difference=difference)


class Raising:
    def __eq__(self, other):
        raise RuntimeError("not today")

    __hash__ = None


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value], lambda value: {"v": value}])
def test_an_equality_that_raises_reaches_the_caller(wrap):
    with pytest.raises(RuntimeError, match="not today"):
        compare(wrap(Raising()), wrap(Raising()))


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def test_outputs_up_to_thirty_two_deep_are_compared():
    assert compare(nested(32), nested(32)).match


@pytest.mark.parametrize("depth", [33, 5_000])
def test_deeper_outputs_are_refused_with_the_cure(depth):
    with pytest.raises(RecursionError, match=r"more than 32 deep. Give the rollout a rollout_compare plugin."):
        compare(nested(depth), nested(depth))


def test_an_output_that_contains_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(RecursionError, match="32 deep"):
        compare(loop, loop)


def test_tolerances_can_be_chosen():
    assert [compare(1.0, 1.05, rel_tol=0.1).match, compare(0.0, 0.01, abs_tol=0.1).match, compare(1.0, 1.05).match] == [
        True,
        True,
        False,
    ]


class Lazy(Mapping):
    """A mapping that is no dict."""

    def __init__(self, **values):
        self.values_ = values

    def __getitem__(self, key):
        return self.values_[key]

    def __iter__(self):
        return iter(self.values_)

    def __len__(self):
        return len(self.values_)


def test_any_mapping_is_a_mapping():
    assert compare(Lazy(a=1, b=2), {"a": 1, "b": 3}) == Comparison(match=False, difference=0.5, reason="value")
