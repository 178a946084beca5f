"""The control file: by it an operator steers every process that reads it, with no restart and no server.

    version = 7                # a lower one than was read already is refused
    disabled = false           # true: no candidate runs, in any rollout; false again: they go on

    [rollouts."shop.rank"]
    status = "running"         # or "paused", or "aborted", which is final
    share = "5%"               # of the candidate; with several: share = { v2 = "5%", v3 = "1%" }

    [rollouts."shop.rank".canary]   # another plan for a canary, as in `rollout_sdk.plan.table`
    steps = ["1%", { share = "10%", min_time = "2h" }, "50%"]

A file is taken as a whole or not at all: what cannot be read, is half written, names an unknown setting or gives shares that
do not add up leaves everything as it was. At the start nothing was before: no candidate runs until the file can be taken.
Write it aside and rename it into place.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from hashlib import blake2b
from json import dumps, loads
from pathlib import Path
from typing import Any, Literal

from attrs import Factory, asdict, frozen

from rollout_sdk.assignment import parse_share
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan import Criteria, as_criteria

__all__ = ["FOLLOWED", "ControlFile", "Followed", "Wanted", "WantedRollout", "followed"]

_MOST_BYTES = 1 << 20
_STATUS = ("running", "paused", "aborted")


@frozen
class WantedRollout:
    """What the operator wants of one rollout; None leaves it as it is.

    Attributes:
        status: "running", "paused" or "aborted".
        shares: Share of each named candidate; of the only one under None.
        criteria: Another plan for a canary.
    """

    status: Literal["running", "paused", "aborted"] | None = None
    shares: Mapping[str | None, float] = Factory(dict)
    criteria: Criteria | None = None


@frozen
class Wanted:
    """What a control file says.

    Attributes:
        version: Its version.
        disabled: Whether no candidate may run.
        rollouts: By key; keys that this process does not know are other processes'.
    """

    version: int = 0
    disabled: bool = False
    rollouts: Mapping[str, WantedRollout] = Factory(dict)


class ControlFile:
    """A control file, read again whenever it has changed. Used by one thread at a time.

    Attributes:
        path: Where it is.
        wanted: What it wants, as it was last taken.
        refused: Why it could not be taken at the start; None when it could, or is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read it for the first time: one that is not there yet wants nothing, and one that cannot be taken, no candidate."""
        self.path = Path(path).absolute()
        self.wanted = Wanted()
        self._read: tuple[int, ...] | None = None
        self._seen: tuple[int, ...] | None = None
        self.refused: ConfigurationError | None = None
        try:
            self._look(patient=False)
        except ConfigurationError as error:
            # It may say "disabled", or "aborted": until it is known, the control is right.
            self.wanted, self.refused = Wanted(disabled=True), error

    def poll(self) -> bool:
        """Whether the file has changed and was taken.

        It is read once, when two looks running have found it alike: somebody may be writing it in place.

        Raises:
            ConfigurationError: It has changed and cannot be taken; `wanted` is what it was.
        """
        return self._look(patient=True)

    @property
    def is_settled(self) -> bool:
        """Whether the last look found nothing that still has to be read."""
        return self._seen == self._read

    def _look(self, *, patient: bool) -> bool:
        try:
            # By the file's own status and not the link's: a mounted ConfigMap is a link that is moved.
            status = self.path.stat()
        except FileNotFoundError:
            # Somebody is replacing it, or took it away: neither is a wish.
            return False
        except OSError as error:
            raise self._refused(f"cannot be looked at: {error.strerror}") from error
        seen = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_uid)
        settled, self._seen = seen == self._seen, seen
        if seen == self._read or (patient and not settled):
            return False
        self._read = seen
        wanted = self._parsed(self._text(status))
        if wanted.version < self.wanted.version:
            raise self._refused(f"has version {wanted.version}, and version {self.wanted.version} was read already")
        self.wanted = wanted
        return True

    def _text(self, status: os.stat_result) -> str:
        if not stat.S_ISREG(status.st_mode):
            raise self._refused("is no ordinary file")
        # On Windows, every file belongs to user 0, and its mode says that everybody may write it.
        is_safe = not hasattr(os, "geteuid") or (
            status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        )
        if not is_safe:
            raise self._refused("can be written by others than its owner, or belongs to somebody else")
        if status.st_size > _MOST_BYTES:
            raise self._refused(f"has {status.st_size} bytes")
        try:
            with self.path.open("rb") as file:
                # What was looked at and what is read are one file: it could have been swapped in between.
                if os.fstat(file.fileno()).st_ino != status.st_ino:
                    raise self._refused("was replaced while it was looked at")
                return file.read(_MOST_BYTES).decode()
        except UnicodeError as error:
            raise self._refused(f"cannot be read: {error}") from error
        except OSError as error:
            # A disk may answer the next time, and the file is the same then.
            self._read = None
            raise self._refused(f"cannot be read: {error}") from error

    def _parsed(self, text: str) -> Wanted:
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._refused(f"is no TOML: {error}") from error
        self._known(table, "version", "disabled", "rollouts")
        version, disabled, rollouts = table.get("version"), table.get("disabled", False), table.get("rollouts", {})
        if not isinstance(version, int) or isinstance(version, bool) or not isinstance(disabled, bool):
            raise self._refused("has no version that is a whole number, or a disabled that is neither true nor false")
        if not isinstance(rollouts, dict) or not all(isinstance(each, dict) for each in rollouts.values()):
            raise self._refused("has rollouts that are no tables")
        return Wanted(version, disabled, {key: self._rollout(key, each) for key, each in rollouts.items()})

    def _rollout(self, key: str, table: Mapping[str, Any]) -> WantedRollout:
        self._known(table, "status", "share", "canary")
        status, share = table.get("status"), table.get("share", {})
        if status is not None and status not in _STATUS:
            raise self._refused(f"gives {key!r:.80} the status {status!r:.40}, which is none of {', '.join(_STATUS)}")
        named: Mapping[str | None, Any] = share if isinstance(share, dict) else {None: share}
        try:
            shares = {
                name: parse_share(each, f"share of {name or 'the candidate'!r} of {key!r}") for name, each in named.items()
            }
        except ConfigurationError as error:
            raise self._refused(f"has a share that is none. {error}") from error
        if sum(shares.values()) > 1:
            raise self._refused(f"gives the candidates of {key!r:.80} more than 100 %")
        plan = table.get("canary")
        if plan is not None and not isinstance(plan, dict):
            raise self._refused(f"has a canary of {key!r:.80} that is no table")
        try:
            criteria = None if plan is None else as_criteria(plan, f"the canary of {key!r:.80}")
        except ConfigurationError as error:
            raise self._refused(f"has a plan that cannot work. {error}") from error
        return WantedRollout(status, shares, criteria)

    def _known(self, table: Mapping[str, Any], *known: str) -> None:
        unknown = [name for name in table if name not in known]
        if unknown:
            raise self._refused(f"has {unknown[0]!r:.60}, which is none of {', '.join(known)}")

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"The control file {str(self.path)!r} {why}. It is taken as a whole or not at all: what was wanted before "
            "holds, and before the first one, no candidate runs. Fix it, and rename it into place."
        )


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
        return dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> Followed | None:
        """What a note says; None for one that is missing or says nothing that is known."""
        try:
            return None if text is None else cls(**loads(text))
        except (ValueError, TypeError):
            return None


def followed(wanted: WantedRollout, *, epoch: int, version: int) -> Followed:
    """The note about this wish."""
    return Followed(epoch, version, blake2b(repr(wanted).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest())
