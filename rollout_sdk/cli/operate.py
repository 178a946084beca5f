"""Commands that change rollouts in a store: every process that serves them follows within a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from rollout_sdk.cli.options import examples, in_store, json_option, key_argument, opened_store
from rollout_sdk.cli.output import say, say_fitting, warn
from rollout_sdk.control.stored import StoredChange, StoredRollout
from rollout_sdk.formatting import plain

__all__ = ["COMMANDS"]

_candidate = click.option("--candidate", metavar="NAME", help="The candidate, if there are several.")
_force = click.option("--force", is_flag=True, help="Do it even if the last verdict is not PASS.")


def _changing(
    name: str,
    change: Callable[..., StoredChange],
    help_: str,
    example: str,
    *options: Any,
    urgent: bool = False,
) -> click.Command:
    """Build a command that changes a rollout; an urgent one needs no reason."""

    def run(key: str, address: str, actor: str, reason: str, revision: int | None, as_json: bool, **options_: Any) -> None:
        with opened_store(address) as store, StoredRollout(store, key, actor=actor) as rollout:
            done = change(rollout, reason=reason, revision=revision, **options_)
            is_served = bool(rollout.status().processes)
        if as_json:
            say(json.dumps(done.after.as_dict(), indent=2))
        else:
            say_fitting(plain(done, 1_000))
        if not is_served:
            # Processes tell of changes that they follow. One that starts later begins with the state as it is.
            warn(
                f"No live process serves {plain(key, 60)}: the journal and other signals will not have this change. rollout "
                f"history {plain(key, 60)} has it."
            )

    run.__doc__ = help_
    why = (
        {"default": "", "help": "Reason, for the history."}
        if urgent
        else {"required": True, "help": "Reason, for the history."}
    )
    command: Any = run
    # In reverse order of the command line.
    for decorate in (
        json_option,
        click.option("--revision", type=int, metavar="N", help="The revision you looked at: refused if it has changed since."),
        click.option("--reason", metavar="TEXT", **why),
        click.option("--actor", default="", show_default="you", metavar="NAME", help="Name of the operator, for the history."),
        in_store,
        *options,
        key_argument(),
    ):
        command = decorate(command)
    return click.command(name, epilog=examples(*(f"rollout {line}" for line in example.split("\n"))))(command)


COMMANDS = (
    _changing(
        "promote",
        StoredRollout.promote,
        """Take the next step: a greater share, or everybody.

        Refused while the last verdict about the step is not PASS, unless you --force it.
        """,
        'promote shop.rank --reason "the dashboard is green"\npromote shop.rank --force --reason "agreed with ann"',
        _candidate,
        _force,
    ),
    _changing(
        "promote-full",
        StoredRollout.promote_full,
        """Give everybody the candidate now.

        Refused while the last verdict about the step is not PASS, unless you --force it.
        """,
        'promote-full shop.rank --reason "the old model goes today"',
        _candidate,
        _force,
    ),
    _changing(
        "pause",
        StoredRollout.pause,
        """Stay in the step until it is resumed.

        Shares stay as they are. The judge may still roll back.
        """,
        'pause shop.rank --reason "a sale until noon"',
        urgent=True,
    ),
    _changing(
        "resume",
        StoredRollout.resume,
        "Continue after a pause.",
        'resume shop.rank --reason "the sale is over"\nresume shop.rank --clear-invalid --reason "a redirect lost users"',
        click.option(
            "--clear-invalid",
            is_flag=True,
            help="Also clear the judge's alarm: you know why the shares were not the configured ones, and it is over.",
        ),
    ),
    _changing(
        "abort",
        StoredRollout.abort,
        """Give everybody the control; final.

        Processes follow within a second; rollout status KEY shows which have.
        """,
        'abort shop.rank\nabort shop.rank --reason "complaints from France"',
        urgent=True,
    ),
    _changing(
        "set-share",
        StoredRollout.set_share,
        """Give a candidate another SHARE, outside the plan.

        A greater share is refused while the last verdict is not PASS, unless you --force it.
        """,
        'set-share shop.rank 2% --reason "fewer, until the fix is out"',
        click.argument("share"),
        _candidate,
        _force,
    ),
    _changing(
        "skip",
        StoredRollout.skip_step,
        """Skip the next step.

        Refused while the last verdict about the step is not PASS, unless you --force it.
        """,
        'skip shop.rank --reason "5 % says nothing at our traffic"',
        _force,
    ),
)
