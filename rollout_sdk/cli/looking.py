"""Commands that read a store: all rollouts, one rollout, its history, and waiting for a status."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, cast

import click

from rollout_sdk.cli.options import examples, in_store, json_option, key_argument, opened_store
from rollout_sdk.cli.output import DamagedFault, say, say_fitting, warn, width
from rollout_sdk.cli.screens import as_line, as_list, as_page, moment
from rollout_sdk.cli.watching import watch
from rollout_sdk.control.stored import StoredRollout, StoredStatus, Until
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import StateError
from rollout_sdk.formatting import plain
from rollout_sdk.plan import parse_duration

__all__ = ["COMMANDS"]

_NOTHING = "The store has no rollout: no process has decorated a function with it yet."
_INTERRUPTED = 130
_UNTIL = ("running", "paused", "promoted", "rolled-back", "aborted", "over")

_watch = click.option("--watch", "is_watched", is_flag=True, help="Look again every second, until Ctrl-C.")


class _Found:
    """The statuses found in a store, and the errors of rollouts that cannot be read."""

    def __init__(self, store: StateStore, key: str | None) -> None:
        """Read the store."""
        self.damaged: list[str] = []
        self.statuses: list[StoredStatus] = []
        if key is not None:
            self.statuses.append(StoredRollout(store, key).status())
            return
        keys = store.keys()
        for each in keys:
            try:
                self.statuses.append(StoredRollout(store, each).status())
            # A damaged one must not hide the others.
            except StateError as error:
                self.damaged.append(plain(error, 500))

    def finish(self) -> None:
        """Print what is missing above, and end with the exit code for it."""
        for note in (note for each in self.statuses for note in each.notes):
            warn(note)
        if self.damaged:
            *others, last = self.damaged
            for each in others:
                warn(each)
            raise DamagedFault(
                f"{last} {len(self.damaged)} of {len(self.damaged) + len(self.statuses)} rollouts cannot be read."
            )


@click.command(
    "list", epilog=examples("rollout list", "rollout list --watch", "rollout list --store sqlite:///rollouts.db --json")
)
@in_store
@_watch
@json_option
def list_command(address: str, is_watched: bool, as_json: bool) -> None:
    """List the rollouts of a store, one per line.

    Columns: status; last verdict; step in the plan; share of all candidates; time in this phase; and live processes that serve
    it (3/4: three of four have followed the last change).
    """
    _check_watch(is_watched, as_json)
    with opened_store(address) as store:
        if is_watched:
            watch(lambda: _Found(store, None).statuses, lambda found: as_list(found, width()) if found else _NOTHING)
            return
        found = _Found(store, None)
    if as_json:
        say(json.dumps([each.as_dict() for each in found.statuses], indent=2))
    else:
        say_fitting(as_list(found.statuses, width()) if found.statuses else _NOTHING)
    found.finish()


@click.command(epilog=examples("rollout status shop.rank", "rollout status shop.rank --watch", "rollout status --json"))
@key_argument(required=False)
@in_store
@_watch
@json_option
def status(key: str | None, address: str, is_watched: bool, as_json: bool) -> None:
    """Show the status of a rollout: plan, processes, verdict.

    Without a KEY, all rollouts of the store. With --watch, the screen is redrawn every second, with how far the evidence is
    from deciding; in a pipe, changes are lines.
    """
    _check_watch(is_watched, as_json)
    with opened_store(address) as store:
        if is_watched:
            watch(lambda: _Found(store, key).statuses, lambda found: _as_pages(found, bars=True))
            return
        found = _Found(store, key)
    if as_json:
        tables = [each.as_dict() for each in found.statuses]
        say(json.dumps(tables[0] if key else tables, indent=2))
    else:
        say_fitting(_as_pages(found.statuses))
    found.finish()


def _check_watch(is_watched: bool, as_json: bool) -> None:
    if is_watched and as_json:
        raise click.UsageError("--watch draws a screen, or prints lines. For JSON, run the command repeatedly without it.")


def _as_pages(found: list[StoredStatus], *, bars: bool = False) -> str:
    return "\n\n".join(as_page(each, bars=bars) for each in found) or _NOTHING


@click.command(epilog=examples("rollout history shop.rank", "rollout history shop.rank --json"))
@key_argument()
@in_store
@json_option
def history(key: str, address: str, as_json: bool) -> None:
    """List every change of a rollout: when, what, who, why."""
    with opened_store(address) as store:
        records = StoredRollout(store, key).history()
    if as_json:
        say(json.dumps(records, indent=2))
        return
    damaged = 0
    for record in records:
        try:
            # In a pipe, each change is one line, however long its reason is.
            (say_fitting if sys.stdout.isatty() else say)(_as_line(record))
        except (ArithmeticError, LookupError, TypeError, ValueError):
            damaged += 1
    if damaged:
        raise DamagedFault(
            f"{damaged} of {len(records)} records of {key!r} cannot be read and are left out above. "
            "They are damaged, or of another version of rollout_sdk. Look at them with --json."
        )


def _as_line(record: Mapping[str, Any]) -> str:
    """Format a change, whatever its fields hold."""
    by = f"  by {plain(record['actor'])}" if record["actor"] else ""
    why = f": {plain(record['reason'], 2_000)}" if record["reason"] else ""
    what = f"{record['revision']:>4}  {plain(record['action']):<12}  {plain(record['status']):<11}  {plain(record['phase'])}"
    return f"{moment(record['time_s'])}  {what}{by}{why}"


@click.command(
    epilog=examples(
        "rollout wait shop.rank --until promoted --timeout 2h",
        "rollout wait shop.rank --until over && rollout history shop.rank",
    )
)
@key_argument()
@in_store
@click.option(
    "--until", required=True, type=click.Choice(_UNTIL), help="What to wait for; over: promoted, rolled back or aborted."
)
@click.option("--timeout", metavar="TIME", help="How long: 90s, 30m, 2h.  [default: as long as it takes]")
@json_option
@click.pass_context
def wait(context: click.Context, key: str, address: str, until: str, timeout: str | None, as_json: bool) -> None:
    """Wait until a rollout is promoted, or over.

    Prints a line for each change. Exit codes: 0 it has this status; 7 timeout; 8 it can no longer get it (for example, it was
    aborted or restarted with another version); 1 unknown rollout; 4 the store did not answer, at first or for a minute.
    """
    with opened_store(address) as store:
        try:
            found = StoredRollout(store, key).wait(
                cast("Until", until.replace("-", "_")),
                timeout_s=None if timeout is None else parse_duration(timeout, "--timeout"),
                changed=None if as_json else lambda now: say(as_line(now)),
            )
        except KeyboardInterrupt:
            # The shell's exit code for an interrupt: neither reached nor unreachable.
            context.exit(_INTERRUPTED)
    if as_json:
        say(json.dumps(found.as_dict(), indent=2))


COMMANDS = (list_command, status, history, wait)
