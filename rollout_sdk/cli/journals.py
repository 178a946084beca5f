"""What the command says about a journal: a report, and a diagnosis."""

from __future__ import annotations

import json

import click

from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.cli.output import fault, progress, say
from rollout_sdk.doctor import as_text as doctor_text
from rollout_sdk.doctor import examine
from rollout_sdk.exceptions import RolloutError

__all__ = ["COMMANDS"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(folder: str, as_json: bool) -> None:
    """Report the journal in DIR: shares, metrics, latency, errors, shadow agreement, preference."""
    try:
        summary = summarise(folder)
    except RolloutError as error:
        raise fault(error) from None
    say(json.dumps(summary.as_dict(), indent=2) if as_json else as_text(summary))


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False, readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def doctor(context: click.Context, folder: str | None, as_json: bool) -> None:
    """Say what is installed and set, how healthy the journal in DIR is (or in ROLLOUT_JOURNAL), and what to do.

    Imports no plugin and no application. Exit code: 0 when nobody needs to do anything, 1 after warnings or errors, 2 when
    the command itself is wrong.
    """
    try:
        with progress("Reading the journal") as told:
            diagnosis = examine(folder, progress=told)
    except RolloutError as error:
        raise fault(error) from None
    say(json.dumps(diagnosis.as_dict(), indent=2) if as_json else doctor_text(diagnosis))
    context.exit(0 if diagnosis.is_healthy else 1)


COMMANDS = (report, doctor)
