"""Decision ids and item tokens, which carry everything needed to attribute an outcome in any process without a look-up.

An id is base64url text of (version, rollout key, phase, variant, bucket, time, nonce, fingerprint); the token of an item in an
interleaved list adds position, the item's pseudonym and its credit. With a key they end in a MAC, which is verified; without a
key they end in a checksum, which detects damage but not forgery. They contain no unit.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import b2a_base64, crc32
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TypeGuard

from attrs import frozen

from rollout_sdk.assignment.hashing import BUCKETS
from rollout_sdk.exceptions import ConfigurationError, DecisionIdError
from rollout_sdk.formatting import brief
from rollout_sdk.records.sampling import HIGHEST_LEVEL, rate_of

__all__ = ["DecodedId", "IdTemplate", "ItemToken", "check_name", "decode_id", "encode_id", "encode_token", "read_token"]

_SEPARATOR = "\x1f"
_ID, _TOKEN = "1", "2"
_MAC_BYTES = 8
_CHECKSUM_BYTES = 4
_LONGEST_NAME = 200
# Three names of up to four bytes per character, the small fields, and base64 around them; a token contains a whole id.
_LONGEST_ID = 16384
_BUCKETS = [f"{bucket:x}" for bucket in range(BUCKETS)]
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_NUMBER = re.compile(r"[0-9a-f]{1,15}")
_LEVEL = re.compile(r"~(\d{1,2})-?\Z")
_FINGERPRINT = re.compile(r"[0-9a-f]{0,64}")


@frozen
class DecodedId:
    """The contents of a decision id.

    Attributes:
        rollout: Key of the rollout.
        phase: Name of the phase at decision time.
        variant: The assigned variant.
        bucket: The unit's statistics bucket.
        time_s: Time of the decision, in seconds since 1970, to the millisecond.
        nonce: Makes the id unique.
        fingerprint: Fingerprint of comparable decisions; empty in ids of earlier SDKs.
    """

    rollout: str
    phase: str
    variant: str
    bucket: int
    time_s: float
    nonce: str
    fingerprint: str = ""

    @property
    def rate(self) -> float:
        """The share of the calls that was kept when this one began: below 1 under overload."""
        level = _LEVEL.search(self.nonce)
        return 1.0 if level is None else rate_of(min(int(level[1]), HIGHEST_LEVEL))

    @property
    def excluded(self) -> bool:
        """Whether the decision was not the strategy's own, so that its outcomes are not analysed."""
        return self.nonce.endswith("-")


@frozen
class ItemToken:
    """The contents of an item token.

    Attributes:
        decision_id: Id of the decision that showed the item.
        position: Position in the list, from 0.
        item: The item's pseudonym, as in the journal.
        credit: Credit of a click for each ranker, by name; empty for a neutral item. None if it depends on the other clicks on
            the list (`Balanced`, `PairwisePreference`): then the journal's rule assigns it.
    """

    decision_id: str
    position: int
    item: str
    credit: Mapping[str, float] | None


def is_name(name: object) -> TypeGuard[str]:
    """Whether a name is printable text of 1 to 200 characters."""
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()


def check_name(name: object, what: str) -> str:
    """Return a name that is valid in an id, a metric label and a log line.

    Raises:
        ConfigurationError: The name is not printable text of 1 to 200 characters.
    """
    if is_name(name):
        return name
    raise ConfigurationError(
        f"The {what} is {name!r:.80}. Names are printable text of 1 to {_LONGEST_NAME} characters. Choose another."
    )


def _mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_MAC_BYTES, person=b"rollout-id").digest()


def encode_id(
    rollout: str,
    phase: str,
    variant: str,
    bucket: int,
    time_ns: int,
    nonce: str,
    key: bytes | None = None,
    *,
    fingerprint: str = "",
) -> str:
    """Return the id of a decision, signed if there is a key."""
    fields = (rollout, phase, variant, f"{bucket:x}", f"{time_ns // 1_000_000:x}", nonce)
    return _sealed(_ID, (*fields, fingerprint) if fingerprint else fields, key)


class IdTemplate:
    """Encodes the ids of decisions that differ in bucket, time and nonce only: as `encode_id`, in a fifth of the time."""

    __slots__ = ("_begun", "_checked", "_end", "_key", "_rest", "_start")

    def __init__(self, rollout: str, phase: str, variant: str, key: bytes | None = None, *, fingerprint: str = "") -> None:
        """Prepare what they share; see `encode_id`."""
        kind = _ID if key is None else f"{_ID}s"
        self._start = _SEPARATOR.join((kind, rollout, phase, variant, "")).encode()
        self._end = f"{_SEPARATOR}{fingerprint}" if fingerprint else ""
        self._key = key
        # Base64 writes three bytes at a time, and a checksum goes on from that of what comes before.
        whole = len(self._start) // 3 * 3
        self._begun, self._rest = urlsafe_b64encode(self._start[:whole]), self._start[whole:]
        self._checked = crc32(self._start)

    def each(
        self, buckets: Iterable[int], times_ns: Iterable[int], sequences: Iterable[int], *, origin: str = "", end: str = ""
    ) -> list[str]:
        """Return the ids of many decisions.

        Args:
            buckets: Bucket of each unit.
            times_ns: Time of each decision, in nanoseconds since 1970.
            sequences: Number in each nonce, which is written between `origin` and `end`.
            origin: Beginning of the nonces.
            end: End of the nonces.
        """
        begun, start, rest, checked, key = self._begun, self._start, self._rest, self._checked, self._key
        ids: list[bytes] = []
        add, end, last, time = ids.append, f"{end}{self._end}", -1, ""
        for bucket, time_ns, sequence in zip(buckets, times_ns, sequences, strict=False):
            time_ms = time_ns // 1_000_000
            # Calls that are written together are of few milliseconds.
            if time_ms != last:
                last, time = time_ms, f"{_SEPARATOR}{time_ms:x}{_SEPARATOR}{origin}"
            tail = f"{_BUCKETS[bucket]}{time}{sequence:x}{end}".encode()
            seal = crc32(tail, checked).to_bytes(_CHECKSUM_BYTES, "big") if key is None else _mac(start + tail, key)
            add(begun + b2a_base64(rest + tail + seal))
        # Each ends with a newline: together, they are made safe for URLs at once.
        return b"".join(ids).translate(_URL_SAFE, b"=").decode("ascii").splitlines()


def encode_token(
    decision_id: str, position: int, item: str, credit: Mapping[str, float] | None, key: bytes | None = None
) -> str:
    """Return the token of an item that a decision showed, signed if there is a key."""
    credits_ = ("-",) if credit is None else tuple(part for name, value in credit.items() for part in (name, f"{value:.9g}"))
    return _sealed(_TOKEN, (decision_id, f"{position:x}", item, *credits_), key)


def _sealed(kind: str, fields: tuple[str, ...], key: bytes | None) -> str:
    body = _SEPARATOR.join((kind if key is None else f"{kind}s", *fields)).encode()
    return _as_text(body + (_checksum(body) if key is None else _mac(body, key)))


def _checksum(body: bytes) -> bytes:
    return crc32(body).to_bytes(_CHECKSUM_BYTES)


def _as_text(body: bytes) -> str:
    return urlsafe_b64encode(body).rstrip(b"=").decode("ascii")


def decode_id(text: object, key: bytes | None = None) -> DecodedId:
    """Decode a decision id.

    Raises:
        DecisionIdError: The text is not a decision id, is damaged, or has no valid signature under `key`.
    """
    fields = _opened(_ID, text, key)
    try:
        rollout, phase, variant, bucket, time_ms, nonce, *rest = fields
        # Ids of earlier SDKs have no fingerprint.
        (fingerprint,) = rest or ("",)
    except ValueError:
        raise _damaged(text) from None
    # Without a key, ids can be forged: reject names that no rollout, phase or variant can have.
    numbers = _NUMBER.fullmatch(bucket) and _NUMBER.fullmatch(time_ms) and _FINGERPRINT.fullmatch(fingerprint)
    if not (numbers and all(map(is_name, (rollout, phase, variant)))):
        raise _damaged(text)
    return DecodedId(rollout, phase, variant, int(bucket, 16), int(time_ms, 16) / 1000, nonce, fingerprint)


def read_token(text: object, key: bytes | None = None) -> ItemToken:
    """Decode an item token, which is enough to credit a click without a journal.

    Raises:
        DecisionIdError: The text is not a token, is damaged, or has no valid signature under `key`.
    """
    fields = _opened(_TOKEN, text, key)
    try:
        decision_id, position, item, *credits_ = fields
        names, values = credits_[::2], credits_[1::2]
        credit = None if credits_ == ["-"] else {name: float(value) for name, value in zip(names, values, strict=True)}
    except ValueError:
        raise _damaged(text) from None
    if not _NUMBER.fullmatch(position):
        raise _damaged(text)
    return ItemToken(decision_id, int(position, 16), item, credit)


def _opened(kind: str, text: object, key: bytes | None) -> list[str]:
    """Verify an id or token and return its fields.

    Raises:
        DecisionIdError: The text is neither, is damaged, or has no valid signature under `key`.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_ID:
        raise DecisionIdError(
            f"{brief(text)} is not a decision id. Ids are texts made by this SDK. Pass on `decision.id` unchanged."
        )
    try:
        body = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raise _damaged(text) from None
    # Base64 ignores foreign characters and spare bits: such an id would decode, but match no decision.
    if _as_text(body) != text:
        raise _damaged(text)
    if key is not None:
        body, mac = body[:-_MAC_BYTES], body[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, _mac(body, key)):
            raise DecisionIdError(
                f"The decision id {brief(text)} is not signed with this runtime's key. "
                "With a key set, only ids of processes with the same key count. Set the same ROLLOUT_KEY everywhere."
            )
    elif body.startswith(f"{kind}s{_SEPARATOR}".encode()):
        raise DecisionIdError(
            f"The decision id {brief(text)} is signed, and this runtime has no key to check it. "
            "An unchecked signature gives no protection. Set ROLLOUT_KEY here too."
        )
    else:
        body, checksum = body[:-_CHECKSUM_BYTES], body[-_CHECKSUM_BYTES:]
        if checksum != _checksum(body):
            raise _damaged(text)
    try:
        found, *fields = body.decode().split(_SEPARATOR)
    except ValueError:
        raise _damaged(text) from None
    if found != (kind if key is None else f"{kind}s"):
        raise _damaged(text)
    return fields


def _damaged(text: object) -> DecisionIdError:
    return DecisionIdError(
        f"The decision id {brief(text)} cannot be read. An id is opaque and must come back whole. "
        "Check that nothing shortens or re-encodes it."
    )
