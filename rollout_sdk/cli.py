"""The command `rollout`: reads a journal and says what happened. Needs the extra [cli]."""

from __future__ import annotations

import json
import sys

try:
    import click
except ModuleNotFoundError:
    sys.exit("rollout needs click, which is not installed. Run: pip install 'rollout-sdk[cli]'")

from rollout_sdk._version import __version__
from rollout_sdk.analysis import as_text, summarise
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


if __name__ == "__main__":
    main()
