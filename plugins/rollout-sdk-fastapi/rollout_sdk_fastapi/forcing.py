"""Forced variants: a signed header by which QA sees a variant, whatever chance says."""

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
    """The key's bytes.

    Raises:
        ConfigurationError: It has fewer than 16 bytes.
    """
    found = key.encode() if isinstance(key, str) else key
    if len(found) < _SHORTEST_KEY:
        raise ConfigurationError(
            f"force_key has {len(found)} bytes. Who knows the key chooses variants, so it has 16 bytes at least. "
            "Make one with: python -c 'import secrets; print(secrets.token_hex(16))'"
        )
    return found


def force_value(key: str | bytes, variants: Mapping[str, str], *, expires_s: float) -> str:
    """The value of the header `X-Rollout-Force` that forces a variant for each of these rollouts.

        force_value(key, {"shop.rank": "candidate"}, expires_s=time.time() + 3600)

    Args:
        key: The middleware's `force_key`.
        variants: Variant by key of the rollout.
        expires_s: When it ends, in seconds since 1970.

    Raises:
        ConfigurationError: The key is too short.
    """
    pairs = ",".join(f"{quote(rollout, _SAFE)}={quote(variant, _SAFE)}" for rollout, variant in variants.items())
    said = f"{pairs};expires={int(expires_s)}"
    return f"{said};signature={_signature(as_key(key), said)}"


def forced_by(value: str, key: bytes) -> dict[str, str]:
    """Variants by rollout; empty where the signature is wrong, the time is over, or the text is anything else."""
    said, _, signature = value[:_LONGEST].rpartition(";signature=")
    if not hmac.compare_digest(signature.encode(), _signature(key, said).encode()):
        return {}
    pairs, _, expires = said.partition(";expires=")
    if not expires.isdigit() or int(expires) < time():
        return {}
    split = (pair.partition("=") for pair in pairs.split(",") if pair)
    return {unquote(rollout): unquote(variant) for rollout, _, variant in split}


def _signature(key: bytes, said: str) -> str:
    return hmac.digest(key, said.encode(), hashlib.sha256).hex()
