"""Commands that read a journal: `rollout report` and `rollout doctor`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from rollout_sdk.analysis import Report, as_screen, as_text, summarise
from rollout_sdk.analysis.verdict import Headline
from rollout_sdk.cli.options import (
    examples,
    journal_argument,
    json_option,
    must_be_whole,
    must_have_records,
    opened_store,
)
from rollout_sdk.cli.output import fault, progress, say, width, write_private
from rollout_sdk.concurrency.clocks import time
from rollout_sdk.control.stored import StoredRollout, StoredStatus
from rollout_sdk.exceptions import JournalError, RolloutError
from rollout_sdk.formatting import plain
from rollout_sdk.journal import KeptPair, read_journal, read_pairs
from rollout_sdk.plan import parse_duration

__all__ = ["COMMANDS"]

_MOST_NAMED = 20


def _time(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Parse a time, or how long ago it was; return seconds since 1970."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        pass
    try:
        return time() - parse_duration(value, "--since")
    except RolloutError:
        raise click.BadParameter("Give a time (2026-11-24, in UTC) or how long ago (2d, 12h).") from None


_COLOURS: Mapping[Headline, str] = {"SHIP": "green", "DO NOT SHIP": "red", "CHECK": "magenta", "WAIT": "yellow"}


def _styled(text: str, headline: Headline) -> str:
    return click.style(text, fg=_COLOURS[headline], bold=True)


@click.command(
    epilog=examples(
        "rollout report journal/",
        "rollout report journal/ --rollout shop.rank --full",
        "rollout report journal/ --html report.html --store sqlite:///rollouts.db",
        "ROLLOUT_JOURNAL=journal rollout report --since 2d --json",
    )
)
@journal_argument
@click.option("--rollout", metavar="KEY", help="Only this rollout.")
@click.option(
    "--since", "since_s", metavar="TIME", callback=_time, help="Only decisions since then: 2026-11-24, or 2d for two days ago."
)
@click.option("--phase", metavar="PHASE", help="Only this phase, by its name or number.")
@click.option("--full", is_flag=True, help="Also print the tables of every phase and arm.")
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page with charts, in one file.")
@click.option("--answers/--no-answers", default=True, help="Show kept pairs of answers in the page.  [default: answers]")
@click.option(
    "--store",
    "address",
    metavar="ADDRESS",
    help="With --html: also show current states, from this store; by default that of ROLLOUT_STORE.",
)
@json_option
def report(
    folder: str,
    rollout: str | None,
    since_s: float | None,
    phase: str | None,
    full: bool,
    html: str | None,
    answers: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Report what to do about each rollout of a journal, and why.

    DIR is the journal's folder; by default that of ROLLOUT_JOURNAL. Rollouts that need attention come first. Exit code 5: the
    journal is empty. 6: part of it cannot be read, and the report covers the rest.
    """
    if address is not None and html is None:
        raise click.UsageError("--store is for the page: give --html, too. rollout status shows what is in a store.")
    if html is not None:
        address = address or os.environ.get("ROLLOUT_STORE") or None
    must_have_records(folder)
    try:
        with progress("Reading the journal") as update:
            summary = summarise(folder, rollout=rollout, since_s=since_s, phase=phase, progress=update)
    except RolloutError as error:
        raise fault(error) from None
    if rollout is not None and not summary.rollouts:
        _must_be_there(folder, rollout)
    if html is not None:
        _write_page(
            summary, html, _kept(folder, summary) if answers else {}, {} if address is None else _stored(address, summary)
        )
    if as_json:
        say(json.dumps(summary.as_dict(), indent=2))
    elif html is None or full:
        is_seen = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        # Untrusted names are already escaped: the only control characters are colours.
        (click.echo if is_seen else say)(as_screen(summary, width=width(), **({"style": _styled} if is_seen else {})))
        if full:
            say(f"\n{as_text(summary)}")
    must_be_whole(folder, summary.damaged)


def _must_be_there(folder: str, key: str) -> None:
    """End the command with exit code 1 if a journal has nothing of a rollout."""
    known = sorted({record["rollout"] for record in read_journal(folder) if "rollout" in record})
    if key not in known:
        names = ", ".join(plain(each, 60) for each in known[:_MOST_NAMED])
        more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
        raise click.ClickException(f"No rollout {plain(key, 60)!r} in {folder!r}; it has: {names or 'none'}{more}.")


def _kept(folder: str, summary: Report) -> dict[str, list[KeptPair]]:
    """Return the pairs of answers that are kept of each rollout."""
    try:
        kept = {each.rollout: read_pairs(folder, each.rollout) for each in summary.rollouts}
    except OSError as error:
        raise fault(
            JournalError(f"The kept pairs in {folder!r} cannot be read: {error.strerror}. --no-answers leaves them out.")
        ) from None
    return {key: pairs for key, pairs in kept.items() if pairs}


def _stored(address: str, summary: Report) -> dict[str, StoredStatus]:
    """Return where the rollouts stand that are in the store."""
    with opened_store(address) as store:
        known = set(store.keys())
        return {each.rollout: StoredRollout(store, each.rollout).status() for each in summary.rollouts if each.rollout in known}


def _write_page(summary: Report, path: str, kept: Mapping[str, list[KeptPair]], stored: Mapping[str, StoredStatus]) -> None:
    # Imported here: pages load more than the terminal's report needs.
    from rollout_sdk.page import as_html

    try:
        if kept:
            write_private(path, as_html(summary, pairs=kept, stored=stored))
        else:
            Path(path).write_text(as_html(summary, stored=stored), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"The page cannot be written to {path!r}: {error.strerror}.") from None
    click.echo(f"The page is {path}", err=True)
    if kept:
        click.echo("It holds answers, as redact= left them, so you alone can read it. --no-answers leaves them out.", err=True)


@click.command(epilog=examples("rollout doctor", "rollout doctor journal/ --json"))
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False, readable=False))
@json_option
@click.pass_context
def doctor(context: click.Context, folder: str | None, as_json: bool) -> None:
    """Examine the installation, the settings and a journal.

    DIR is the journal's folder; by default that of ROLLOUT_JOURNAL. Imports no plugin and no application. Exit code 0: there is
    nothing to do. 1: there are warnings or errors.
    """
    # Imported here: it loads more than a report needs.
    from rollout_sdk.doctor import as_text as doctor_text
    from rollout_sdk.doctor import examine

    try:
        with progress("Reading the journal") as update:
            diagnosis = examine(folder, progress=update)
    except RolloutError as error:
        raise fault(error) from None
    say(json.dumps(diagnosis.as_dict(), indent=2) if as_json else doctor_text(diagnosis))
    context.exit(0 if diagnosis.is_healthy else 1)


COMMANDS = (report, doctor)
