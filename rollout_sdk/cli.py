"""The command `rollout`: reads a journal and says what happened, and whether all is well. Needs the extra [cli]."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    import click
except ModuleNotFoundError:
    sys.exit("rollout needs click, which is not installed. Run: pip install 'rollout-sdk[cli]'")

from rollout_sdk._version import __version__
from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.doctor import as_text as doctor_text
from rollout_sdk.doctor import examine
from rollout_sdk.exceptions import RolloutError

__all__ = ["main"]


class _Fault(click.ClickException):
    """An error of ours, said without a stack trace. Exit code 1; click's own usage errors are 2."""


@click.group()
@click.version_option(__version__, prog_name="rollout")
def main() -> None:
    """Put a new model beside the one in production, and find out safely which is better."""


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(folder: str, as_json: bool) -> None:
    """Report the journal in DIR: shares, metrics, latency, errors, shadow agreement, preference."""
    try:
        summary = summarise(folder)
    except RolloutError as error:
        raise _Fault(str(error)) from None
    click.echo(json.dumps(summary.as_dict(), indent=2) if as_json else as_text(summary))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error where that is a terminal; it takes the bytes read so far, and of how many."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="Reading the journal", file=sys.stderr) as bar:

        def told(done: int, of: int) -> None:
            bar.length = max(of, 1)
            bar.update(done - bar.pos)

        yield told


@main.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False, readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def doctor(context: click.Context, folder: str | None, as_json: bool) -> None:
    """Say what is installed and set, how healthy the journal in DIR is (or in ROLLOUT_JOURNAL), and what to do.

    Imports no plugin and no application. Exit code: 0 when nobody needs to do anything, 1 after warnings or errors, 2 when
    the command itself is wrong.
    """
    try:
        with _progress() as told:
            diagnosis = examine(folder, progress=told)
    except RolloutError as error:
        raise _Fault(str(error)) from None
    # DEL is the one control character that JSON leaves as it is.
    said = json.dumps(diagnosis.as_dict(), indent=2).replace("\x7f", "\\u007f") if as_json else doctor_text(diagnosis)
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(said.encode(encoding, "backslashreplace").decode(encoding))
    context.exit(0 if diagnosis.is_healthy else 1)


if __name__ == "__main__":
    main()
