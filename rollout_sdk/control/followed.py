"""What was done already of a control file, as a note in the store, so that a process that starts later undoes nothing."""

from __future__ import annotations

import json
from hashlib import blake2b

from attrs import asdict, frozen

from rollout_sdk.control.file import WantedRollout

__all__ = ["FOLLOWED", "Followed", "followed"]

FOLLOWED = "control file"
"""Name of the note."""


@frozen
class Followed:
    """A control file's wish about a rollout that a process has done, or has found impossible.

    Attributes:
        epoch: The epoch of the rollout: another version of its candidates is another rollout.
        version: Version of the file.
        wish: What it wants, as a hash.
    """

    epoch: int
    version: int
    wish: str

    def covers(self, later: Followed) -> bool:
        """Whether there is nothing left to do for another wish: it is the same, or of an older file."""
        return self.epoch == later.epoch and (self.wish == later.wish or self.version > later.version)

    def as_text(self) -> str:
        """The note."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> Followed | None:
        """What a note says; None for one that is missing or says nothing that is known."""
        try:
            return None if text is None else cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


def followed(wanted: WantedRollout, *, epoch: int, version: int) -> Followed:
    """The note about this wish."""
    return Followed(epoch, version, blake2b(repr(wanted).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest())
