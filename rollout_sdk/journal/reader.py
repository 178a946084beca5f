"""Reading a journal: every file of a folder, line by line; what cannot be read is skipped, counted and never fatal."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal.schema import SCHEMA

__all__ = ["Journal", "read_journal"]

_REQUIRED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "journal": {},
    "lost": {"count": int},
    "rollout": {"rollout": str, "control": str, "phase": str, "shares": dict, "strategy": str},
    "decision": {
        "rollout": str,
        "id": str,
        "strategy": str,
        "phase": str,
        "variant": str,
        "served": str,
        "reason": str,
        "bucket": int,
    },
    "shadow": {"rollout": str, "id": str, "phase": str, "variant": str, "end": str},
    "outcome": {"rollout": str, "metric": str, "value": (int, float)},
    "transition": {"rollout": str, "action": str, "to_phase": str, "shares": dict},
}


class Journal:
    """The records of a folder, and what was wrong with it.

    Attributes:
        folder: Where the files are.
        lines: Lines read in the last pass over the records.
        skipped: Lines passed over in that pass, by why: "damaged", "schema" (written by a newer version), "unknown event".
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Find the folder.

        Raises:
            ConfigurationError: It is no folder.
        """
        self.folder = Path(folder)
        self.lines = 0
        self.skipped: Counter[str] = Counter()
        if not self.folder.is_dir():
            raise ConfigurationError(
                f"There is no journal folder {str(self.folder)!r}. A journal is a folder with files events-*.jsonl. "
                "Pass the folder given as Runtime(journal=...) or ROLLOUT_JOURNAL."
            )

    @property
    def files(self) -> list[Path]:
        """The files, in order of name."""
        return sorted(self.folder.glob("events-*.jsonl"))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The records of all files; starts the counts anew."""
        self.lines = 0
        self.skipped = Counter()
        for path in self.files:
            with path.open("rb") as file:
                for line in file:
                    if line.isspace():
                        continue
                    self.lines += 1
                    record = self._parse(line)
                    if record is not None:
                        yield record

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        why = _fault(record)
        if why is None:
            return record  # type: ignore[no-any-return]
        self.skipped[why] += 1
        return None


def _fault(record: Any) -> str | None:
    """Why a line is passed over, or None."""
    if not isinstance(record, dict) or not isinstance(record.get("v", SCHEMA), int):
        return "damaged"
    if record.get("v", SCHEMA) > SCHEMA:
        return "schema"
    event = record.get("event")
    if not isinstance(event, str):
        return "damaged"
    required = _REQUIRED.get(event)
    if required is None:
        return "unknown event"
    if all(isinstance(record.get(name), kind) and not isinstance(record.get(name), bool) for name, kind in required.items()):
        return None
    return "damaged"


def read_journal(folder: str | os.PathLike[str]) -> Journal:
    """The journal in a folder."""
    return Journal(folder)
