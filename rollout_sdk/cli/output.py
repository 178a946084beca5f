"""How the command speaks: errors with their exit codes, a progress bar, and text that spoils no terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from textwrap import wrap
from time import monotonic
from typing import Any

import click

from rollout_sdk.exceptions import ConflictError, RolloutError, StoreError, UnreachableError, WaitTimeoutError
from rollout_sdk.formatting import plain
from rollout_sdk.tables import WIDTH, fitting

__all__ = [
    "EXIT_CODES",
    "DamagedFault",
    "EmptyFault",
    "Fault",
    "fault",
    "printable",
    "progress",
    "say",
    "say_fitting",
    "warn",
    "width",
]

EXIT_CODES = """\b
Exit codes
  0  done
  1  refused; or, of doctor, something needs attention
  2  wrong usage
  3  another change came first (--revision)
  4  there is no such store, or it did not answer
  5  the journal is empty
  6  part of the journal or store cannot be read; the rest is printed
  7  the time is up (wait --timeout)
  8  what is waited for can no longer come (wait)
"""

_LONGEST_ERROR = 4_000
_LARGEST_IN_FOUR = 0xFFFF
_NARROWEST, _WIDEST = 40, 120
_PATIENCE_S = 2.0
"""Seconds before a progress bar is drawn: what is done by then needs none."""


class Fault(click.ClickException):
    """An error of ours, said without a stack trace. Exit code 1; click's own usage errors are 2."""

    def show(self, file: object = None) -> None:
        """Print it on standard error: as wide as a terminal is, and in one line where there is none, for logs."""
        del file
        text = f"Error: {self.format_message()}"
        is_seen = sys.stderr.isatty()
        lines = wrap(text, width(), break_on_hyphens=False, break_long_words=False) if is_seen else [text]
        click.echo("\n".join(lines), err=True)


class _ConflictFault(Fault):
    exit_code = 3


class _StoreFault(Fault):
    exit_code = 4


class EmptyFault(Fault):
    """There is nothing in the journal."""

    exit_code = 5


class DamagedFault(Fault):
    """Part of what was asked for cannot be read."""

    exit_code = 6


class _TimeFault(Fault):
    exit_code = 7


class _UnreachableFault(Fault):
    exit_code = 8


_FAULTS: tuple[tuple[type[RolloutError], type[Fault]], ...] = (
    (ConflictError, _ConflictFault),
    (StoreError, _StoreFault),
    (WaitTimeoutError, _TimeFault),
    (UnreachableError, _UnreachableFault),
)


def fault(error: RolloutError) -> Fault:
    """What the command ends with; see `EXIT_CODES`."""
    kind = next((fault for kind, fault in _FAULTS if isinstance(error, kind)), Fault)
    # Without newlines, whatever names and texts it quotes.
    return kind(plain(error, _LONGEST_ERROR))


def width() -> int:
    """Columns of the terminal; 80 where there is none."""
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, _NARROWEST), _WIDEST)


def printable(text: str) -> str:
    """A text that may hold names from anywhere, as a terminal may get it."""
    encoding = sys.stdout.encoding or "utf-8"
    # JSON escapes all but one control character itself, DEL; of other texts, each line is one of ours.
    lines = "\n".join("".join(map(_shown, line)) if not line.isprintable() else line for line in text.split("\n"))
    return lines.encode(encoding, "backslashreplace").decode(encoding)


def say(text: str) -> None:
    """Print a text that may hold names from anywhere."""
    click.echo(printable(text))


def say_fitting(text: str) -> None:
    """Print a text in lines that are no wider than the terminal."""
    say("\n".join(part for line in text.split("\n") for part in fitting(line, width())))


def _shown(letter: str) -> str:
    """A letter as a terminal may get it; what is not printable is escaped as in JSON."""
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) <= _LARGEST_IN_FOUR else f"\\U{ord(letter):08x}"


def warn(text: str) -> None:
    """Print a line on standard error: what is printed on standard output is not all."""
    line = plain(text, _LONGEST_ERROR)
    click.echo("\n".join(fitting(line, width())) if sys.stderr.isatty() else line, err=True)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, where that is a terminal and it takes more than two seconds.

    It takes what is done so far, and of how much.
    """
    if not sys.stderr.isatty():
        yield None
        return
    began = monotonic()
    with ExitStack() as stack:
        bars: list[Any] = []

        def told(done: int, of: int) -> None:
            if not bars:
                if monotonic() - began < _PATIENCE_S:
                    return
                bars.append(stack.enter_context(click.progressbar(length=1, label=label, file=sys.stderr)))
            bars[0].length = max(of, 1)
            bars[0].update(done - bars[0].pos)

        yield told
