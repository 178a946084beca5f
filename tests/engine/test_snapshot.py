"""Copies for shadows: they share nothing that can change, cost little, and are refused rather than guessed."""

import collections
import dataclasses
import enum
import io
import threading
import uuid
from datetime import UTC, datetime

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.engine.copies.snapshot import (
    CopyLimits,
    NotCopied,
    OneShot,
    Snapshot,
    StreamCopy,
    Uncopied,
    sized,
    take_snapshot,
)

# What is copied does not depend on how busy the machine is.
UNHURRIED = CopyLimits(copy_s=60.0)

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
    copied = Snapshot(UNHURRIED).copy(value)
    assert value == copied
    assert not changeable(value) & changeable(copied)


plain = st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), max_size=5)


@given(plain)
def test_what_needs_no_copy_weighs_what_copies_do(values):
    snapshot = Snapshot(UNHURRIED)
    for value in values:
        assert snapshot.copy(value) is value
    assert snapshot.bytes == sized(values)
    for most, size in ((snapshot.bytes, snapshot.bytes), (snapshot.bytes - 1, None)):
        assert size == sized(values, CopyLimits(copy_bytes=most))


def test_what_needs_a_copy_is_weighed_by_copying_it():
    assert sized(["a", [1]]) is None


@pytest.mark.parametrize(("args", "kwargs", "where"), [
    ((1, threading.Lock()), {}, 1), ((1,), {"a": 2, "b": threading.Lock()}, "b"), ((threading.Lock(),), {"a": 2}, 0),
])  # fmt: skip
def test_which_argument_was_not_copied_is_known(args, kwargs, where):
    with pytest.raises(Uncopied) as caught:
        take_snapshot(args, kwargs, "auto", 0, UNHURRIED)
    assert where == caught.value.where
    assert isinstance(caught.value.error, NotCopied)


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
    copied = Snapshot(UNHURRIED).copy(original)
    assert (kind, original) == (type(copied), copied)
    original.words[0].append("b")
    assert [["a"]] == copied.words


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize("shared", [Colour.RED, uuid.uuid4(), datetime.now(UTC), print, int, range(3), frozenset({1})])
def test_what_cannot_change_is_shared_or_equal(shared):
    assert shared == Snapshot(UNHURRIED).copy(shared)


def test_arrays_are_copied():
    array = np.arange(3)
    copied = Snapshot(UNHURRIED).copy(array)
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
        (threading.Lock(), "unknown type lock"),
        (nested(200), "too deep"),
        (bytes(2 << 20), "over 1 MiB"),
        (np.zeros(1 << 18), "over 1 MiB"),
        ([list(range(10)) for _ in range(100_000)], "over 20,000 parts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_unknown_or_over_the_budget_is_refused(value, why):
    with pytest.raises(NotCopied, match=why):
        Snapshot(UNHURRIED).copy(value)


def test_arrays_of_objects_share_none_of_them():
    array = np.array([["a"], ["b", "c"], None], dtype=object)
    copied = Snapshot(UNHURRIED).copy(array)
    array[0].append("x")
    assert [["a"], ["b", "c"], None] == copied.tolist()


def test_arrays_with_fields_of_objects_are_refused():
    with pytest.raises(NotCopied, match="fields of objects"):
        Snapshot(UNHURRIED).copy(np.zeros(2, dtype=[("word", object)]))


def test_an_array_costs_its_bytes_once():
    snapshot = Snapshot(UNHURRIED)
    snapshot.copy(np.zeros(100_000, dtype=np.uint8))
    assert 100_000 == snapshot.bytes


def test_numbers_of_numpy_are_copied():
    assert (3, 1.5) == (Snapshot(UNHURRIED).copy(np.int64(3)), Snapshot(UNHURRIED).copy(np.float64(1.5)))


@dataclasses.dataclass
class Cached:
    words: list

    def __post_init__(self):
        self.seen = []


def test_what_an_object_holds_besides_its_fields_is_copied_too():
    original = Cached(["a"])
    copied = Snapshot(UNHURRIED).copy(original)
    original.seen.append(1)
    assert [] == copied.seen


@dataclasses.dataclass
class Half:
    words: list
    rest: list = dataclasses.field(init=False)


@dataclasses.dataclass(slots=True)
class Slotted:
    words: list


def test_a_field_that_was_never_set_stays_so():
    copied = Snapshot(UNHURRIED).copy(Half(["a"]))
    assert (["a"], False) == (copied.words, hasattr(copied, "rest"))


def test_objects_without_a_dictionary_are_copied():
    original = Slotted(["a"])
    copied = Snapshot(UNHURRIED).copy(original)
    original.words.append("b")
    assert Slotted(["a"]) == copied


class Pydantic:
    """As a pydantic model: fields in the dictionary, the rest in two slots."""

    model_fields = ()
    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_private__")

    def __init__(self, words):
        self.words = words
        self.__pydantic_extra__ = {"more": [1]}
        self.__pydantic_private__ = None

    def model_copy(self): ...


def test_models_of_pydantic_are_copied_with_their_extras():
    original = Pydantic(["a"])
    copied = Snapshot(UNHURRIED).copy(original)
    original.words.append("b")
    original.__pydantic_extra__["more"].append(2)
    assert (["a"], {"more": [1]}, None) == (copied.words, copied.__pydantic_extra__, copied.__pydantic_private__)


async def items():
    yield 1


@pytest.mark.parametrize("once", [iter([1]), map(str, []), items()], ids=["iterator", "map", "async generator"])
def test_what_can_be_read_only_once_has_a_refusal_of_its_own(once):
    with pytest.raises(OneShot):
        Snapshot(UNHURRIED).copy([once])


def test_a_copy_that_takes_too_long_is_refused(monkeypatch):
    ticks = iter([0.0, 0.002])
    monkeypatch.setattr("rollout_sdk.engine.copies.snapshot.perf_counter", lambda: next(ticks))
    with pytest.raises(NotCopied, match="over 1 ms"):
        Snapshot().copy(list(range(300)))


def test_bytes_that_can_change_are_copied():
    original = bytearray(b"a")
    copied = Snapshot(UNHURRIED).copy(original)
    original.append(98)
    assert bytearray(b"a") == copied


@pytest.mark.parametrize("isolate", ["auto", "deepcopy", list])
def test_items_are_kept_as_they_were_when_they_passed(isolate):
    kept, item = StreamCopy(3, isolate), ["a"]
    kept.add(item)
    item.append("b")
    assert [["a"]] == kept.items


def test_with_no_isolation_items_are_kept_themselves():
    kept, item = StreamCopy(3, "none"), ["a"]
    kept.add(item)
    assert kept.items[0] is item


@pytest.mark.parametrize(
    ("isolate", "added"),
    [
        ("auto", [1, 2, 3, 4]),
        ("auto", [1, threading.Lock()]),
        ("auto", [bytes(600_000), bytes(600_000)]),
        ("none", [bytes(600_000), bytes(600_000)]),
        ("deepcopy", [bytes(600_000), bytes(600_000)]),
    ],
    ids=["too many", "unknown", "too large", "too large, shared", "too large, deep"],
)
def test_half_a_stream_is_not_kept(isolate, added):
    kept = StreamCopy(3, isolate)
    for item in added:
        kept.add(item)
    kept.add("one more")
    assert kept.items is None
