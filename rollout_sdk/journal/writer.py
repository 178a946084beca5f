"""Writing the journal: one file for each process, whole lines, one write for each batch.

Two processes never share a file, so that a line cut by a kill -9 can spoil no other's; after a short write the next line
starts with a newline of its own. The files of a process are numbered, so that a reader can name one that is missing. A file
that is moved, deleted or cut short, by a log shipper say, or whose folder is replaced, is continued in another. A folder that
cannot be used is an error of the write, not of the start: a service serves also while its disk is missing.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence

# By name: what a test puts in the place of os.open or os.write must neither get our lines nor name the file they go to.
from os import access, close, fstat, getpid, write
from os import open as open_file
from os import stat as status_of
from pathlib import Path
from socket import gethostname

from rollout_sdk._version import __version__
from rollout_sdk.concurrency.clocks import time, time_ns
from rollout_sdk.exceptions import JournalError
from rollout_sdk.journal.lines import line
from rollout_sdk.journal.parts import HAS_OWNERS, Part, private_folder

__all__ = ["JournalWriter", "host_name"]

_ROTATE_AT_BYTES = 64 << 20
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
for _flag in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"):
    # Windows has the last alone, and needs it: or it writes two bytes for the end of a line.
    _FLAGS |= getattr(os, _flag, 0)


class JournalWriter:
    """Appends lines to a file of its own in a folder. Used by one thread.

    Attributes:
        folder: Where the files are.
        kept: How many lines of the last `write` are whole in the file.
    """

    def __init__(self, folder: str | os.PathLike[str], *, rotate_at_bytes: int = _ROTATE_AT_BYTES) -> None:
        """Name the folder; it is made when it is missing, and the file with the first line."""
        # Absolute: a service may change its directory between now and the first line.
        self.folder = Path(folder).absolute()
        self.kept = 0
        self._rotate_at = rotate_at_bytes
        self._file: int | None = None
        self._path: Path | None = None
        self._identity = (0, 0)
        self._size = 0
        self._is_new = True
        self._part = 0
        self._torn = False
        self._began = time_ns()

    def prepare(self) -> Path:
        """Make the folder when it is missing, and return the one that the files go to.

        Where everybody may write, as in an emptyDir of Kubernetes, that is a folder of this user's own inside: results
        computed from files that anyone could write could be forged.

        Raises:
            JournalError: It cannot be made or written.
        """
        try:
            folder = self.folder
            if _mode(folder) & stat.S_IWOTH and HAS_OWNERS:
                folder = private_folder(folder)
            if access(folder, os.W_OK | os.X_OK):
                return folder
            why = "it is not writable"
        except OSError as error:
            why = str(error)
        raise JournalError(
            f"The journal folder {str(self.folder)!r} cannot be used: {why}. A journal needs a folder that this process can "
            "write. Fix its permissions or its mount, or choose another folder; until then, facts are counted as lost."
        )

    def begin(self) -> bool:
        """Make ready for lines: open a file when there is none, when it is full, or when it is not in its place any more.

        Returns:
            Whether the file has no line yet, so that it needs the lines about rollouts.

        Raises:
            OSError: None can be opened.
        """
        self.kept = 0
        if self._file is not None and (self._size >= self._rotate_at or not self._is_there()):
            self.close()
        if self._file is None:
            self._open()
        return self._is_new

    def write(self, lines: Sequence[bytes]) -> None:
        """Append whole lines with one write; how many of them are in the file is in `kept`, also after an error.

        Raises:
            OSError: They could not be written, or not all: the file then goes on with a newline.
        """
        header = [self._header()] if self.begin() else []
        start = b"\n" if self._torn else b""
        data = start + b"".join([each + b"\n" for each in (*header, *lines)])
        written = 0
        try:
            while written < len(data):
                self._torn = True
                written += write(self._file, memoryview(data)[written:])  # type: ignore[arg-type]
            self._torn = False
        except OSError as error:
            if error.errno == errno.EFBIG:
                # The system lets no file grow further (ulimit -f): go on in another.
                self._size = self._rotate_at
            raise
        finally:
            self._size += written
            whole = data.count(b"\n", len(start), written)
            self.kept = max(0, whole - len(header))
            self._is_new = self._is_new and whole == 0

    def _open(self) -> None:
        folder = self.prepare()
        path = folder / Part(host_name(), getpid(), f"{self._began:x}", self._part).name
        try:
            file = open_file(path, _FLAGS, 0o600)
        except FileExistsError:
            # A name that is taken is not tried again.
            self._part += 1
            raise
        # Only now: a number without a file would look like a file that is missing.
        self._part += 1
        status = fstat(file)
        self._file, self._path, self._identity = file, path, (status.st_dev, status.st_ino)
        self._size, self._is_new, self._torn = 0, True, False

    def _is_mine(self) -> bool:
        """Whether the descriptor still is our file: a process that makes itself a daemon closes all, and others take them."""
        try:
            status = fstat(self._file)  # type: ignore[arg-type]
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _is_there(self) -> bool:
        """Whether it is our file, whole and in its place."""
        if not self._is_mine():
            return False
        status = fstat(self._file)  # type: ignore[arg-type]
        return status.st_nlink > 0 and status.st_size >= self._size and self._is_in_place()

    def _is_in_place(self) -> bool:
        try:
            status = status_of(self._path)  # type: ignore[arg-type]  # noqa: PTH116 - as in _mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # A disk that does not answer now: the file can be written for as long as that works.
            return True
        return (status.st_dev, status.st_ino) == self._identity

    @property
    def has_file(self) -> bool:
        """Whether a file is open."""
        return self._file is not None

    @property
    def was_moved(self) -> bool:
        """Whether the file is somewhere else now, and its folder there: so another can be begun before there is a line for it.

        Not of a file that was deleted: who clears a folder up must not find a new one in it.
        """
        if self._file is None or self._path is None or not self._is_mine():
            return False
        return fstat(self._file).st_nlink > 0 and not self._is_in_place() and _is_folder(self._path.parent)

    def _header(self) -> bytes:
        return line(
            "journal", time(), sdk=__version__, pid=getpid(), host=host_name(), began=f"{self._began:x}", part=self._part - 1
        )

    def renew(self) -> None:
        """In a forked child: leave the parent's file alone and open another with the next line."""
        self.close()
        self._part = 0
        self._began = time_ns()

    def close(self) -> None:
        """Close the file; the next line opens another."""
        if self._file is not None and self._is_mine():
            close(self._file)
        self._file = None


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(status_of(path).st_mode)  # noqa: PTH116 - as in _mode
    except OSError:
        return False


def _mode(folder: Path) -> int:
    """The mode of a folder; it is made when it is missing."""
    try:
        return status_of(folder).st_mode  # noqa: PTH116 - Path's own looks it up when it is called
    except FileNotFoundError:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return status_of(folder).st_mode  # noqa: PTH116


def host_name() -> str:
    """This host, as it stands in the names of files."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", gethostname())[:64]
