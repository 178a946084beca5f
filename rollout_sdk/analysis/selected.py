"""A journal of which only a part is read: one rollout, one phase, or what was decided since some time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rollout_sdk.journal import Journal

__all__ = ["SelectedJournal"]

_CALLS = ("decision", "shadow", "outcome")


class SelectedJournal(Journal):
    """A journal whose records are those of a selection; what says how a rollout stood is always among them."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        rollout: str | None = None,
        since_s: float | None = None,
        phase: str | None = None,
    ) -> None:
        """Find the folder.

        Args:
            folder: The folder.
            rollout: Key of the rollout; None: all.
            since_s: Time of the first decision that counts, in seconds since 1970; outcomes of earlier ones do not count. None:
                all count.
            phase: Name of the phase, or its number; None: all.

        Raises:
            ConfigurationError: It is not a folder.
        """
        super().__init__(folder)
        self._rollout, self._since_s, self._phase = rollout, since_s, phase

    @property
    def is_whole(self) -> bool:
        """Whether nothing was asked for in particular."""
        return self._rollout is None and self._since_s is None and self._phase is None

    def records_of(self, path: Path, *, only: str = "", having: str = "") -> Iterator[dict[str, Any]]:
        """The selected records of one file; counts are of all lines."""
        records = super().records_of(path, only=only, having=having)
        return records if self.is_whole else filter(self._is_selected, records)

    def _is_selected(self, record: dict[str, Any]) -> bool:
        if self._rollout is not None and record.get("rollout", self._rollout) != self._rollout:
            return False
        if record["event"] not in _CALLS:
            return True
        if self._since_s is not None and record.get("decided", record.get("t", self._since_s)) < self._since_s:
            return False
        phase = record.get("phase")
        # An outcome of a unit goes to a call, which is selected or not.
        return self._phase is None or phase is None or self._phase in (phase, phase.partition(":")[0])
