"""Forced variants: a signed header with which QA selects a variant."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from time import time
from typing import Final
from urllib.parse import quote, unquote

from rollout_sdk import ConfigurationError

__all__ = ["FORCE_HEADER", "as_key", "force_value", "forced_by"]

FORCE_HEADER: Final = "x-rollout-force"
_SHORTEST_KEY: Final = 16
_LONGEST: Final = 2_000
_SAFE: Final = "._-:/"


def as_key(key: str | bytes) -> bytes:
    """Return the key's bytes.

    Raises:
        ConfigurationError: It has fewer than 16 bytes.
    """
    found = key.encode() if isinstance(key, str) else key
    if len(found) < _SHORTEST_KEY:
        raise ConfigurationError(
            f"force_key has {len(found)} bytes. Anyone with the key can choose variants, so it needs at least 16 bytes. "
            "Make one with: python -c 'import secrets; print(secrets.token_hex(16))'"
        )
    return found


def force_value(key: str | bytes, variants: Mapping[str, str], *, expires_s: float) -> str:
    """Return the value of the header `X-Rollout-Force` that forces a variant for each of these rollouts.

        force_value(key, {"shop.rank": "candidate"}, expires_s=time.time() + 3600)

    Args:
        key: The middleware's `force_key`.
        variants: Variant by key of the rollout.
        expires_s: Time of expiry, in seconds since 1970.

    Raises:
        ConfigurationError: The key is too short.
    """
    pairs = ",".join(f"{quote(rollout, _SAFE)}={quote(variant, _SAFE)}" for rollout, variant in variants.items())
    signed = f"{pairs};expires={int(expires_s)}"
    return f"{signed};signature={_signature(as_key(key), signed)}"


def forced_by(value: str, key: bytes) -> dict[str, str]:
    """Return variants by rollout; empty if the signature is wrong, the value has expired, or it is malformed."""
    signed, _, signature = value[:_LONGEST].rpartition(";signature=")
    if not hmac.compare_digest(signature.encode(), _signature(key, signed).encode()):
        return {}
    pairs, _, expires = signed.partition(";expires=")
    if not expires.isdigit() or int(expires) < time():
        return {}
    split = (pair.partition("=") for pair in pairs.split(",") if pair)
    return {unquote(rollout): unquote(variant) for rollout, _, variant in split}


def _signature(key: bytes, signed: str) -> str:
    return hmac.digest(key, signed.encode(), hashlib.sha256).hex()
