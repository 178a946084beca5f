"""`--watch`: a screen that is redrawn every second, or, in a pipe, a line for each change."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

from rollout_sdk.cli.output import printable, say, warn, width
from rollout_sdk.cli.screens import as_change, as_line
from rollout_sdk.concurrency.clocks import sleep, time
from rollout_sdk.control.stored import StoredStatus
from rollout_sdk.exceptions import StoreError
from rollout_sdk.formatting import fitting, plain, when

__all__ = ["watch"]

_EVERY_S = 1.0
_CLEAR = "\x1b[2J\x1b[H"

_Look = Callable[[], list[StoredStatus]]
_Draw = Callable[[list[StoredStatus]], str]


def watch(look: _Look, draw: _Draw) -> None:
    """Look every second until Ctrl-C, which is how a watch ends: exit code 0.

    Raises:
        RolloutError: The first look failed. Later, it waits for a store that does not answer.
    """
    with suppress(KeyboardInterrupt):
        found = look()
        if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            _draw(found, look, draw)
        else:
            _print(found, look)


def _looked(look: _Look) -> tuple[list[StoredStatus] | None, str]:
    """Return the result of a look, or the reason why it failed."""
    try:
        return look(), ""
    except StoreError as error:
        return None, plain(error, 500)


def _print(found: list[StoredStatus], look: _Look) -> None:
    known: dict[str, object] = {}
    latest: list[StoredStatus] | None = found
    silent = ""
    while True:
        for each in latest or ():
            if known.get(each.key) != (change := as_change(each)):
                known[each.key] = change
                say(as_line(each))
        sys.stdout.flush()
        sleep(_EVERY_S)
        latest, why = _looked(look)
        if why and not silent:
            warn(why)
        silent = why


def _draw(found: list[StoredStatus], look: _Look, draw: _Draw) -> None:
    latest: list[StoredStatus] | None = found
    text, why = draw(found), ""
    with _screen() as show:
        while True:
            text = text if latest is None else draw(latest)
            foot = f"{when(time())}, every second; Ctrl-C ends" if not why else f"{when(time())}, no answer: {why}"
            show(*_cut(text, foot))
            sleep(_EVERY_S)
            latest, why = _looked(look)


def _cut(text: str, foot: str) -> tuple[str, str]:
    """Cut a text to the height of the terminal, with a footer."""
    lines = [part for line in printable(text).split("\n") for part in fitting(line, width())]
    below = fitting(foot, width())
    room = max(shutil.get_terminal_size().lines - len(below) - 2, 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines: make the window higher"]
    return "\n".join(lines), "\n".join(below)


@contextmanager
def _screen() -> Iterator[Callable[[str, str], None]]:
    """Provide a function that replaces the screen by a text and a footer; uses rich if it is installed."""
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        yield lambda text, foot: click.echo(f"{_CLEAR}{text}\n\n{foot}")
        return
    console = Console(highlight=False)

    def shown(text: str) -> Text:
        styled = Text(text, no_wrap=True)
        styled.highlight_words(("PASS", "promoted"), "green")
        styled.highlight_words(("FAIL", "INVALID", "aborted", "rolled_back", "no process"), "red")
        styled.highlight_words(("INCONCLUSIVE", "INSUFFICIENT_DATA", "FUTILE", "ERROR", "paused"), "yellow")
        return styled

    last = ""
    with Live("", console=console, screen=True, auto_refresh=False) as live:

        def show(text: str, foot: str) -> None:
            nonlocal last
            last = text
            live.update(shown(f"{text}\n\n{foot}"), refresh=True)

        try:
            yield show
        finally:
            live.stop()
            # The last screen stays on the terminal.
            console.print(shown(last))
