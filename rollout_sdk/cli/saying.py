"""How the command speaks: errors with their exit codes, a progress bar, and text that spoils no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from rollout_sdk.exceptions import ConflictError, RolloutError, StoreError

__all__ = ["Fault", "fault", "progress", "say"]


class Fault(click.ClickException):
    """An error of ours, said without a stack trace. Exit code 1; click's own usage errors are 2."""


class _Conflict(Fault):
    exit_code = 3


class _NoStore(Fault):
    exit_code = 4


def fault(error: RolloutError) -> Fault:
    """What the command ends with: 1 when it is refused, 3 when somebody was faster, 4 when the store did not answer."""
    kind = _Conflict if isinstance(error, ConflictError) else _NoStore if isinstance(error, StoreError) else Fault
    return kind(str(error))


def say(text: str) -> None:
    """Print a text that may hold names from anywhere."""
    encoding = sys.stdout.encoding or "utf-8"
    # DEL is the one control character that JSON leaves as it is.
    click.echo(text.replace("\x7f", "\\u007f").encode(encoding, "backslashreplace").decode(encoding))


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error where that is a terminal; it takes what is done so far, and of how much."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def told(done: int, of: int) -> None:
            bar.length = max(of, 1)
            bar.update(done - bar.pos)

        yield told
