"""Signatures of the Standard Webhooks specification, version 1.0 (symmetric)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from rollout_sdk import ConfigurationError

__all__ = ["as_secret", "signature"]

_PREFIX: Final = "whsec_"
_SHORTEST: Final = 24
_CURE: Final = (
    "A secret is 'whsec_' and the base64 of 24 to 64 random bytes. Make one with: python -c "
    "\"import base64, secrets; print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\""
)


def as_secret(secret: str) -> bytes:
    """Return the bytes of a secret.

    Raises:
        ConfigurationError: It does not have the specification's form. The message does not contain the secret.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else b""
    except binascii.Error:
        key = b""
    if not _SHORTEST <= len(key) <= 64:
        raise ConfigurationError(f"secret= of Webhook is not a secret of Standard Webhooks. {_CURE}")
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`. It covers id, time and body, so that none can be replaced."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
