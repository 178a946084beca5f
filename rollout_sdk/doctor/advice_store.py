"""Findings about the address of the store; the store itself is not opened, because that can write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rollout_sdk.control.stores import SQLiteStore, open_store
from rollout_sdk.doctor.diagnosis import Diagnosis, Finding
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.formatting import plain, quoted

__all__ = ["about"]

_OURS = ("memory", "sqlite")


def about(seen: Diagnosis, environment: Mapping[str, str]) -> Iterator[Finding]:
    """The findings about ROLLOUT_STORE."""
    address = environment.get("ROLLOUT_STORE")
    if not address:
        return
    scheme, separator, _ = address.partition("://")
    if separator and scheme not in _OURS:
        if scheme not in {plugin.name for plugin in seen.plugins if not plugin.blocked}:
            yield Finding(
                "error",
                "settings.store_refused",
                f"ROLLOUT_STORE names the plugin {quoted(scheme)}, which is not installed, or is blocked: every "
                "call gets its control.",
                "Install the plugin, or use sqlite:////an/absolute/path.db.",
            )
        return
    try:
        store = open_store(address)
    except ConfigurationError as error:
        yield Finding(
            "error",
            "settings.store_refused",
            f"ROLLOUT_STORE cannot be used, and every call gets its control: {plain(error, 300)}",
            "Correct it, and restart the processes.",
        )
        return
    if isinstance(store, SQLiteStore):
        yield from _file(address, store.path)


def _file(address: str, path: Path) -> Iterator[Finding]:
    if not Path(address.removeprefix("sqlite:///")).is_absolute():
        yield Finding(
            "note",
            "settings.relative_store",
            "ROLLOUT_STORE is a relative path: processes that start in different folders have different stores.",
            "Set it to an absolute path: sqlite:////var/lib/app/rollouts.db, with four slashes.",
        )
    if not path.parent.is_dir():
        yield Finding(
            "error",
            "settings.no_store_folder",
            f"The folder of the store {quoted(path)} does not exist: every call gets its control.",
            "Create the folder, or correct ROLLOUT_STORE.",
        )
    elif not path.exists():
        yield Finding(
            "note",
            "settings.no_store",
            f"The store {quoted(path)} does not exist yet.",
            "Check the path; the first process that serves a rollout with it creates it.",
        )
    elif not os.access(path, os.R_OK | os.W_OK):
        yield Finding(
            "error",
            "settings.store_unreadable",
            f"This user may not read and write the store {quoted(path)}.",
            "Run the doctor as the service's user; if this is that user, give it write access to the file and its folder.",
        )
