"""The journal of a report: only a part of it, if that was asked for; and what is small is decoded once, though read twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

from attrs import define, field

from rollout_sdk.journal import Journal

__all__ = ["SelectedJournal"]

_CALLS = ("decision", "shadow", "outcome")
_MOST_KEPT, _MOST_KEPT_BYTES = 50_000, 16 << 20
"""Records, and bytes of their lines, that are kept for the next reading; decoding them takes most of the time of a reading."""


@define
class _Reading:
    """The first reading of a journal: its records by file, and its counts.

    Attributes:
        records: The selected records of each file.
        many: How many they are.
        unfinished: Files that are being read.
        counts: Counts of the journal, by the names of its attributes; None before the reading has ended.
    """

    records: dict[Path, list[dict[str, Any]]] = field(factory=dict)
    many: int = 0
    unfinished: set[Path] = field(factory=set)
    counts: dict[str, Any] | None = None


_COUNTS = ("lines", "cut", "bytes", "repeated", "skipped", "_parts")


class SelectedJournal(Journal):
    """A journal whose records are those of a selection; what says how a rollout stood is always among them.

    If it is small, a second reading gives what the first one has read: also of a journal that is written to meanwhile.
    """

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
        # None: it is too large.
        self._first: _Reading | None = _Reading()
        self._is_counted = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing was asked for in particular."""
        return self._rollout is None and self._since_s is None and self._phase is None

    def begin(self) -> None:
        """Start the counts anew."""
        first = self._first
        if first is not None and first.counts is None and first.records:
            if first.unfinished:
                first = self._first = None
            else:
                first.counts = {name: copy(getattr(self, name)) for name in _COUNTS}
        super().begin()
        self._is_counted = False

    def records_of(self, path: Path, *, only: str = "", having: str = "") -> Iterator[dict[str, Any]]:
        """The selected records of one file; counts are of all lines."""
        first = self._first
        if first is not None and first.counts is not None and path in first.records:
            self._count(first.counts)
            # Readers add to records: each reading has its own.
            return (record.copy() for record in first.records[path])
        records = super().records_of(path, only=only, having=having)
        selected = records if self.is_whole else filter(self._is_selected, records)
        return selected if only or first is None or first.counts is not None else self._kept(path, selected, first)

    def _count(self, counts: Mapping[str, Any]) -> None:
        """Add the counts of the first reading, once in a reading from memory; a database that reads the files has its own."""
        if not self._is_counted:
            self._is_counted = True
            self._parts |= counts["_parts"]
            self.skipped.update(counts["skipped"])
            for name in ("lines", "cut", "bytes", "repeated"):
                setattr(self, name, getattr(self, name) + counts[name])

    def _kept(self, path: Path, records: Iterator[dict[str, Any]], first: _Reading) -> Iterator[dict[str, Any]]:
        """The same records, which are kept for the next reading while they are few."""
        kept = first.records[path] = []
        first.unfinished.add(path)
        for record in records:
            if self._first is first:
                kept.append(record.copy())
                first.many += 1
                if first.many > _MOST_KEPT or self.bytes > _MOST_KEPT_BYTES:
                    self._first = None
                    first.records.clear()
            elif kept:
                kept.clear()
            yield record
        first.unfinished.discard(path)

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
