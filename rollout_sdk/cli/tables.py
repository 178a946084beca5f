"""Commands that convert journals to and from tables: compact, export, import."""

from __future__ import annotations

import json
import os

import click
from attrs import asdict

from rollout_sdk.analysis.cautions import about_missing
from rollout_sdk.analysis.compact import compact as compacted
from rollout_sdk.analysis.export import TABLES
from rollout_sdk.analysis.export import export as exported
from rollout_sdk.analysis.importing import Columns, Imported, import_outcomes
from rollout_sdk.cli.options import examples, journal_argument, json_option, must_be_whole, must_have_records
from rollout_sdk.cli.output import DamagedFault, fault, progress, say
from rollout_sdk.exceptions import RolloutError
from rollout_sdk.formatting import number, plain, several, size
from rollout_sdk.journal import read_journal
from rollout_sdk.plan import parse_duration

__all__ = ["COMMANDS"]


@click.command(
    epilog=examples("rollout compact journal/", "rollout compact journal/ --idle 1h", "rollout compact --to s3://logs/journal")
)
@journal_argument
@click.option("--idle", metavar="TIME", help="Also files of other machines, once unchanged for this long.  [default: 1d]")
@click.option("--to", metavar="ADDRESS", help="Move the Parquet files: to another folder, or s3://bucket/folder.")
@json_option
def compact(folder: str, idle: str | None, to: str | None, as_json: bool) -> None:
    """Turn finished files of a journal into Parquet.

    Files that may still be written stay as they are. You can stop it at any time, and run it again. Reports read Parquet with
    DuckDB: pip install 'rollout-sdk[analysis]'.
    """
    try:
        idle_s = 86_400.0 if idle is None else parse_duration(idle, "--idle")
        with progress("Compacting the journal") as show:
            done = compacted(folder, to=to, idle_s=idle_s, progress=show)
    except RolloutError as error:
        raise fault(error) from None
    if as_json:
        say(json.dumps(asdict(done), indent=2))
        return
    sizes = f"{size(done.bytes_before)}, now {size(done.bytes_after)}"
    what = f"{several(done.parts, 'file')} with {several(done.lines, 'line')}: {sizes}"
    say(what if done.parts else "There is nothing to compact: every finished file is compacted already.")
    if done.left:
        say(f"{several(done.left, 'file')} may still be written, and stayed as is.")
    if done.removed:
        say(f"{several(done.removed, 'file')} of an interrupted compaction removed.")


@click.command(epilog=examples("rollout export journal/ --to tables/", "rollout export journal/ --to tables/ --format csv"))
@journal_argument
@click.option("--to", required=True, metavar="DIR", type=click.Path(file_okay=False), help="Folder for the files.")
@click.option(
    "--format",
    "form",
    default="parquet",
    type=click.Choice(["parquet", "csv"]),
    help="Format of the files.  [default: parquet]",
)
def export(folder: str, to: str, form: str) -> None:
    """Write a journal as tables for a warehouse.

    Exposures, outcomes, shadows and transitions, as Parquet or CSV.
    Their columns are in docs/warehouse.md. Exit code 5: the journal is empty.
    6: part of it cannot be read; the tables are of the rest.
    """
    must_have_records(folder)
    try:
        journal = read_journal(folder)
        with progress("Writing tables") as show:
            counts = exported(journal, to, form="csv" if form == "csv" else "parquet", progress=show)
    except RolloutError as error:
        raise fault(error) from None
    for name in TABLES:
        say(f"{to}/{name}.{form}: {several(counts[name], 'row')}")
    for line in about_missing(journal.missing):
        say(line)
    must_be_whole(folder, journal.damaged)


@click.command(
    "import",
    epilog=examples(
        "rollout import sales.csv journal/ --rollout shop.rank --metric sale",
        "rollout import sales.csv --rollout shop.rank --metric sale --value eur",
    ),
)
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@journal_argument
@click.option("--rollout", required=True, metavar="KEY", help="The rollout that the outcomes belong to.")
@click.option("--metric", required=True, metavar="NAME", help="Name of the metric.")
@click.option("--unit", default="unit", show_default=True, metavar="COLUMN", help="Column of the unit.")
@click.option("--value", default="value", show_default=True, metavar="COLUMN", help="Column of the value.")
@click.option(
    "--time", default="time", show_default=True, metavar="COLUMN", help="Column of the time: ISO 8601 (UTC), or since 1970."
)
@click.option("--event-id", metavar="COLUMN", help="Column of the event's id, if an event may come again with another value.")
@click.option("--layer", metavar="NAME", help="The rollout's layer, if it has one.")
@json_option
def import_(
    path: str,
    folder: str,
    rollout: str,
    metric: str,
    unit: str,
    value: str,
    time: str,
    event_id: str | None,
    layer: str | None,
    as_json: bool,
) -> None:
    """Import outcomes from a file into a journal.

    The file is CSV, Parquet or JSON lines. Each outcome goes to its unit's last call before it. Set ROLLOUT_KEY to the key of
    the serving processes. Importing the same file again changes nothing. Exit code 1: the file or a column is missing. 6: some
    rows cannot be used; the others were imported.
    """
    key = os.environ.get("ROLLOUT_KEY")
    try:
        with progress("Importing outcomes") as show:
            done = import_outcomes(
                path,
                folder,
                rollout=rollout,
                metric=metric,
                columns=Columns(unit, value, time, event_id),
                layer=layer,
                key=key.encode() if key else None,
                progress=show,
            )
    except RolloutError as error:
        raise fault(error) from None
    if as_json:
        say(json.dumps({**asdict(done), "left_out": dict(done.left_out)}, indent=2))
    else:
        say("\n".join(_lines(done)))
    if done.left_out:
        raise DamagedFault(
            f"{several(done.left_out.total(), 'row')} of {several(done.rows, 'row')} cannot be used; the others were imported. "
            "Fix the file and import it again: what is in the journal is not written twice."
        )


def _lines(done: Imported) -> list[str]:
    lines = [f"{several(done.rows, 'row')}: {number(done.written)} imported"]
    if done.known:
        lines.append(f"  {number(done.known)} are in the journal already")
    if done.repeated:
        lines.append(f"  {number(done.repeated)} are duplicates in the file, and count once")
    for why, count in done.left_out.items():
        lines.append(f"  {number(count)} left out: {plain(why, 100)} (the first is row {number(done.first[why])})")
    return lines


COMMANDS = (compact, export, import_)
