"""Where a journal is on disk: the numbered parts of each process, which of them are missing, and private folders."""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path

from attrs import frozen

__all__ = [
    "HAS_OWNERS",
    "Part",
    "files_of",
    "in_written_order",
    "missing_parts",
    "part_of",
    "private_folder",
    "private_folders",
    "writer_is_alive",
    "writer_of",
]

HAS_OWNERS = hasattr(os, "geteuid")
"""Whether files have owners and meaningful mode bits; on Windows, the bits say that everyone may write."""

_PREFIX = "journal-of-user-"

_NAME = re.compile(
    r"(?P<writer>events-(?P<host>.{1,64})-(?P<pid>\d{1,10})-(?P<began>[0-9a-f]{1,16}))-(?P<part>\d{1,18})\.jsonl(?:\.gz)?\Z"
)
_NUMBERED = re.compile(r"-(\d{1,18})\.jsonl(?:\.gz)?\Z")
_MOST_NAMED = 1_000


@frozen(order=True)
class Part:
    """One file of one process, which numbers its files from 0 on.

    Attributes:
        host: Host of the process.
        pid: Its process id there.
        began: When its recording began: nanoseconds since 1970, in hexadecimal.
        number: The number of the file.
    """

    host: str
    pid: int
    began: str
    number: int

    @property
    def name(self) -> str:
        """Name of the file, as it is written."""
        return f"events-{self.host}-{self.pid}-{self.began}-{self.number}.jsonl"


def part_of(name: str) -> Part | None:
    """The part that a file is by its name; None where the name does not say."""
    found = _NAME.match(name)
    return None if found is None else Part(found["host"], int(found["pid"]), found["began"], int(found["part"]))


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that may be parts of a journal, also compressed ones: where both are there, the original."""
    plain = [path for path in folder.glob("events-*.jsonl") if path.is_file()]
    names = {f"{path.name}.gz" for path in plain}
    return [*plain, *(path for path in folder.glob("events-*.jsonl.gz") if path.name not in names and path.is_file())]


def in_written_order(path: Path) -> tuple[str, int]:
    """What sorts files by name, and those of one process as it wrote them."""
    part = _NUMBERED.search(path.name)
    return (path.name, 0) if part is None else (path.name[: part.start()], int(part[1]))


def writer_of(path: Path) -> str:
    """What the names of all files of one process begin with; the whole name where it says nothing of a process."""
    return in_written_order(path)[0]


def writer_is_alive(pid: int) -> bool:
    """Whether a process of this machine is there; the id may have been given to another one since."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        # Of another user, but there.
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0


def missing_parts(seen: Iterable[Part]) -> tuple[str, ...]:
    """Names of the parts that must have been there, because a later one of the same process is; 1,000 at the most.

    Whether the last parts of a process are missing, or all of them, cannot be known.
    """
    numbers: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for part in seen:
        numbers[part.host, part.pid, part.began].add(part.number)
    gaps = (
        Part(*process, number).name
        for process, there in sorted(numbers.items())
        for before, after in pairwise([-1, *sorted(there)])
        for number in range(before + 1, after)
    )
    return tuple(islice(gaps, _MOST_NAMED))


def private_folder(shared: Path) -> Path:
    """Return this user's own folder inside one that everyone may write to; create it if it is missing.

    Raises:
        OSError: It cannot be created, or another user has put something in its place.
    """
    folder = shared / f"{_PREFIX}{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder, os.geteuid()):
        raise PermissionError(
            f"everybody may write there, and {folder.name!r} inside it is not a folder that only this process's user can write"
        )
    return folder


def private_folders(shared: Path) -> list[Path]:
    """Return the private folders that the reading user may trust: its own; root trusts those of all users."""
    if not HAS_OWNERS:
        return []
    user = os.geteuid()
    found = sorted(shared.glob(f"{_PREFIX}*"))
    return [folder for folder in found if _is_private(folder, user) or (user == 0 and _is_private(folder, None))]


def _is_private(folder: Path, user: int | None) -> bool:
    """Whether it is a folder (not a link) of this user (None: the user in its name) that no other user can write to."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_owned = folder.name == f"{_PREFIX}{status.st_uid}" and user in (None, status.st_uid)
    return is_owned and stat.S_ISDIR(status.st_mode) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
