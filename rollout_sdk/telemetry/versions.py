"""The version of a rollout as the feature-flag convention means it: another one whenever somebody would decide differently."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from rollout_sdk.assignment import Phase

__all__ = ["Versions"]

_MOST_KNOWN = 1_000


class Versions:
    """Versions of fingerprint, phase and shares: 8 hexadecimal digits, the same in every process."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Know none yet."""
        self._known: dict[int, tuple[Phase, str]] = {}

    def __call__(self, phase: Phase) -> str:
        """The version of a phase; computed once for each."""
        known = self._known.get(id(phase))
        # The phase is kept beside it, so that its id is of no other.
        if known is not None and known[0] is phase:
            return known[1]
        version = self.of(phase.fingerprint, phase.name, phase.all_shares)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[id(phase)] = phase, version
        return version

    @staticmethod
    def of(fingerprint: str, phase: str, shares: Mapping[str, float]) -> str:
        """The version of these shares."""
        said = "\x1f".join([fingerprint, phase, *(f"{name}={share!r}" for name, share in sorted(shares.items()))])
        return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
