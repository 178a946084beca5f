"""The control file: an operator steers all processes that read it, without a restart or a server.

    version = 7                # lower than the last one read: refused
    disabled = false           # true: no candidate runs, in any rollout; false again: they go on

    [rollouts."shop.rank"]
    status = "running"         # or "paused", or "aborted", which is final
    share = "5%"               # of the candidate; with several: share = { v2 = "5%", v3 = "1%" }

    [rollouts."shop.rank".canary]   # another plan for a canary, as in `rollout_sdk.plan.table`
    steps = ["1%", { share = "10%", min_time = "2h" }, "50%"]

A file is accepted completely or not at all: if it cannot be read, is incomplete, has an unknown setting or shares above 100 %,
the last accepted version stays in effect. At the start there is none: no candidate runs until the file is accepted. Write a
new file and rename it into place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from hashlib import blake2b
from json import dumps, loads
from pathlib import Path
from typing import Any, Literal

from attrs import Factory, asdict, frozen

from rollout_sdk.assignment import parse_share
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan import Criteria, as_criteria
from rollout_sdk.plugins.store_protocol import StateStore

__all__ = ["ControlFile", "Followed", "Wanted", "WantedRollout", "followed"]

_MOST_BYTES = 1 << 20
_STATUS = ("running", "paused", "aborted")


@frozen
class WantedRollout:
    """What the operator wants of one rollout; None changes nothing.

    Attributes:
        status: "running", "paused" or "aborted".
        shares: Share of each named candidate; the key None stands for the only one.
        criteria: Another plan for a canary.
    """

    status: Literal["running", "paused", "aborted"] | None = None
    shares: Mapping[str | None, float] = Factory(dict)
    criteria: Criteria | None = None


@frozen
class Wanted:
    """The content of a control file.

    Attributes:
        version: Its version.
        disabled: Whether no candidate may run.
        rollouts: By key; unknown keys belong to other processes.
    """

    version: int = 0
    disabled: bool = False
    rollouts: Mapping[str, WantedRollout] = Factory(dict)


class ControlFile:
    """A control file, read again whenever it changes. Used by one thread at a time.

    Attributes:
        path: Its path.
        wanted: Its last accepted content.
        refused: Why it was not accepted at the start; None if it was, or does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file: a missing one wants nothing; until an invalid one is fixed, no candidate runs."""
        self.path = Path(path).absolute()
        self.wanted = Wanted()
        self._read: tuple[int, ...] | None = None
        self._seen: tuple[int, ...] | None = None
        self.refused: ConfigurationError | None = None
        try:
            self._look(patient=False)
        except ConfigurationError as error:
            # It may contain "disabled" or "aborted": the control is safe.
            self.wanted, self.refused = Wanted(disabled=True), error

    def poll(self) -> bool:
        """Whether the file has changed and was accepted.

        It is read once it is unchanged between two consecutive looks, because a program may be writing it in place.

        Raises:
            ConfigurationError: It has changed and is not valid; `wanted` stays.
        """
        return self._look(patient=True)

    @property
    def is_settled(self) -> bool:
        """Whether the last look found nothing left to read."""
        return self._seen == self._read

    def _look(self, *, patient: bool) -> bool:
        try:
            # The status of the file, not of the link: a mounted ConfigMap is a link that is moved.
            status = self.path.stat()
        except FileNotFoundError:
            # It is being replaced, or was removed: this changes nothing.
            return False
        except OSError as error:
            raise self._refused(f"cannot be read: {error.strerror}") from error
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
            raise self._refused("is not a regular file")
        # On Windows, every file belongs to user 0, and its mode is writable by all.
        is_safe = not hasattr(os, "geteuid") or (
            status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        )
        if not is_safe:
            raise self._refused("can be written by other users than its owner, or belongs to another user")
        if status.st_size > _MOST_BYTES:
            raise self._refused(f"has {status.st_size} bytes")
        try:
            with self.path.open("rb") as file:
                # The file could have been swapped since its status was read.
                if os.fstat(file.fileno()).st_ino != status.st_ino:
                    raise self._refused("was replaced while it was being read")
                return file.read(_MOST_BYTES).decode()
        except UnicodeError as error:
            raise self._refused(f"cannot be read: {error}") from error
        except OSError as error:
            # The disk may answer the next time, with the same file.
            self._read = None
            raise self._refused(f"cannot be read: {error}") from error

    def _parsed(self, text: str) -> Wanted:
        import tomllib

        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._refused(f"is not TOML: {error}") from error
        self._known(table, "version", "disabled", "rollouts")
        version, disabled, rollouts = table.get("version"), table.get("disabled", False), table.get("rollouts", {})
        if not isinstance(version, int) or isinstance(version, bool) or not isinstance(disabled, bool):
            raise self._refused("needs a version that is a whole number, and a disabled that is true or false")
        if not isinstance(rollouts, dict) or not all(isinstance(each, dict) for each in rollouts.values()):
            raise self._refused("has rollouts that are not tables")
        return Wanted(version, disabled, {key: self._rollout(key, each) for key, each in rollouts.items()})

    def _rollout(self, key: str, table: Mapping[str, Any]) -> WantedRollout:
        self._known(table, "status", "share", "canary")
        status, share = table.get("status"), table.get("share", {})
        if status is not None and status not in _STATUS:
            raise self._refused(f"gives {key!r:.80} the status {status!r:.40}, which is not one of {', '.join(_STATUS)}")
        named: Mapping[str | None, Any] = share if isinstance(share, dict) else {None: share}
        try:
            shares = {
                name: parse_share(each, f"share of {name or 'the candidate'!r} of {key!r}") for name, each in named.items()
            }
        except ConfigurationError as error:
            raise self._refused(f"has an invalid share. {error}") from error
        if sum(shares.values()) > 1:
            raise self._refused(f"gives the candidates of {key!r:.80} more than 100 %")
        plan = table.get("canary")
        if plan is not None and not isinstance(plan, dict):
            raise self._refused(f"has a canary of {key!r:.80} that is not a table")
        try:
            criteria = None if plan is None else as_criteria(plan, f"the canary of {key!r:.80}")
        except ConfigurationError as error:
            raise self._refused(f"has a plan that cannot work. {error}") from error
        return WantedRollout(status, shares, criteria)

    def _known(self, table: Mapping[str, Any], *known: str) -> None:
        unknown = [name for name in table if name not in known]
        if unknown:
            raise self._refused(f"has {unknown[0]!r:.60}, which is not one of {', '.join(known)}")

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"The control file {str(self.path)!r} {why}. It is accepted completely or not at all: the last accepted "
            "version stays in effect, and before the first one, no candidate runs. Fix it, and rename it into place."
        )


_FOLLOWED = "control file"
"""Name of the store's note about the last wish that was followed."""


@frozen
class Followed:
    """A control file's wish about a rollout that a process has done, or has found impossible.

    Attributes:
        epoch: The epoch of the rollout: a new version of its candidates starts a new one.
        version: Version of the file.
        wish: Hash of the wish.
    """

    epoch: int
    version: int
    wish: str

    def covers(self, later: Followed) -> bool:
        """Whether another wish needs nothing further: it is the same, or of an older file."""
        return self.epoch == later.epoch and (self.wish == later.wish or self.version > later.version)

    def is_done(self, store: StateStore, key: str) -> bool:
        """Whether a process has done already what the control file wants of a rollout.

        Raises:
            StoreError: The store did not answer.
        """
        text = store.noted(key, _FOLLOWED)
        try:
            return text is not None and Followed(**loads(text)).covers(self)
        # A note of another SDK version.
        except (ValueError, TypeError):
            return False

    def note(self, store: StateStore, key: str) -> None:
        """Note what was done, for processes that start later.

        Raises:
            StoreError: The store did not answer.
        """
        store.note(key, _FOLLOWED, dumps(asdict(self)))


def followed(wanted: WantedRollout, *, epoch: int, version: int) -> Followed:
    """Return the note about this wish."""
    return Followed(epoch, version, blake2b(repr(wanted).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest())
