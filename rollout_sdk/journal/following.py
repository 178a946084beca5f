"""Reading a journal while it is written: each time, only what came since the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import Any, cast

from attrs import define

from rollout_sdk.journal.compacted import compacted_parts
from rollout_sdk.journal.parts import Part, part_of
from rollout_sdk.journal.reader import Journal

__all__ = ["Following"]

_CHUNK = 4 << 20


@define
class _Place:
    """How far a file was read.

    Attributes:
        read: Bytes of it that were read: whole lines.
        inode: Which file it is; one that took its place is read from its beginning.
    """

    read: int
    inode: int


class Following(Journal):
    """The records of a folder as they come. Its counts go on from one reading to the next.

    What it costs grows with what is new. A line that is being written is left for the next time. A file that was compressed or
    compacted meanwhile has nothing new: it is known by the number of its part.

    Attributes:
        lost: Facts that writers had to drop, as they say.
        sampled: How many of these were of calls that were not drawn under overload.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Find the folder. See `Journal`."""
        super().__init__(folder)
        self.lost = self.sampled = 0
        self._places: dict[Path, _Place] = {}
        self._packed: set[Part] = set()

    def begin(self) -> None:
        """Go on: nothing is counted anew."""
        self._compacted = compacted_parts(self.folder)

    def records_of(self, path: Path, *, only: str = "", having: str = "") -> Iterator[dict[str, Any]]:
        """The records that were written to a file since the last time; all of them the first time."""
        del only, having
        try:
            if path.suffix == ".gz" or (path.parent == self.folder and path.name in self.compacted):
                yield from self._counted(self._packed_records(path))
            else:
                yield from self._counted(self._new_in(path))
        except OSError:
            # It was moved a moment ago: what took its place is read the next time.
            return

    def _counted(self, records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            if record["event"] == "lost":
                lost = max(0, record["count"])
                self.lost += lost
                self.sampled += min(max(0, record.get("sampled", 0)), lost)
            yield record

    def _packed_records(self, path: Path) -> Iterator[dict[str, Any]]:
        """A compressed or compacted file does not grow: it is read once, and not at all if it was read before that."""
        part = part_of(path.name)
        if path in self._places or path.with_suffix("") in self._places or (part is not None and part in self._packed):
            return
        self._places[path] = _Place(0, 0)
        if part is not None:
            self._packed.add(part)
        yield from super().records_of(path)

    def _new_in(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            place = self._places.get(path)
            if place is None or place.inode != status.st_ino or status.st_size < place.read:
                place = self._places[path] = _Place(0, status.st_ino)
            file.seek(place.read)
            while lines := _whole_lines(file):
                place.read += len(lines)
                yield from self._records(_as_file(lines), (), is_named=part_of(path.name) is not None)
                file.seek(place.read)


def _whole_lines(file: BufferedReader[Any]) -> bytes:
    """The next lines, up to a few megabytes; nothing while the first of them has no end."""
    found = file.read(_CHUNK)
    if len(found) == _CHUNK and b"\n" not in found:
        # No honest line is as long: it is passed over as damaged, and never kept whole.
        return found
    return found[: found.rfind(b"\n") + 1]


def _as_file(lines: bytes) -> BufferedReader[Any]:
    return BufferedReader(cast("RawIOBase", BytesIO(lines)))
