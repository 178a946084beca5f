"""The bytes that stand for a unit."""

import enum
import sys
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from time import perf_counter
from uuid import UUID

import numpy as np
import pandas as pd
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


class Plan(enum.Enum):
    PRO = "pro"
    FREE = 42


class Region(enum.StrEnum):
    NORTH = "north"


class Shard(enum.IntEnum):
    FIRST = 1


SAME = {
    "42": [
        42,
        "42",
        42.0,
        Decimal(42),
        Decimal("42.00"),
        Decimal("4.2E+1"),
        np.int64(42),
        np.uint8(42),
        np.float32(42),
        Fraction(84, 2),
        Plan.FREE,
    ],
    "0.5": [0.5, "0.5", Decimal("0.50"), np.float64(0.5), np.float32(0.5), Fraction(1, 2)],
    "0.1": [0.1, Decimal("0.1"), np.float64(0.1)],
    "0": [0, -0.0, 0.0, Decimal("-0"), np.int8(0)],
    "-7": [-7, -7.0, Decimal(-7)],
    "12345678901234567890": [12345678901234567890, np.uint64(12345678901234567890), Decimal(12345678901234567890)],
    "0.1234567890123456789": [Decimal("0.1234567890123456789")],
    "pro": [Plan.PRO],
    "north": [Region.NORTH],
    "1": [Shard.FIRST],
    "12345678-1234-5678-1234-567812345678": [UUID("12345678123456781234567812345678")],
    "2026-11-28": [date(2026, 11, 28)],
    "2026-11-28T09:30:00": [datetime(2026, 11, 28, 9, 30), pd.Timestamp("2026-11-28 09:30")],  # noqa: DTZ001
    "2026-11-28T09:30:00+00:00": [datetime(2026, 11, 28, 9, 30, tzinfo=UTC)],
    "Zo\u00eb": [np.str_("Zo\u00eb"), "Zoe\u0308"],
}


@pytest.mark.parametrize(("text", "unit"), [(text, unit) for text, units in SAME.items() for unit in units], ids=repr)
def test_a_unit_is_its_text(text, unit):
    assert canonical(text) == canonical(unit)
    assert canonical(("shop", text)) == canonical(("shop", unit))


def test_what_is_no_text_is_apart_from_all_text():
    forms = [1, True, False, b"1", (1,), (b"1",), (True,), "True", "t", "b1", "(1,)", "01", " 1", "1.5", "i1", 0]
    assert len({canonical(form) for form in forms}) == len(forms)


@pytest.mark.parametrize(
    "unit",
    [
        Decimal("1E+1000000000"),
        Decimal("1E-1000000000"),
        Decimal("-1E+400"),
        Decimal("Infinity"),
        float("inf"),
        1e308,
        5e-324,
        -0.0,
    ],
    ids=repr,
)
def test_the_largest_and_the_smallest_numbers_have_short_names(unit):
    assert 2 <= len(canonical(unit)) <= 400


@given(st.integers(-(2**1000), 2**1000))
def test_an_integer_is_its_text(number):
    assert canonical(number) == canonical(str(number)) == canonical(Decimal(number))


@given(st.floats(allow_nan=False))
def test_a_float_is_the_integer_that_it_is_or_the_decimal_that_it_is_written_as(number):
    exact = Decimal(number) if number.is_integer() else Decimal(repr(number))
    assert canonical(number) == canonical(exact)


@pytest.mark.parametrize(
    "nobody",
    [
        None,
        "",
        b"",
        float("nan"),
        np.nan,
        np.float32("nan"),
        Decimal("nan"),
        Decimal("snan"),
        pd.NaT,
        pd.NA,
        (),
        ("u", None),
        ("u", ""),
        (("u", float("nan")),),
    ],
)
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
        if isinstance(unit, bool | bytes):
            return type(unit), unit
        # 0.0 is -0.0, and both are 0.
        text = str(int(unit)) if isinstance(unit, float) and unit.is_integer() else str(unit)
        return unicodedata.normalize("NFC", text)

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


def test_minus_zero_is_zero():
    assert canonical(-0.0) == canonical(0.0)


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
