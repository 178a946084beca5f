"""Where compacted parts are moved to: another folder, or an object store that fsspec knows.

The list of parts, `parts.json`, is written last: readers ignore a folder without it.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal.compacted import COMPACTED

__all__ = ["Destination", "destination", "on_disk"]

_LIST = "parts.json"


def on_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    with suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Destination(ABC):
    """A journal of compacted parts only, into which many machines may move theirs."""

    def take(self, made: Path, number: str) -> None:
        """Copy the folder of a compaction; when this returns, it is there as a whole."""
        for path in sorted(made.rglob("*.parquet")):
            self._put(path, f"{COMPACTED}/{number}/{path.relative_to(made).as_posix()}")
        self._put(made / _LIST, f"{COMPACTED}/{number}/{_LIST}")

    def listed(self, number: str) -> str | None:
        """Return the list of the parts of a compaction; None if it is not there completely."""
        return self._read(f"{COMPACTED}/{number}/{_LIST}")

    def remove(self, number: str) -> None:
        """Remove what is there of a compaction."""
        self._remove(f"{COMPACTED}/{number}")

    @abstractmethod
    def _put(self, path: Path, name: str) -> None: ...

    @abstractmethod
    def _read(self, name: str) -> str | None: ...

    @abstractmethod
    def _remove(self, name: str) -> None: ...


class _Folder(Destination):
    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def _put(self, path: Path, name: str) -> None:
        place = self._path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.name}.new")
        shutil.copyfile(path, aside)
        on_disk(aside)
        aside.rename(place)
        on_disk(place.parent)

    def _read(self, name: str) -> str | None:
        path = self._path / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def _remove(self, name: str) -> None:
        if (self._path / name).exists():
            shutil.rmtree(self._path / name)


class _Store(Destination):
    def __init__(self, address: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError:
            raise ConfigurationError(
                f"fsspec is not installed. {address!r} is reached with it and with the library for its scheme. "
                "For s3://, run: pip install 'rollout-sdk[s3]'."
            ) from None
        self._system: Any
        # Another machine may have written there a moment ago.
        self._system, self._path = url_to_fs(address.rstrip("/"), use_listings_cache=False)

    def _put(self, path: Path, name: str) -> None:
        self._system.put_file(str(path), f"{self._path}/{name}")

    def _read(self, name: str) -> str | None:
        try:
            return str(self._system.cat_file(f"{self._path}/{name}").decode())
        except FileNotFoundError:
            return None

    def _remove(self, name: str) -> None:
        if self._system.exists(f"{self._path}/{name}"):
            self._system.rm(f"{self._path}/{name}", recursive=True)


def destination(to: str) -> Destination:
    """What is at a path or an address.

    Raises:
        ConfigurationError: fsspec is not installed, or the library for this scheme.
    """
    try:
        return _Store(to) if "://" in to else _Folder(to)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"{to!r} cannot be reached: {error}. An address has a scheme that fsspec knows, such as s3://. "
            "Install the library for it, or pass a folder."
        ) from None
