"""Who writes a journal: the processes behind its files, as far as names, permissions and this machine tell."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import define, frozen

from rollout_sdk.journal.parts import HAS_OWNERS, part_of, writer_is_alive, writer_of
from rollout_sdk.journal.writer import host_name

__all__ = ["Process", "Source", "sources"]

_FRESH_S = 600.0


@frozen
class Process:
    """A process that has a file in the journal.

    Attributes:
        host: Its host, as in the file's name.
        pid: Its process id there.
        began_s: When its recording began, in seconds since 1970.
    """

    host: str
    pid: int
    began_s: float


@define
class Source:
    """One file of a journal.

    Attributes:
        path: Where it is.
        process: Who writes it; None when its name does not say.
        writing: Whether that process is still there and this is its last file; None when this machine cannot tell.
        active: Whether it may be written any time: `writing`, or, if that is unknown, changed in the last 10 minutes.
        bytes: Size.
        mode: Its permissions.
        is_link: Whether it is a symbolic link.
        changed_s: When it was last changed, in seconds since 1970.
        lines: Lines in it.
        damaged: Damaged lines in it, without a cut one.
        cut: Whether its last line has no end, and no process will continue it.
        newest_s: Time of its newest record; None when it has none.
    """

    path: Path
    process: Process | None = None
    writing: bool | None = None
    active: bool = False
    bytes: int = 0
    mode: int = 0o600
    is_link: bool = False
    changed_s: float = 0.0
    lines: int = 0
    damaged: int = 0
    cut: bool = False
    newest_s: float | None = None

    @property
    def writer(self) -> str:
        """What the names of all files of its process begin with."""
        return writer_of(self.path)


def sources(files: Iterable[Path], now: float) -> list[Source]:
    """The files of a journal, looked at from outside."""
    found = [_source(path) for path in files]
    # A process id is given out again: of all that had it on one host, only the last can be there.
    last: dict[tuple[str, int], Source] = {}
    for source in found:
        if (process := source.process) is not None:
            before = last.get((process.host, process.pid))
            if before is None or before.process is None or before.process.began_s <= process.began_s:
                last[process.host, process.pid] = source
    here = host_name()
    for source in found:
        source.writing = _is_written(source, last, here)
        # Not a pure look at the file: a process with nothing to say does not touch it.
        source.active = source.writing if source.writing is not None else now - source.changed_s < _FRESH_S
    return found


def _source(path: Path) -> Source:
    source = Source(path)
    if (part := part_of(path.name)) is not None:
        source.process = Process(part.host, part.pid, int(part.began, 16) / 1e9)
    try:
        source.is_link = path.is_symlink()
        status = path.stat()
    # Gone since it was listed.
    except OSError:
        return source
    source.bytes, source.changed_s = status.st_size, status.st_mtime
    if HAS_OWNERS:
        source.mode = stat.S_IMODE(status.st_mode)
    return source


def _is_written(source: Source, last: Mapping[tuple[str, int], Source], here: str) -> bool | None:
    process = source.process
    if process is None:
        return None
    if last[process.host, process.pid] is not source or source.path.suffix == ".gz":
        return False
    return writer_is_alive(process.pid) if process.host == here else None
