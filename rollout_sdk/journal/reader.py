"""Reading a journal: every file of a folder, line by line; what cannot be read is skipped, counted and never fatal."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal.schema import FIELDS, SCHEMA

__all__ = ["Journal", "read_journal"]


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


_decoder = json.JSONDecoder(parse_constant=_refused)


class Journal:
    """The records of a folder, and what was wrong with it.

    Attributes:
        folder: Where the files are.
        lines: Lines read in the last pass over the records.
        skipped: Lines passed over in that pass, by why: "damaged", "schema" (written by a newer version), "unknown event";
            and "unreadable file", which counts files.
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
        return sorted(path for path in self.folder.glob("events-*.jsonl") if path.is_file())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The records of all files; starts the counts anew."""
        self.lines = 0
        self.skipped = Counter()
        for path in self.files:
            try:
                with path.open("rb") as file:
                    yield from self._records(file)
            except OSError:
                self.skipped["unreadable file"] += 1

    def _records(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if line.isspace():
                continue
            self.lines += 1
            try:
                record = _decoder.decode(line.decode())
            except (ValueError, RecursionError):
                record = None
            why = _fault(record)
            if why is None:
                yield record
            else:
                self.skipped[why] += 1


def _fault(record: Any) -> str | None:
    """Why a line is passed over, or None; takes out fields that are null."""
    if not isinstance(record, dict) or not isinstance(record.get("v", SCHEMA), int):
        return "damaged"
    if record.get("v", SCHEMA) > SCHEMA:
        return "schema"
    event = record.get("event")
    if not isinstance(event, str):
        return "damaged"
    fields = FIELDS.get(event)
    if fields is None:
        return "unknown event"
    for name, field in fields.items():
        value = record.get(name)
        if field.required if value is None else not field.holds(value):
            return "damaged"
        # Null is as good as left out; whoever reads must know one of the two only.
        if value is None:
            record.pop(name, None)
    return None


def read_journal(folder: str | os.PathLike[str]) -> Journal:
    """The journal in a folder."""
    return Journal(folder)
