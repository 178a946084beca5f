"""The bytes that stand for a unit."""

import enum
import sys
import unicodedata
from time import perf_counter
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.assignment import canonical

ids = st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.binary(), st.uuids(), st.none())
units = st.one_of(ids, st.tuples(ids, ids), st.tuples(st.tuples(ids), ids))


class Lying:
    """Raises whatever it is told, wherever it is asked."""

    def __init__(self, error):
        self.error = error

    def __index__(self):
        raise self.error


class LyingType:
    @property
    def __class__(self):
        raise RuntimeError("no type today")


class LyingText(str):
    __slots__ = ()

    def __len__(self):
        raise RuntimeError("no length today")

    def isascii(self):
        raise RuntimeError("no text today")


class HugeIndex:
    def __index__(self):
        return 10**5000


def test_types_are_part_of_the_name():
    forms = [1, "1", 1.0, True, b"1", (1,), ("1",), UUID(int=1), "true", "1.0", "i1"]
    assert len({canonical(form) for form in forms}) == len(forms)


@pytest.mark.parametrize("nobody", [None, "", b"", float("nan"), np.nan, (), ("u", None), ("u", ""), (("u", float("nan")),)])
def test_missing_ids_name_nobody(nobody):
    assert canonical(nobody) is None


@pytest.mark.parametrize("unknown", [[1], {"u": 1}, {1}, object(), 1j, np.array([1, 2]), lambda: 1, Exception("x"), slice(3)])
def test_unknown_types_name_nobody(unknown):
    assert canonical(unknown) is None


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), RecursionError("deep"), MemoryError("full"), SystemExit(3), ZeroDivisionError(), StopIteration()],
)
def test_an_object_that_raises_when_looked_at_names_nobody(error):
    assert canonical(Lying(error)) is None


def test_a_keyboard_interrupt_is_the_users_and_passes():
    with pytest.raises(KeyboardInterrupt):
        canonical(Lying(KeyboardInterrupt()))


def test_an_object_that_lies_about_its_type_names_nobody():
    assert (canonical(LyingType()), canonical(LyingText("u-1"))) == (None, None)


def test_an_index_too_long_to_print_is_a_unit():
    assert canonical(HugeIndex()) == canonical(10**5000)


@given(st.recursive(ids, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=10))
def test_canonical_gives_bytes_or_none_and_never_raises(unit):
    assert isinstance(canonical(unit), bytes | None)


@given(units, units)
def test_different_units_have_different_names(one, other):
    def key(unit):
        if isinstance(unit, tuple):
            return tuple(key(part) for part in unit)
        # NFC makes one of two forms, and 0.0 is -0.0.
        return type(unit), unicodedata.normalize("NFC", unit) if isinstance(unit, str) else unit

    assert canonical(one) is None or (canonical(one) == canonical(other)) == (key(one) == key(other))


@given(st.text(min_size=1, max_size=1024))
def test_composed_and_decomposed_text_is_one_unit(text):
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    assert len({canonical(form) for form in forms}) == 1


def test_the_longest_composed_text_is_still_one_unit_in_its_longest_form():
    longest = "\u1f82" * 1024
    assert len(unicodedata.normalize("NFD", longest)) == 4096
    assert canonical(unicodedata.normalize("NFD", longest)) == canonical(longest)


def test_a_lone_surrogate_is_a_unit_of_its_own():
    assert canonical("\ud800") not in {None, canonical("\ud801"), canonical("?"), canonical("\ufffd")}


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint32, np.intp])
def test_numpy_integers_are_integers(kind):
    assert canonical(kind(17)) == canonical(17)


def test_numpy_text_and_float64_are_text_and_floats():
    assert (canonical(np.str_("u-1")), canonical(np.float64(1.5))) == (canonical("u-1"), canonical(1.5))


def test_an_enumeration_of_text_or_integers_is_its_value():
    class Plan(enum.StrEnum):
        PRO = "pro"

    class Shard(enum.IntEnum):
        FIRST = 1

    assert (canonical(Plan.PRO), canonical(Shard.FIRST)) == (canonical("pro"), canonical(1))


def test_minus_zero_is_zero():
    assert canonical(-0.0) == canonical(0.0)


def test_a_uuid_is_not_its_text():
    unit = UUID("12345678123456781234567812345678")
    assert canonical(unit) not in {None, canonical(str(unit)), canonical(unit.bytes), canonical(unit.int)}


def test_parts_of_a_tuple_do_not_run_together():
    assert canonical(("a", "bc")) != canonical(("ab", "c"))
    assert canonical(("a", ("b", "c"))) != canonical((("a", "b"), "c"))


def test_tuples_too_long_or_too_deep_name_nobody():
    deep = "u"
    for _ in range(sys.getrecursionlimit() * 2):
        deep = (deep,)
    assert (canonical(deep), canonical(("u",) * 10_000)) == (None, None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a" * 5000, "a" * 5001),
        ("a" + "x" * 5000, "b" + "x" * 5000),
        ("x" * 5000 + "a", "x" * 5000 + "b"),
        ("é" * 5000, "é" * 5001),
        (b"a" * 5000, b"a" * 5001),
        (b"a" * 5000, "a" * 5000),
        (1 << 5000, 1 << 5001),
        (1 << 5000, (1 << 5000) + 1),
        (-(1 << 5000), 1 << 5000),
    ],
)
def test_long_ids_differ_by_their_ends_and_their_length(one, other):
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    "make",
    ["u".__mul__, "é".__mul__, b"u".__mul__, lambda size: (1 << 8 * size) + 1],
    ids=["text", "unicode", "bytes", "integer"],
)
def test_a_hostile_id_costs_no_more_than_a_long_one(make):
    def cost(unit):
        canonical(unit)
        return min(_timed(unit) for _ in range(7))

    def _timed(unit):
        started = perf_counter()
        for _ in range(20):
            canonical(unit)
        return perf_counter() - started

    # Hashing or normalising all of it would cost 2,000 times as much.
    assert cost(make(10_000_000)) < 50 * cost(make(5_000))


def test_a_canonical_name_is_never_much_longer_than_the_cap():
    hostile = ["u" * 10**7, "\U0001f600" * 10**6, b"u" * 10**7, 1 << 10**7]
    assert max(len(canonical(unit)) for unit in hostile) < 1024 * 4 + 32
