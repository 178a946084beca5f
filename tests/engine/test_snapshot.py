"""Copies for shadows: they share nothing that can change, cost little, and are refused rather than guessed."""

import collections
import dataclasses
import enum
import io
import uuid
from datetime import UTC, datetime

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.engine.snapshot import NotCopied, Snapshot

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


def changeable(value):
    """Ids of everything in a value that could change."""
    found = {id(value)} if isinstance(value, list | dict) else set()
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return found.union(*(changeable(child) for child in children))


@given(values)
def test_a_copy_is_equal_and_shares_nothing_that_can_change(value):
    copied = Snapshot().copy(value)
    assert value == copied
    assert not changeable(value) & changeable(copied)


@dataclasses.dataclass
class Row:
    words: list


@attrs.frozen
class Frozen:
    words: list


Named = collections.namedtuple("Named", "words")


@pytest.mark.parametrize("kind", [Row, Frozen, Named])
def test_objects_with_fields_are_copied_field_by_field(kind):
    original = kind([["a"]])
    copied = Snapshot().copy(original)
    assert (kind, original) == (type(copied), copied)
    original.words[0].append("b")
    assert [["a"]] == copied.words


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize("shared", [Colour.RED, uuid.uuid4(), datetime.now(UTC), print, int, range(3), frozenset({1})])
def test_what_cannot_change_is_shared_or_equal(shared):
    assert shared == Snapshot().copy(shared)


def test_arrays_are_copied():
    array = np.arange(3)
    copied = Snapshot().copy(array)
    array[0] = 9
    assert [0, 1, 2] == copied.tolist()


def nested(depth):
    return [] if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (iter([]), "one-shot iterator"),
        ((n for n in ()), "one-shot iterator"),
        (io.BytesIO(), "one-shot iterator"),
        (object(), "unknown type object"),
        (nested(20), "too deep"),
        (bytes(2 << 20), "over 1 MiB"),
        (np.zeros(1 << 18), "over 1 MiB"),
        ([list(range(10)) for _ in range(100_000)], "over 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_unknown_or_over_the_budget_is_refused(value, why):
    with pytest.raises(NotCopied, match=why):
        Snapshot().copy(value)
