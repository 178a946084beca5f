"""Decision ids and item tokens: they carry what an outcome needs, so that any process can attribute it with no look-up.

An id is base64url text of (version, rollout key, phase, variant, bucket, time, nonce, fingerprint); the token of an item in an
interleaved list adds position, the item's pseudonym and who is credited. With a key they end in a MAC, and one without a good
MAC is refused; without a key they end in a checksum, which tells damage and is no protection against forgery. They hold no
unit.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import crc32
from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeGuard

from attrs import frozen

from rollout_sdk.exceptions import ConfigurationError, DecisionIdError
from rollout_sdk.formatting import brief

__all__ = ["DecodedId", "ItemToken", "check_name", "decode_id", "encode_id", "encode_token", "read_token"]

_SEPARATOR = "\x1f"
_ID, _TOKEN = "1", "2"
_MAC_BYTES = 8
_CHECKSUM_BYTES = 4
_LONGEST_NAME = 200
# Three names of four bytes a character, the small fields, and base64 around it all; a token holds all that once more.
_LONGEST_ID = 16384
_NUMBER = re.compile(r"[0-9a-f]{1,15}")
_FINGERPRINT = re.compile(r"[0-9a-f]{0,64}")


@frozen
class DecodedId:
    """What a decision id says.

    Attributes:
        rollout: Key of the rollout.
        phase: Name of the phase at decision time.
        variant: The assigned variant.
        bucket: The unit's statistics bucket.
        time_s: Time of the decision, in seconds since 1970, to the millisecond.
        nonce: What makes the id unique.
        fingerprint: What makes the decision comparable with others; empty in ids of earlier SDKs.
    """

    rollout: str
    phase: str
    variant: str
    bucket: int
    time_s: float
    nonce: str
    fingerprint: str = ""

    @property
    def excluded(self) -> bool:
        """Whether the decision was not the strategy's own, so that its outcomes are not analysed."""
        return self.nonce.endswith("-")


@frozen
class ItemToken:
    """What the token of an item in an interleaved list says.

    Attributes:
        decision_id: Id of the decision that showed it.
        position: Its position in the list, from 0.
        item: Its pseudonym, as in the journal.
        credit: What a click on it credits each ranker with, by name; empty for a neutral item. None where that depends on the
            other clicks on the list (`Balanced`, `PairwisePreference`): then the journal's rule credits it.
    """

    decision_id: str
    position: int
    item: str
    credit: Mapping[str, float] | None


def is_name(name: object) -> TypeGuard[str]:
    """Whether it is a printable text of 1 to 200 characters."""
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()


def check_name(name: object, what: str) -> str:
    """The name, if it can stand in an id, a metric label and a log line.

    Raises:
        ConfigurationError: It is not a printable text of 1 to 200 characters.
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
    """The id of a decision; signed when there is a key."""
    fields = (rollout, phase, variant, f"{bucket:x}", f"{time_ns // 1_000_000:x}", nonce)
    return _sealed(_ID, (*fields, fingerprint) if fingerprint else fields, key)


def encode_token(
    decision_id: str, position: int, item: str, credit: Mapping[str, float] | None, key: bytes | None = None
) -> str:
    """The token of an item that a decision showed; signed when there is a key."""
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
    """What the id says.

    Raises:
        DecisionIdError: It is no decision id, is damaged, or its signature is not good under `key`.
    """
    fields = _opened(_ID, text, key)
    try:
        rollout, phase, variant, bucket, time_ms, nonce, *rest = fields
        # Ids of earlier SDKs have none.
        (fingerprint,) = rest or ("",)
    except ValueError:
        raise _damaged(text) from None
    # Without a key, anybody can make an id: what is no name of a rollout, phase or variant goes no further.
    numbers = _NUMBER.fullmatch(bucket) and _NUMBER.fullmatch(time_ms) and _FINGERPRINT.fullmatch(fingerprint)
    if not (numbers and all(map(is_name, (rollout, phase, variant)))):
        raise _damaged(text)
    return DecodedId(rollout, phase, variant, int(bucket, 16), int(time_ms, 16) / 1000, nonce, fingerprint)


def read_token(text: object, key: bytes | None = None) -> ItemToken:
    """What an item's token says: enough to credit a click on it where there is no journal.

    Raises:
        DecisionIdError: It is no token, is damaged, or its signature is not good under `key`.
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
    """The fields of an id or a token whose seal is good.

    Raises:
        DecisionIdError: It is neither, is damaged, or its signature is not good under `key`.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_ID:
        raise DecisionIdError(
            f"{brief(text)} is no decision id. Ids are texts made by this SDK. Pass `decision.id` on as it is."
        )
    try:
        body = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raise _damaged(text) from None
    # Base64 passes over foreign characters and spare bits: such an id would be read here, and then match no decision.
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
            "A signature that nobody checks protects nobody. Set ROLLOUT_KEY here too."
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
