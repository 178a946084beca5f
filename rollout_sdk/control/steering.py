"""Applies the control file to the rollouts of a process: when they are decorated, and whenever the file changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rollout_sdk.assignment import Layer, UnitHash
from rollout_sdk.control.control_file import ControlFile, WantedRollout
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.resilience.faults import CONTROL_FILE
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["Steered", "Steering"]


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
    """Applies a control file to rollouts.

    Attributes:
        file: The file; None without one.
    """

    def __init__(self, file: ControlFile | None, rollouts: Mapping[str, Steered], failed_of: Callable[[str], Failed]) -> None:
        """Steer nothing yet.

        Args:
            file: The file; None steers nothing.
            rollouts: The rollouts of the process by key, as they come and go.
            failed_of: Returns the callback for the faults of one rollout, by its key.
        """
        self.file = file
        self._rollouts = rollouts
        self._failed_of = failed_of

    def steer(self, rollout: Steered) -> None:
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

    def look(self) -> bool:
        """Apply a changed file to all rollouts; return False if it must be read again first.

        Raises:
            ConfigurationError: The file has changed and is not valid; everything stays as it is.
        """
        if self.file is None:
            return True
        if self.file.poll():
            for rollout in list(self._rollouts.values()):
                self.steer(rollout)
        return self.file.is_settled
