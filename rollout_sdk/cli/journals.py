"""What the command says about a journal: a report, and a diagnosis."""

from __future__ import annotations

import json

import click

from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.cli.options import examples, journal_argument, json_option, must_be_whole, must_have_records
from rollout_sdk.cli.output import fault, progress, say
from rollout_sdk.doctor import as_text as doctor_text
from rollout_sdk.doctor import examine
from rollout_sdk.exceptions import RolloutError

__all__ = ["COMMANDS"]


@click.command(epilog=examples("rollout report journal/", "ROLLOUT_JOURNAL=journal rollout report --json"))
@journal_argument
@json_option
def report(folder: str, as_json: bool) -> None:
    """Report a journal: shares, metrics, errors, shadows.

    DIR is the journal's folder; by default that of ROLLOUT_JOURNAL. Exit code 5: it is empty. 6: part of it cannot be read,
    and the report is of the rest.
    """
    must_have_records(folder)
    try:
        summary = summarise(folder)
    except RolloutError as error:
        raise fault(error) from None
    say(json.dumps(summary.as_dict(), indent=2) if as_json else as_text(summary))
    must_be_whole(folder, summary.damaged)


@click.command(epilog=examples("rollout doctor", "rollout doctor journal/ --json"))
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False, readable=False))
@json_option
@click.pass_context
def doctor(context: click.Context, folder: str | None, as_json: bool) -> None:
    """Examine the installation, the settings and a journal.

    DIR is the journal's folder; by default that of ROLLOUT_JOURNAL. Imports no plugin and no application. Exit code 0: nobody
    needs to do anything. 1: there are warnings or errors.
    """
    try:
        with progress("Reading the journal") as told:
            diagnosis = examine(folder, progress=told)
    except RolloutError as error:
        raise fault(error) from None
    say(json.dumps(diagnosis.as_dict(), indent=2) if as_json else doctor_text(diagnosis))
    context.exit(0 if diagnosis.is_healthy else 1)


COMMANDS = (report, doctor)
