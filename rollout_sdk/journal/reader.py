"""Reading a journal: every file of a folder, line by line; what cannot be read is skipped, counted and never fatal.

What is there twice is read once: see `repeats`.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from attrs import define

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal.compacted import CompactedPart, compacted_parts, lines_of, opened
from rollout_sdk.journal.decoding import decisions_of, decoded, why_skipped
from rollout_sdk.journal.parts import Part, files_of, in_written_order, missing_parts, part_of, private_folders
from rollout_sdk.journal.repeats import Repeats

__all__ = ["Journal", "part_in", "read_journal"]

_LONGEST_LINE = 4 << 20
"""Longer ones are damage: an honest line has some hundred bytes, and a file without newlines must not fill the memory."""

_GZIP_BUFFER = 1 << 16


@define
class _Source:
    """A file while it is read: whether its name says which part it is, and which process wrote it."""

    is_named: bool
    process: str | None = None
    is_first: bool = True


class Journal:
    """The records of a folder, and what was wrong with it.

    Attributes:
        folder: Where the files are.
        lines: Lines read in the last pass over the records.
        skipped: Lines passed over in that pass, by why: "damaged", "schema" (written by a newer version), "unknown event";
            and "unreadable file", which counts files.
        repeated: Lines passed over in that pass because they were read before: they are there twice.
        cut: How many of the damaged lines were the last of their file and have no end: their process was killed, the disk
            was full, or they are being written.
        bytes: Bytes read in that pass.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Find the folder.

        Raises:
            ConfigurationError: It is not a folder.
        """
        self.folder = Path(folder)
        self.lines = 0
        self.skipped: Counter[str] = Counter()
        self.cut = 0
        self.bytes = 0
        self.repeated = 0
        self._repeats = Repeats()
        self._parts: set[Part] = set()
        self._compacted = compacted_parts(self.folder)
        # Opening one takes longer than reading a small part.
        self._database: Any = None
        if not self.folder.is_dir():
            raise ConfigurationError(
                f"There is no journal folder {str(self.folder)!r}. A journal is a folder with files events-*.jsonl. "
                "Pass the folder given as Runtime(journal=...) or ROLLOUT_JOURNAL."
            )

    @property
    def files(self) -> list[Path]:
        """The files, in order of name; those of one process in the order in which it wrote them.

        Where everybody may write in the folder, they are in folders of their writers' own inside it.
        """
        folders = [self.folder, *private_folders(self.folder)]
        compacted = self.compacted
        found = (path for each in folders for path in files_of(each) if path.name.removesuffix(".gz") not in compacted)
        return sorted((*found, *(self.folder / name for name in compacted)), key=in_written_order)

    @property
    def is_whole(self) -> bool:
        """Whether all records are read; not of a selection."""
        return True

    @property
    def compacted(self) -> Mapping[str, CompactedPart]:
        """Parts that are read from Parquet, by the name of their file, which may be gone."""
        return self._compacted

    def size(self, path: Path) -> int:
        """Bytes of a file; of a compacted part, before it was compacted."""
        part = self.compacted.get(path.name) if path.parent == self.folder else None
        return path.stat().st_size if part is None else part.bytes

    @property
    def missing(self) -> tuple[str, ...]:
        """Files that must have been there, because their process wrote a later one; known after a pass over the records.

        They were moved or deleted. Whether the last files of a process are missing cannot be known.
        """
        named = (part for path in self.files if (part := part_of(path.name)) is not None)
        return missing_parts({*named, *self._parts})

    @property
    def damaged(self) -> int:
        """Lines and files passed over in the last pass, but for last lines that have no end."""
        return sum(self.skipped.values()) - self.cut

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The records of all files; starts the counts anew."""
        self.begin()
        for path in self.files:
            yield from self.records_of(path)

    def only(self, event: str, *, having: str = "") -> Iterator[dict[str, Any]]:
        """The records of one event; starts the counts anew, and counts what it decodes: few of the other lines.

        Args:
            event: The event.
            having: A field; records without it may be left out.
        """
        self.begin()
        for path in self.files:
            yield from (record for record in self.records_of(path, only=event, having=having) if record["event"] == event)

    def begin(self) -> None:
        """Start the counts anew."""
        self.lines = self.cut = self.bytes = self.repeated = 0
        self.skipped = Counter()
        self._repeats = Repeats()
        self._parts = set()
        self._compacted = compacted_parts(self.folder)

    def records_of(self, path: Path, *, only: str = "", having: str = "") -> Iterator[dict[str, Any]]:
        """The records of one file; adds to the counts.

        Args:
            path: The file.
            only: An event. Lines that cannot be of it may be passed over without being decoded or counted.
            having: A field. So may lines that cannot have it.
        """
        marks = tuple(json.dumps(word).encode() for word in (only, having) if word)
        part = self.compacted.get(path.name) if path.parent == self.folder else None
        if part is not None:
            if part.damaged:
                self.skipped["damaged"] += part.damaged
            self.lines += part.damaged
            self.cut += part.cut
            lines = lines_of(part, self._opened)
            yield from self.records_in((line for line in lines if self._may_be(line, marks)), path)
            return
        try:
            with path.open("rb") as raw:
                is_named = part_of(path.name) is not None
                if path.suffix != ".gz":
                    yield from self._records(raw, marks, is_named=is_named)
                    return
                with gzip.GzipFile(fileobj=raw) as packed, BufferedReader(packed, _GZIP_BUFFER) as file:
                    yield from self._records(file, marks, is_named=is_named)
        # The last two: it is not a compressed file, or its end is missing.
        except (OSError, EOFError, zlib.error):
            self.skipped["unreadable file"] += 1

    def _opened(self) -> Any:
        if self._database is None:
            self._database = opened()
        return self._database

    def _records(self, file: BufferedReader[Any], marks: tuple[bytes, ...], *, is_named: bool) -> Iterator[dict[str, Any]]:
        """The records of a file, whose name says which part it is, or not; lines without all marks may be left out."""
        source = _Source(is_named=is_named)
        while line := file.readline(_LONGEST_LINE):
            self.bytes += len(line)
            if marks and not self._may_be(line, marks):
                continue
            if line.isspace():
                continue
            is_too_long = len(line) == _LONGEST_LINE and self._passed_over(file, line)
            found = self._found(b"" if is_too_long else line, source)
            if found is not None:
                yield from found
            elif not line.endswith(b"\n") and not file.peek(1):
                self.cut += 1

    @staticmethod
    def _may_be(line: bytes, marks: tuple[bytes, ...]) -> bool:
        """Whether a line may be one with these marks."""
        # Any letter may be written as an escape. Decoding a line costs ten times as much as looking for a word in it.
        return all(mark in line for mark in marks) or b"\\u" in line or len(line) >= _LONGEST_LINE

    def records_in(self, lines: Iterable[bytes], path: Path) -> Iterator[dict[str, Any]]:
        """The records of some lines of a file, in order; adds to the counts."""
        part = part_of(path.name)
        source = _Source(is_named=part is not None)
        if part is not None:
            source.process = f"{part.host}-{part.pid}-{part.began}"
        for line in lines:
            self.bytes += len(line)
            yield from self._found(line, source) or ()

    def _found(self, line: bytes, source: _Source) -> list[dict[str, Any]] | None:
        """The new records of a line; None where it is damaged."""
        self.lines += 1
        record = decoded(line)
        why, records = why_skipped(record), None
        if why is None:
            if record["event"] == "journal" and (part := part_in(record)) is not None:
                # Where the name says which part it is, the first line cannot speak for another.
                if not source.is_named or not source.is_first:
                    self._parts.add(part)
                source.process, source.is_first = f"{part.host}-{part.pid}-{part.began}", False
            records = [record] if record["event"] != "rows" else decisions_of(record)
            why = "damaged" if records is None else None
        if records is None:
            self.skipped[str(why)] += 1
            return None if why == "damaged" else []
        new = [each for each in records if not self._is_repeated(each, source.process, line)]
        self.repeated += not new and len(records) > 0
        return new

    def is_cut(self, path: Path) -> bool:
        """Whether the last line of a file has no end, and cannot be read."""
        last = b""
        try:
            with path.open("rb") as raw:
                if path.suffix == ".gz":
                    lines = iter(partial(gzip.GzipFile(fileobj=raw).readline, _LONGEST_LINE), b"")
                    last = next(iter(deque(lines, maxlen=1)), b"")
                else:
                    raw.seek(max(0, path.stat().st_size - _LONGEST_LINE))
                    last = raw.read().rpartition(b"\n")[2]
        except (OSError, EOFError, zlib.error):
            return False
        return bool(last) and not last.endswith(b"\n") and why_skipped(decoded(last)) == "damaged"

    def _is_repeated(self, record: dict[str, Any], process: str | None, line: bytes) -> bool:
        event = record["event"]
        if event == "decision":
            return self._repeats.is_call(record["id"])
        if event == "shadow":
            return self._repeats.is_call(record["id"], record["variant"])
        return self._repeats.is_line(event, process, line)

    def _passed_over(self, file: BufferedReader[Any], line: bytes) -> bool:
        """Whether a line was too long; reads to its end without keeping it."""
        too_long = not line.endswith(b"\n")
        while not line.endswith(b"\n") and (line := file.readline(_LONGEST_LINE)):
            self.bytes += len(line)
        return too_long


def part_in(record: Mapping[str, Any]) -> Part | None:
    """The part that begins with this line; None where an earlier SDK wrote it."""
    host, pid, began, number = (record.get(name) for name in ("host", "pid", "began", "part"))
    if host is None or pid is None or began is None or number is None:
        return None
    part = Part(host, pid, began, number)
    return part if part_of(part.name) == part else None


def read_journal(folder: str | os.PathLike[str]) -> Journal:
    """The journal in a folder."""
    return Journal(folder)
