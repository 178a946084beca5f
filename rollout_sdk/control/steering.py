"""Applies the control file to the rollouts of a process: when they are decorated, and whenever the file changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rollout_sdk.assignment import Layer, UnitHash
from rollout_sdk.concurrency.forking import was_announced
from rollout_sdk.concurrency.threads import WatchThread, living
from rollout_sdk.control.control_file import ControlFile, WantedRollout
from rollout_sdk.control.reconciler import Reconciler
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.faults import CONTROL_FILE
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Steered", "Steering"]

_UNREAD = "control file not read"
_EVERY_S = 0.25
"""A changed control file is read once two looks agree: within half a second."""


class Steered(Protocol):
    """A rollout of this process, as its runtime knows it."""

    @property
    def key(self) -> str:
        """Key of the rollout."""

    @property
    def control(self) -> str:
        """Name of its control."""

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of its candidates."""

    @property
    def layer(self) -> Layer | None:
        """Its layer; None if it has none."""

    @property
    def unit_hash(self) -> UnitHash:
        """The hash of its units."""

    def follow(self, *, disabled: bool, wanted: WantedRollout, version: int) -> Any:
        """Do what the control file wants.

        Raises:
            StateError: It wants a transition that is not possible.
        """


class Steering:
    """Applies a control file to the rollouts of a process, and watches it for changes."""

    def __init__(
        self,
        file: ControlFile | None,
        rollouts: Mapping[str, Steered],
        reconciler: Reconciler,
        *,
        failed: Failed,
        failed_of: Callable[[str], Failed],
    ) -> None:
        """Apply nothing yet.

        Args:
            file: The file; None steers nothing.
            rollouts: The rollouts of the process by key, as they come and go.
            reconciler: Keeps candidates from running while the file is unread.
            failed: Notified if the file is not valid.
            failed_of: Returns the callback for the faults of one rollout, by its key.
        """
        self.file = file
        self._rollouts = rollouts
        self._reconciler = reconciler
        self._failed = failed
        self._failed_of = failed_of
        self._thread = WatchThread(self._watch, "rollout-control", every_s=_EVERY_S)

    def renew(self, *, is_used: bool) -> None:
        """Watch the file in a forked child, where rollouts may have been registered before the fork."""
        if self.file is not None and not was_announced():
            # The time of the fork is unknown: the inherited content may be out of date.
            self._reconciler.hold(_UNREAD)
        # Even if the parent had no such thread: the SDK runs no threads in uWSGI's master.
        is_wanted = is_used and not self._thread.has_ended
        self._thread = WatchThread(self._watch, "rollout-control", every_s=_EVERY_S)
        if is_wanted:
            self.start()

    def start(self) -> None:
        """Start to watch the file, if there is one, unless that has started already."""
        if self.file is not None:
            self._thread.start()

    def end(self) -> None:
        """Stop watching the file."""
        self._thread.end()

    def steer(self, rollout: Steered) -> None:
        """Apply the file to a rollout, now and whenever the file changes."""
        self._apply(rollout)
        self.start()

    def _apply(self, rollout: Steered) -> None:
        """Apply the file to one rollout; what is not possible is a fault of this rollout only."""
        if self.file is None:
            return
        wanted = self.file.wanted
        try:
            rollout.follow(
                disabled=wanted.disabled, wanted=wanted.rollouts.get(rollout.key, WantedRollout()), version=wanted.version
            )
        except BaseException as error:
            if not is_fault(error):
                raise
            self._failed_of(rollout.key)(CONTROL_FILE, error)

    def look(self) -> None:
        """Apply a changed file to all rollouts.

        Raises:
            ConfigurationError: The file has changed and is not valid; everything stays as it is.
        """
        if self.file is None:
            return
        if self.file.poll():
            for rollout in living(self._rollouts):
                self._apply(rollout)
        if self.file.is_settled:
            for managed in list(self._reconciler.rollouts.values()):
                self._reconciler.let_go(managed, _UNREAD)

    def _watch(self) -> None:
        # Of any kind: the thread must not end.
        try:
            self.look()
        except BaseException as error:
            self._failed(CONTROL_FILE, error)
