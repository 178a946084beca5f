"""How the command speaks: errors with their exit codes, a progress bar, and text that spoils no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from rollout_sdk.exceptions import ConflictError, RolloutError, StoreError
from rollout_sdk.formatting import plain

__all__ = ["Fault", "fault", "progress", "say", "warn"]

_LONGEST_ERROR = 4_000
_LARGEST_IN_FOUR = 0xFFFF


class Fault(click.ClickException):
    """An error of ours, said without a stack trace. Exit code 1; click's own usage errors are 2."""


class _Conflict(Fault):
    exit_code = 3


class _NoStore(Fault):
    exit_code = 4


def fault(error: RolloutError) -> Fault:
    """What the command ends with: 1 when it is refused, 3 when somebody was faster, 4 when the store did not answer."""
    kind = _Conflict if isinstance(error, ConflictError) else _NoStore if isinstance(error, StoreError) else Fault
    # One line, whatever names and texts it quotes.
    return kind(plain(error, _LONGEST_ERROR))


def say(text: str) -> None:
    """Print a text that may hold names from anywhere."""
    encoding = sys.stdout.encoding or "utf-8"
    # JSON escapes all but one control character itself, DEL; of other texts, each line is one of ours.
    lines = "\n".join("".join(map(_shown, line)) if not line.isprintable() else line for line in text.split("\n"))
    click.echo(lines.encode(encoding, "backslashreplace").decode(encoding))


def _shown(letter: str) -> str:
    """A letter as a terminal may get it; what is not printable is escaped as in JSON."""
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) <= _LARGEST_IN_FOUR else f"\\U{ord(letter):08x}"


def warn(text: str) -> None:
    """Print a line on standard error: what is printed on standard output is not all."""
    click.echo(plain(text, _LONGEST_ERROR), err=True)


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
