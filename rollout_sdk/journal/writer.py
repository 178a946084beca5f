"""Writing the journal: one file for each process, whole lines, one write for each batch.

Two processes never share a file, so that a line cut by a kill -9 can spoil no other's; after a short write the next line
starts with a newline of its own.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from rollout_sdk._version import __version__
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal.schema import SCHEMA, encode

__all__ = ["JournalWriter"]

_ROTATE_AT_BYTES = 64 << 20


class JournalWriter:
    """Appends lines to a file of its own in a folder. Used by one thread."""

    def __init__(self, folder: str | os.PathLike[str], *, rotate_at_bytes: int = _ROTATE_AT_BYTES) -> None:
        """Make the folder when it is missing; the file is made with the first line.

        Raises:
            ConfigurationError: The folder cannot be made, cannot be written, or anybody may write there.
        """
        self.folder = Path(folder)
        self._rotate_at = rotate_at_bytes
        self._file: int | None = None
        self._size = 0
        self._part = 0
        self._torn = False
        self._began = time.time_ns()
        self._check_folder()

    def _check_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = self.folder.stat().st_mode
            usable = os.access(self.folder, os.W_OK | os.X_OK)
        except OSError as error:
            raise ConfigurationError(
                f"The journal folder {str(self.folder)!r} cannot be used: {error}. "
                "A journal needs a folder that this process can write. Choose another or mend its permissions."
            ) from error
        if not usable:
            raise ConfigurationError(
                f"The journal folder {str(self.folder)!r} is not writable. "
                "A journal needs a folder that this process can write. Choose another or mend its permissions."
            )
        if mode & stat.S_IWOTH:
            raise ConfigurationError(
                f"Anybody may write in the journal folder {str(self.folder)!r}. Results computed from it could be forged. "
                "Take a folder of your own, or run: chmod o-w"
            )

    def write(self, lines: Iterable[bytes]) -> None:
        """Append whole lines with one write.

        Raises:
            OSError: They could not be written, or not all: the file then goes on with a newline.
        """
        data = b"".join([line + b"\n" for line in lines])
        if self._file is None or self._size >= self._rotate_at:
            self._open()
        self._write(data)

    def _open(self) -> None:
        self.close()
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
        name = f"events-{host}-{os.getpid()}-{self._began:x}-{self._part}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.folder / name, flags, 0o600)
        self._part += 1
        self._size = 0
        self._torn = False
        header = {
            "event": "journal",
            "v": SCHEMA,
            "t": round(time.time(), 6),
            "sdk": __version__,
            "pid": os.getpid(),
            "host": host,
        }
        self._write(encode(header) + b"\n")

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        if self._torn:
            data = b"\n" + data
        self._torn = True
        view = memoryview(data)
        while view:
            written = os.write(self._file, view)
            self._size += written
            view = view[written:]
        self._torn = False

    def renew(self) -> None:
        """In a forked child: leave the parent's file alone and open another with the next line."""
        self.close()
        self._part = 0
        self._began = time.time_ns()

    def close(self) -> None:
        """Close the file; the next line opens another."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
