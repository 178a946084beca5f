"""Options shared by commands: the store, the journal, the key of a rollout with completion, and examples in the help."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from click.shell_completion import CompletionItem

from rollout_sdk.cli.output import DamagedFault, EmptyFault, fault
from rollout_sdk.control.stored import opened
from rollout_sdk.control.stores import GuardedStore
from rollout_sdk.exceptions import RolloutError
from rollout_sdk.journal import read_journal

__all__ = [
    "examples",
    "in_store",
    "journal_argument",
    "journal_option",
    "json_option",
    "key_argument",
    "must_be_whole",
    "must_have_records",
    "opened_store",
]

_ASKED_S = 1.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

journal_option = click.option(
    "--journal",
    "folder",
    envvar="ROLLOUT_JOURNAL",
    required=True,
    show_envvar=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of the journal.",
)

in_store = click.option(
    "--store",
    "address",
    envvar="ROLLOUT_STORE",
    required=True,
    show_envvar=True,
    metavar="ADDRESS",
    help="Address of the store: sqlite:///rollouts.db.",
)


def examples(*lines: str) -> str:
    """Format the end of a command's help."""
    return "\n".join(["\b", "Examples", *(f"  {line}" for line in lines)])


class _Key(click.types.StringParamType):
    """The key of a rollout, completed from the store."""

    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete keys from the store; none if it cannot be read."""
        del param
        address = ctx.params.get("address") or os.environ.get("ROLLOUT_STORE", "")
        with suppress(RolloutError):
            store = GuardedStore(opened(address), address)
            try:
                keys = store.within(_ASKED_S).keys()
                return [CompletionItem(key) for key in keys if key.startswith(incomplete)]
            finally:
                store.close()
                store.rest()
        return []


def key_argument(*, required: bool = True) -> Callable[[Any], Any]:
    """Return the argument KEY."""
    return click.argument("key", metavar="KEY" if required else "[KEY]", type=_Key(), required=required)


@contextmanager
def opened_store(address: str) -> Iterator[GuardedStore]:
    """Open the store at an address; the SDK's errors end the command with their exit codes."""
    try:
        store = GuardedStore(opened(address), address)
        try:
            yield store
        finally:
            store.close()
            store.rest()
    except RolloutError as error:
        raise fault(error) from None


def _must_be_given(context: click.Context, param: click.Parameter, value: str | None) -> str:
    del param
    if value is None:
        raise click.UsageError("Which journal? Pass its folder, DIR, or set ROLLOUT_JOURNAL.", context)
    return value


journal_argument = click.argument(
    "folder",
    metavar="[DIR]",
    required=False,
    envvar="ROLLOUT_JOURNAL",
    callback=_must_be_given,
    type=click.Path(exists=True, file_okay=False),
)


def must_have_records(folder: str) -> None:
    """End the command with exit code 5 if a journal is empty."""
    try:
        journal = read_journal(folder)
        is_empty = not any(map(journal.size, journal.files))
    except (RolloutError, OSError):
        # Reading the journal reports the cause.
        return
    if is_empty:
        raise EmptyFault(
            f"The journal {folder!r} is empty: no process has written there yet. Processes write to Runtime(journal=...) or "
            "ROLLOUT_JOURNAL, within a second of a call. Compare the two folders (rollout doctor)."
        )


def must_be_whole(folder: str, damaged: int) -> None:
    """End the command with exit code 6 if lines or files of a journal cannot be read."""
    if damaged:
        lines = "1 line or file" if damaged == 1 else f"{damaged:,} lines or files"
        raise DamagedFault(
            f"{lines} of the journal {folder!r} cannot be read; the above is of the others. Look for the cause: rollout doctor."
        )
