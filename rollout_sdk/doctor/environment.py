"""What is set: the ROLLOUT_* variables, the control file, and the journal's folder. No secret is ever shown."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from attrs import frozen

from rollout_sdk.control.control_file import ControlFile, Wanted
from rollout_sdk.journal.parts import HAS_OWNERS, files_of

__all__ = ["KNOWN", "Folder", "Key", "Variable", "control_file", "folder_at", "key_of", "variables"]

KNOWN: Mapping[str, str] = {
    "ROLLOUT_CONTROL": "control file of the default runtime",
    "ROLLOUT_DISABLED": "1: controls only",
    "ROLLOUT_DISABLED_PLUGINS": "plugins that must not load",
    "ROLLOUT_JOURNAL": "folder of the default runtime's journal",
    "ROLLOUT_KEY": "secret of the default runtime",
    "ROLLOUT_STORE": "address of the default runtime's store",
}
_SECRET = "ROLLOUT_KEY"  # noqa: S105 - the name of a variable
_LONGEST_KEY = 64
_SHORTEST_KEY = 16
_LOGIN = re.compile(r"//[^/@\s]*@")
_OURS = re.compile(r"ROLLOUT_", re.IGNORECASE)


@frozen
class Variable:
    """An environment variable that is ours, or looks as if it should be.

    Attributes:
        name: Its name.
        known: Whether the SDK reads it.
        meant: The known one that its name resembles, where it is not known itself.
        value: Its value; None for the secret, and for whatever is not known: it may be a misspelt secret.
    """

    name: str
    known: bool
    meant: str | None
    value: str | None


@frozen
class Key:
    """What may be said of ROLLOUT_KEY.

    Attributes:
        is_set: Whether it is there and not empty.
        length: "shorter than 16 bytes", "16 to 64 bytes", "longer than 64 bytes", or None when it is not set.
        fault: Why it cannot be meant as it is: "not UTF-8", "white space at an end"; else None.
    """

    is_set: bool
    length: str | None = None
    fault: str | None = None


@frozen
class Folder:
    """The folder of a journal, from outside.

    Attributes:
        path: As it was given.
        is_folder: Whether there is such a folder; None when there is nothing of that name.
        is_link: Whether the name is a symbolic link.
        mode: Its permissions, such as 0o700.
        is_exposed: Whether everybody may write in it and it holds files of a journal itself, not in folders of their writers.
        owner: User id of its owner.
        is_mine: Whether it belongs to the user who asks.
        readable: Whether the user who asks can look into it.
        free_bytes: Free space on its disk for ordinary users.
        fault: Why it cannot be looked at; None when it can.
    """

    path: str
    is_folder: bool | None = None
    is_link: bool = False
    mode: int | None = None
    is_exposed: bool = False
    owner: int | None = None
    is_mine: bool = True
    readable: bool = True
    free_bytes: int | None = None
    fault: str | None = None


def variables(environment: Mapping[str, str]) -> tuple[Variable, ...]:
    """Every variable that begins with ROLLOUT_, or is so close to a known one that it was meant, in order of name."""
    found = []
    for name in sorted(environment):
        known = name in KNOWN
        close = get_close_matches(name.upper(), KNOWN, n=1, cutoff=0.85) if len(name) <= 50 and not known else []
        if known or close or _OURS.match(name):
            # The address of a store may have a login.
            value = _LOGIN.sub("//", environment[name]) if known and name != _SECRET else None
            found.append(Variable(name, known, close[0] if close else None, value))
    return tuple(found)


def key_of(environment: Mapping[str, str]) -> Key:
    """What may be said of the secret."""
    value = environment.get(_SECRET, "")
    if not value:
        return Key(is_set=False)
    count = len(os.fsencode(value))
    length = "16 to 64 bytes"
    if count < _SHORTEST_KEY:
        length = "shorter than 16 bytes"
    elif count > _LONGEST_KEY:
        length = "longer than 64 bytes"
    fault = None
    try:
        value.encode()
    except UnicodeEncodeError:
        fault = "not UTF-8"
    else:
        fault = "white space at an end" if value.strip() != value else None
    return Key(is_set=True, length=length, fault=fault)


def control_file(path: str) -> tuple[Wanted | None, str | None]:
    """What a control file wants, or None where there is no such file yet; and why it is refused, or None."""
    try:
        if not Path(path).exists():
            return None, None
        file = ControlFile(path)
        return (file.wanted, None) if file.refused is None else (None, str(file.refused))
    except (OSError, ValueError) as error:
        return None, str(error)


def folder_at(path: str) -> Folder:
    """The folder as it is; never raises."""
    try:
        status = Path(path).stat()
        is_link = Path(path).is_symlink()
    except FileNotFoundError:
        # A link into nothing is something.
        return Folder(path, is_link=Path(path).is_symlink())
    except (OSError, ValueError) as error:
        return Folder(path, is_folder=False, readable=False, fault=str(getattr(error, "strerror", None) or error))
    try:
        free = shutil.disk_usage(path).free
    except (OSError, AttributeError):
        free = None
    return Folder(
        path,
        is_folder=stat.S_ISDIR(status.st_mode),
        is_link=is_link,
        mode=stat.S_IMODE(status.st_mode) if HAS_OWNERS else 0o700,
        is_exposed=HAS_OWNERS and bool(status.st_mode & stat.S_IWOTH) and any(files_of(Path(path))),
        owner=status.st_uid,
        is_mine=not HAS_OWNERS or status.st_uid == os.geteuid(),
        readable=os.access(path, os.R_OK | os.X_OK),
        free_bytes=free,
    )
