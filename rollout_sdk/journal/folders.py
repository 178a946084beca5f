"""Folders of a journal that only their owner can write, inside one that everybody can."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["HAS_OWNERS", "private_folder", "private_folders"]

HAS_OWNERS = hasattr(os, "geteuid")
"""Whether a file has an owner and mode bits that mean something; on Windows they say that everybody may write."""

_PREFIX = "journal-of-user-"


def private_folder(shared: Path) -> Path:
    """A folder of this user's own inside a folder that everybody may write; made when it is missing.

    Raises:
        OSError: It cannot be made, or another user has put something in its place.
    """
    folder = shared / f"{_PREFIX}{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder, os.geteuid()):
        raise PermissionError(
            f"everybody may write there, and {folder.name!r} inside it is not a folder that only this process's user can write"
        )
    return folder


def private_folders(shared: Path) -> list[Path]:
    """The folders of this kind that the reading user may trust: its own; root's reading trusts those of every user."""
    if not HAS_OWNERS:
        return []
    user = os.geteuid()
    found = sorted(shared.glob(f"{_PREFIX}*"))
    return [folder for folder in found if _is_private(folder, user) or (user == 0 and _is_private(folder, None))]


def _is_private(folder: Path, user: int | None) -> bool:
    """Whether it is a folder, not a link to one, of this user (None: of the user in its name), that no other user can write."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_owned = folder.name == f"{_PREFIX}{status.st_uid}" and user in (None, status.st_uid)
    return is_owned and stat.S_ISDIR(status.st_mode) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
