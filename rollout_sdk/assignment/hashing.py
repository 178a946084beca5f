"""Canonical bytes of units, and their keyed hash: three independent draws in one digest."""

from __future__ import annotations

import operator
import sys
import unicodedata
from array import array
from collections.abc import Collection, Hashable, Iterable
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
    "LONGEST_ID",
    "UnitHash",
    "bucket_of",
    "canonical",
    "holdout_point",
    "key_id",
    "kind_of",
    "point_of",
    "pseudonym",
    "pseudonyms",
    "pseudonyms_of",
    "unit_hash",
]

BUCKETS = 512
"""Number of statistics buckets: enough for a variance with 6 % relative error, few enough for constant memory."""

DEFAULT_SALT = b"rollout_sdk"
"""Hash key if none is set. It is public: anyone who can choose ids can then choose an arm; set a key if that matters."""

INTERVAL = 1 << 32
"""Number of points of the unit interval."""

LONGEST_ID = 1024
"""Characters, bytes or bits of an id that count."""

_NFD_GROWTH = 4
"""A text of n composed characters has at most 4 n in any other Unicode form."""

_MOST_PARTS = 64
_DEEPEST = 4
_BUCKET_MASK = BUCKETS - 1
_HOLDOUT_SHIFT = 9
_HOLDOUT_MASK = (1 << 23) - 1


def canonical(unit: object) -> bytes | None:
    """Return the canonical bytes of a unit, or None if it is missing (None, NaN, an empty text) or of an unknown type.

    A unit is its text: 42, "42", 42.0, `Decimal("42")` and numpy's 42 are the same unit, because ids are numbers in one system
    and text in the next. A UUID is its text, a date its ISO form, an enumeration member its value. Booleans, bytes and tuples
    are not text: True is not "True". Text is compared in its composed form (NFC); case and leading zeros matter. Of an id over
    1,024 characters, bytes or bits, only both ends and the length count, so a hostile id costs no time. Never raises.
    """
    # Fast path: almost every unit is a short ASCII string.
    if type(unit) is str and 0 < len(unit) <= LONGEST_ID and unit.isascii():
        return b"s" + unit.encode()
    try:
        return _canonical(unit, 0, [_MOST_PARTS])
    # An object that lies about its type, or whose `__index__` fails, counts as missing.
    except BaseException as error:
        if not is_fault(error):
            raise
        return None


def _canonical(unit: object, depth: int, left: list[int]) -> bytes | None:
    """Return the bytes of a unit, or of a part of one; `left` holds the number of parts still allowed."""
    if isinstance(unit, str):
        return _text(unit) if unit else None
    if isinstance(unit, bool):
        return b"t" if unit else b"f"
    if isinstance(unit, int):
        return _integer(unit)
    if isinstance(unit, bytes):
        return (b"b" + unit if len(unit) <= LONGEST_ID else b"B" + _ends(unit)) if unit else None
    if isinstance(unit, UUID):
        return b"s%s" % str(unit).encode()
    if isinstance(unit, tuple):
        left[0] -= len(unit)
        if not unit or left[0] < 0 or depth == _DEEPEST:
            return None
        parts = [_canonical(part, depth + 1, left) for part in unit]
        # Prefixed with each part's length, so that ("a", "bc") and ("ab", "c") differ.
        return None if None in parts else b"(" + b"".join(b"%d:" % len(part) + part for part in parts if part is not None)
    if isinstance(unit, Enum):
        return _canonical(unit.value, depth, left)
    # Includes datetimes, and pandas' NaT, which is a datetime but not a date.
    if isinstance(unit, date):
        return _text(unit.isoformat()) if unit == unit else None  # noqa: PLR0124
    if isinstance(unit, float | Decimal):
        return _number(unit)
    if isinstance(unit, Real) and not isinstance(unit, Integral):
        return _number(float(unit))
    return _integer(operator.index(unit))  # type: ignore[arg-type]


def _number(number: float | Decimal) -> bytes | None:
    """Return a number as text: a whole number as an integer, any other as the shortest text that parses back to it."""
    exact = Decimal(number)
    if exact.is_nan():
        return None
    if exact.is_finite() and exact.adjusted() < LONGEST_ID and exact == exact.to_integral_value():
        return _integer(int(exact))
    text = repr(float(number))
    if isinstance(number, Decimal) and Decimal(text) != number:
        text = str(number)
    return _text(text)


def kind_of(unit: object) -> str:
    """Return the kind of id that a unit is; units of one kind are written the same way."""
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
    if not text.isascii() and len(text) <= LONGEST_ID * _NFD_GROWTH:
        text = unicodedata.normalize("NFC", text)
    if len(text) <= LONGEST_ID:
        return b"s" + text.encode("utf-8", "surrogatepass")
    half = LONGEST_ID // 2
    return b"S" + f"{len(text)}:{text[:half]}{text[-half:]}".encode("utf-8", "surrogatepass")


def _integer(number: int) -> bytes:
    bits = number.bit_length()
    if bits <= LONGEST_ID:
        return b"s%d" % number
    half = LONGEST_ID // 2
    return b"I%d:%d:%d" % (bits, number >> (bits - half), number & ((1 << half) - 1))


def _ends(raw: bytes) -> bytes:
    half = LONGEST_ID // 2
    return b"%d:" % len(raw) + raw[:half] + raw[-half:]


class UnitHash:
    """The keyed hash of one rollout (or layer): a prepared hasher, copied for every unit.

    Attributes:
        prepared: The hasher to copy.
    """

    __slots__ = ("prepared",)

    def __init__(self, salt: str, key: bytes | None = None) -> None:
        """Prepare the hash.

        Args:
            salt: The rollout's key, or the layer's name; makes rollouts independent of each other.
            key: Secret of at most 64 bytes; `DEFAULT_SALT` if None.
        """
        self.prepared = blake2b(digest_size=8, key=DEFAULT_SALT if key is None else key)
        name = salt.encode("utf-8", "surrogatepass")
        # Prefixed with the length, so that ("a", "bc") and ("ab", "c") differ.
        self.prepared.update(b"%d:" % len(name) + name)

    def __call__(self, unit: bytes) -> int:
        """Return the 64-bit digest of a canonical unit."""
        hasher = self.prepared.copy()
        hasher.update(unit)
        return int.from_bytes(hasher.digest(), "big")

    def each(self, units: Iterable[bytes], *, prefix: bytes = b"") -> array[int]:
        """Return the digests of many canonical units, of which each begins with `prefix`, left out in `units`."""
        prepared = self.prepared
        if prefix:
            prepared = prepared.copy()
            prepared.update(prefix)
        found: list[bytes] = []
        copy, add = prepared.copy, found.append
        for unit in units:
            hasher = copy()
            hasher.update(unit)
            add(hasher.digest())
        digests = array("Q", b"".join(found))
        if sys.byteorder == "little":
            digests.byteswap()
        return digests

    def each_text(self, texts: Collection[str]) -> array[int] | None:
        """Return the digests of many texts, as of their canonical units; None if one is not a short text of ASCII."""
        if not (all(texts) and all(map(str.isascii, texts)) and max(map(len, texts), default=0) <= LONGEST_ID):
            return None
        return self.each(map(str.encode, texts), prefix=b"s")


def key_id(key: bytes | None) -> str:
    """Return a short id of a hash key that does not reveal it: 8 hexadecimal digits, or "default" if none is set."""
    return "default" if key is None else blake2b(key=key, digest_size=4, person=b"rollout-key").hexdigest()


def unit_hash(rollout: str, layer: str | None, key: bytes | None) -> UnitHash:
    """Return the hash of a rollout's units, shared by all rollouts of a layer.

    Args:
        rollout: Key of the rollout.
        layer: Name of its layer, or None.
        key: Secret of at most 64 bytes; `DEFAULT_SALT` if None.
    """
    # Keys cannot contain the separator, so no rollout is hashed like a layer.
    return UnitHash(rollout if layer is None else f"layer\0{layer}", key)


def point_of(digest: int) -> float:
    """Return the unit's point, a multiple of 2**-32 in [0, 1)."""
    return (digest >> 32) / INTERVAL


def bucket_of(digest: int) -> int:
    """Return the unit's statistics bucket, from 0 to 511."""
    return digest & _BUCKET_MASK


def holdout_point(digest: int) -> float:
    """Return a second point in [0, 1), independent of the first and of the bucket."""
    return (digest >> _HOLDOUT_SHIFT & _HOLDOUT_MASK) / (_HOLDOUT_MASK + 1)


def pseudonym(digest: int) -> str:
    """Format a digest for records: 16 hexadecimal digits."""
    return f"{digest:016x}"


def pseudonyms_of(digests: array[int]) -> list[str]:
    """Format many digests as `pseudonym` does."""
    ordered = array("Q", digests)
    if sys.byteorder == "little":
        ordered.byteswap()
    whole = ordered.tobytes().hex()
    return [whole[start : start + 16] for start in range(0, len(whole), 16)]


def pseudonyms(hash_: UnitHash, keys: Iterable[Hashable]) -> tuple[str, ...]:
    """Return pseudonyms of item keys; a key without a canonical form is represented by its repr."""
    return tuple(pseudonym(hash_(canonical(key) or b"o" + repr(key).encode("utf-8", "surrogatepass"))) for key in keys)
