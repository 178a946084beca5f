"""Units as bytes, and their keyed hash: three independent draws in one digest."""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Hashable, Iterable
from datetime import date
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from numbers import Integral, Real
from uuid import UUID

from rollout_sdk.resilience.interruptions import is_fault

__all__ = [
    "BUCKETS",
    "DEFAULT_SALT",
    "INTERVAL",
    "UnitHash",
    "bucket_of",
    "canonical",
    "holdout_point",
    "key_id",
    "kind_of",
    "point_of",
    "pseudonym",
    "pseudonyms",
    "unit_hash",
]

BUCKETS = 512
"""Statistics buckets: enough for a variance with 6 % relative error, few enough for constant memory."""

DEFAULT_SALT = b"rollout_sdk"
"""Hash key when none is set. Public: whoever may choose ids can then choose an arm; set a key where that matters."""

INTERVAL = 1 << 32
"""Points of the unit interval."""

_LONGEST_ID = 1024
_NFD_GROWTH = 4
"""A text of n composed characters has at most 4 n in any other form of Unicode."""

_MOST_PARTS = 64
_DEEPEST = 4
_BUCKET_MASK = BUCKETS - 1
_HOLDOUT_SHIFT = 9
_HOLDOUT_MASK = (1 << 23) - 1


def canonical(unit: object) -> bytes | None:
    """The bytes that stand for a unit, or None when it names nobody (None, NaN, an empty text) or is of no known type.

    A unit is its text: 42, "42", 42.0, `Decimal("42")` and numpy's 42 are one, because ids are numbers in one system and text
    in the next. A UUID is its text, a date its ISO form, a member of an enumeration its value. Booleans, bytes and tuples are
    no text: True is not "True". Text is compared in its composed form (NFC), and case and leading zeros count. Of an id over
    1,024 characters, bytes or bits only both ends and the length count, so that a hostile id costs no time. Never raises.
    """
    # Nearly every unit is a short plain text.
    if type(unit) is str and 0 < len(unit) <= _LONGEST_ID and unit.isascii():
        return b"s" + unit.encode()
    try:
        return _canonical(unit, 0, [_MOST_PARTS])
    # An object that lies about its type, or whose `__index__` fails, names nobody.
    except BaseException as error:
        if not is_fault(error):
            raise
        return None


def _canonical(unit: object, depth: int, left: list[int]) -> bytes | None:
    """The bytes of a unit, or of a part of one; `left` is how many more parts it may have in all."""
    if isinstance(unit, str):
        return _text(unit) if unit else None
    if isinstance(unit, bool):
        return b"t" if unit else b"f"
    if isinstance(unit, int):
        return _integer(unit)
    if isinstance(unit, bytes):
        return (b"b" + unit if len(unit) <= _LONGEST_ID else b"B" + _ends(unit)) if unit else None
    if isinstance(unit, UUID):
        return b"s%s" % str(unit).encode()
    if isinstance(unit, tuple):
        left[0] -= len(unit)
        if not unit or left[0] < 0 or depth == _DEEPEST:
            return None
        parts = [_canonical(part, depth + 1, left) for part in unit]
        # Each part's length comes first, so that ("a", "bc") and ("ab", "c") are not one.
        return None if None in parts else b"(" + b"".join(b"%d:" % len(part) + part for part in parts if part is not None)
    if isinstance(unit, Enum):
        return _canonical(unit.value, depth, left)
    # Datetimes, too; NaT of pandas is one of them, and no day.
    if isinstance(unit, date):
        return _text(unit.isoformat()) if unit == unit else None  # noqa: PLR0124
    if isinstance(unit, float | Decimal):
        return _number(unit)
    if isinstance(unit, Real) and not isinstance(unit, Integral):
        return _number(float(unit))
    return _integer(operator.index(unit))  # type: ignore[arg-type]


def _number(number: float | Decimal) -> bytes | None:
    """A number as text: a whole one as the integer that it is, any other as the shortest text that gives it."""
    exact = Decimal(number)
    if exact.is_nan():
        return None
    if exact.is_finite() and exact.adjusted() < _LONGEST_ID and exact == exact.to_integral_value():
        return _integer(int(exact))
    text = repr(float(number))
    if isinstance(number, Decimal) and Decimal(text) != number:
        text = str(number)
    return _text(text)


def kind_of(unit: object) -> str:
    """What kind of id a unit is: those of one kind are written alike."""
    if isinstance(unit, Enum):
        return kind_of(unit.value)
    if isinstance(unit, bool):
        return "booleans"
    for types, kind in _KINDS:
        if isinstance(unit, types):
            return kind
    return "numbers"


_KINDS: tuple[tuple[type, str], ...] = (
    (str, "text"),
    (bytes, "bytes"),
    (tuple, "tuples"),
    (UUID, "UUIDs"),
    (date, "dates"),
)


def _text(unit: str) -> bytes:
    text = unit
    if not text.isascii() and len(text) <= _LONGEST_ID * _NFD_GROWTH:
        text = unicodedata.normalize("NFC", text)
    if len(text) <= _LONGEST_ID:
        return b"s" + text.encode("utf-8", "surrogatepass")
    half = _LONGEST_ID // 2
    return b"S" + f"{len(text)}:{text[:half]}{text[-half:]}".encode("utf-8", "surrogatepass")


def _integer(number: int) -> bytes:
    bits = number.bit_length()
    if bits <= _LONGEST_ID:
        return b"s%d" % number
    half = _LONGEST_ID // 2
    return b"I%d:%d:%d" % (bits, number >> (bits - half), number & ((1 << half) - 1))


def _ends(raw: bytes) -> bytes:
    half = _LONGEST_ID // 2
    return b"%d:" % len(raw) + raw[:half] + raw[-half:]


class UnitHash:
    """The keyed hash of one rollout (or layer): a prepared hasher that is copied for every unit.

    Attributes:
        prepared: The hasher to copy.
    """

    __slots__ = ("prepared",)

    def __init__(self, salt: str, key: bytes | None = None) -> None:
        """Prepare the hash.

        Args:
            salt: The rollout's key, or the layer's name: what makes two rollouts independent.
            key: Secret of at most 64 bytes; `DEFAULT_SALT` when there is none.
        """
        self.prepared = blake2b(digest_size=8, key=DEFAULT_SALT if key is None else key)
        name = salt.encode("utf-8", "surrogatepass")
        # The length comes first, so that ("a", "bc") and ("ab", "c") are not one.
        self.prepared.update(b"%d:" % len(name) + name)

    def __call__(self, unit: bytes) -> int:
        """The 64-bit digest of a canonical unit."""
        hasher = self.prepared.copy()
        hasher.update(unit)
        return int.from_bytes(hasher.digest(), "big")


def key_id(key: bytes | None) -> str:
    """What tells two hash keys apart without telling either: 8 hexadecimal digits, or "default" where none is set."""
    return "default" if key is None else blake2b(key=key, digest_size=4, person=b"rollout-key").hexdigest()


def unit_hash(rollout: str, layer: str | None, key: bytes | None) -> UnitHash:
    """The hash of a rollout's units: rollouts of one layer share it.

    Args:
        rollout: Key of the rollout.
        layer: Name of its layer; None without one.
        key: Secret of at most 64 bytes; `DEFAULT_SALT` when there is none.
    """
    # No key can hold the separator: no rollout alone is hashed as a layer is.
    return UnitHash(rollout if layer is None else f"layer\0{layer}", key)


def point_of(digest: int) -> float:
    """The unit's point, a multiple of 2**-32 in [0, 1)."""
    return (digest >> 32) / INTERVAL


def bucket_of(digest: int) -> int:
    """The unit's statistics bucket, from 0 to 511."""
    return digest & _BUCKET_MASK


def holdout_point(digest: int) -> float:
    """A second point in [0, 1), independent of the first and of the bucket."""
    return (digest >> _HOLDOUT_SHIFT & _HOLDOUT_MASK) / (_HOLDOUT_MASK + 1)


def pseudonym(digest: int) -> str:
    """A digest as it stands in records: 16 hexadecimal digits."""
    return f"{digest:016x}"


def pseudonyms(hash_: UnitHash, keys: Iterable[Hashable]) -> tuple[str, ...]:
    """Pseudonyms of item keys; a key of no canonical form stands for itself by its repr."""
    return tuple(pseudonym(hash_(canonical(key) or b"o" + repr(key).encode("utf-8", "surrogatepass"))) for key in keys)
