"""`rollout audit`: people label which of two answers is better, for randomly drawn pairs."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from rollout_sdk.cli.options import examples, journal_option
from rollout_sdk.cli.output import EmptyFault, fault, say
from rollout_sdk.exceptions import JournalError, RolloutError
from rollout_sdk.formatting import plain
from rollout_sdk.journal import KeptPair, read_journal
from rollout_sdk.records.sampling import lot_of
from rollout_sdk.runtime import Runtime
from rollout_sdk.runtime.audits import CHOICES, label, label_in, waiting_pairs

__all__ = ["COMMANDS"]

_LONGEST = 4_000


@click.command(
    epilog=examples(
        "rollout audit chat --journal journal/",
        "rollout audit chat --most 50",
        "rollout audit chat --store sqlite:///rollouts.db",
    )
)
@click.argument("key", metavar="KEY")
@journal_option
@click.option(
    "--store",
    "address",
    envvar="ROLLOUT_STORE",
    show_envvar=True,
    metavar="ADDRESS",
    help="Address of the store, so that the processes that judge count the labels.",
)
@click.option("--most", type=click.IntRange(min=1), default=20, show_default=True, help="How many pairs to ask about.")
def audit(key: str, folder: str, address: str | None, most: int) -> None:
    """Label which of two answers is better, blind.

    For each pair: a, b or tie; quit ends.

    The pairs were drawn at random and are shown in random order, so any number of them is a fair sample: answer each, and
    choose "tie" if you cannot tell. Your labels correct the judge of judge.preference. They are written to the journal; with
    a store, the processes that judge count them within seconds. Signed ids need ROLLOUT_KEY. Exit code 5: no pair is left.
    """
    try:
        labels = {found.pair: found for line in read_journal(folder) if (found := label_in(line)) is not None}
        pairs = waiting_pairs(folder, key, labels=labels)
    except OSError as error:
        raise fault(JournalError(f"The pairs in {folder!r} cannot be read: {error.strerror}.")) from None
    if not pairs:
        raise EmptyFault(
            f"No pair of {key!r} is left to label in {folder!r}. With a journal and a guardrail or gate about "
            "'judge.preference', @rollout(keep=Disagreements(200, redact=...)) keeps them."
        )
    # In random order, so that the labelled pairs are a fair sample wherever a person stops.
    asked = sorted(pairs, key=lambda pair: lot_of(pair.id, "audited"))[:most]
    try:
        runtime = Runtime(journal=folder, store=address, key=os.environ.get("ROLLOUT_KEY") or None)
    except RolloutError as error:
        raise fault(error) from None
    try:
        done = _asked(runtime, key, asked)
    finally:
        runtime.close()
    where = "" if address else " Without --store, only reports and replays see them."
    say(f"{done:,} of {len(pairs):,} pairs labelled.{where}")


def _asked(runtime: Runtime, key: str, pairs: list[KeptPair]) -> int:
    """Ask about pairs, and record each answer; return how many were given."""
    for number, pair in enumerate(pairs):
        say(f"\n{number + 1} of {len(pairs)}")
        for name, value in (("arguments", pair.arguments), ("a", pair.a), ("b", pair.b)):
            say(f"  {name}: {_as_text(value)}")
        said = click.prompt("better", type=click.Choice([*CHOICES, "quit"], case_sensitive=False))
        if said == "quit":
            return number
        try:
            label(runtime, key, pair, said)
        except RolloutError as error:
            raise fault(error) from None
    return len(pairs)


def _as_text(value: Any) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value), _LONGEST)


COMMANDS = (audit,)
