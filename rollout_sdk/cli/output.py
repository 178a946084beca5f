"""Output of the command: errors with exit codes, a progress bar, and text that is safe for a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from textwrap import wrap
from typing import Any

import click

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.exceptions import ConflictError, RolloutError, StoreError, UnreachableError, WaitTimeoutError
from rollout_sdk.formatting import WIDTH, fitting, plain

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
    "write_private",
]

EXIT_CODES = """\b
Exit codes
  0  done
  1  refused; or, of doctor, something needs attention
  2  wrong usage
  3  another change came first (--revision)
  4  there is no such store, or it did not answer
  5  the journal is empty
  6  part of the journal, store or file cannot be read; the rest is done
  7  timeout (wait --timeout)
  8  the awaited status can no longer come (wait)
"""

_LONGEST_ERROR = 4_000
_LARGEST_IN_FOUR = 0xFFFF
_NARROWEST, _WIDEST = 40, 120
_PATIENCE_S = 2.0
"""Seconds before a progress bar is drawn: what is done by then needs none."""


class Fault(click.ClickException):
    """An error of the SDK, shown without a stack trace. Exit code 1; click's own usage errors have 2."""

    def show(self, file: object = None) -> None:
        """Print it on standard error: wrapped for a terminal, otherwise in one line, for logs."""
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
    """The journal is empty."""

    exit_code = 5


class DamagedFault(Fault):
    """Part of the requested data cannot be read."""

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
    """Convert an error to one with an exit code; see `EXIT_CODES`."""
    kind = next((fault for kind, fault in _FAULTS if isinstance(error, kind)), Fault)
    # Escaped, because it may quote any names and texts.
    return kind(plain(error, _LONGEST_ERROR))


def width() -> int:
    """Return the columns of the terminal; 80 if there is none."""
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, _NARROWEST), _WIDEST)


def printable(text: str) -> str:
    """Escape a text with untrusted names for a terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    # JSON escapes all control characters but DEL; newlines in other texts are the SDK's own.
    lines = "\n".join("".join(map(_shown, line)) if not line.isprintable() else line for line in text.split("\n"))
    return lines.encode(encoding, "backslashreplace").decode(encoding)


def say(text: str) -> None:
    """Print a text that may contain untrusted names."""
    click.echo(printable(text))


def say_fitting(text: str) -> None:
    """Print a text, wrapped to the width of the terminal."""
    say("\n".join(part for line in text.split("\n") for part in fitting(line, width())))


def write_private(path: str, content: str) -> None:
    """Write a file that its owner alone can read, as the kept answers that are in it.

    Raises:
        OSError: It cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if hasattr(os, "fchmod"):
            # One that was there before may be open to others.
            os.fchmod(descriptor, 0o600)
        file.write(content)


def _shown(letter: str) -> str:
    """Escape a non-printable character as in JSON."""
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) <= _LARGEST_IN_FOUR else f"\\U{ord(letter):08x}"


def warn(text: str) -> None:
    """Print a warning on standard error: standard output is incomplete."""
    line = plain(text, _LONGEST_ERROR)
    click.echo("\n".join(fitting(line, width())) if sys.stderr.isatty() else line, err=True)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar if standard error is a terminal and it takes more than two seconds.

    Yields a function of the number done and the total, or None.
    """
    if not sys.stderr.isatty():
        yield None
        return
    began = monotonic()
    with ExitStack() as stack:
        bars: list[Any] = []

        def update(done: int, of: int) -> None:
            if not bars:
                if monotonic() - began < _PATIENCE_S:
                    return
                bars.append(stack.enter_context(click.progressbar(length=1, label=label, file=sys.stderr)))
            bars[0].length = max(of, 1)
            bars[0].update(done - bars[0].pos)

        yield update
