"""`rollout disagreements`: pairs of answers that do not match, to read or to label."""

from __future__ import annotations

import json

import click

from rollout_sdk.cli.options import examples, journal_option, json_option
from rollout_sdk.cli.output import EmptyFault, fault, say, write_private
from rollout_sdk.exceptions import JournalError
from rollout_sdk.formatting import plain, when
from rollout_sdk.journal import KeptPair, read_pairs

__all__ = ["COMMANDS"]

_LONGEST = 2_000


@click.command(
    epilog=examples(
        "rollout disagreements shop.rank --journal journal/",
        "rollout disagreements shop.rank --reveal",
        "rollout disagreements shop.rank --export pairs.jsonl",
    )
)
@click.argument("key", metavar="KEY")
@journal_option
@click.option("--most", type=click.IntRange(min=1), default=10, show_default=True, help="How many to show.")
@click.option("--reveal", "is_revealed", is_flag=True, help="Show which answer is the control's.")
@click.option("--export", "target", metavar="FILE", type=click.Path(dir_okay=False), help="Write all as JSON lines.")
@json_option
def disagreements(key: str, folder: str, most: int, is_revealed: bool, target: str | None, as_json: bool) -> None:
    """Show pairs of answers that differ, blind: a and b.

    The decorator's keep=Disagreements(...) keeps them. Pairs that differ most come first. Exit code 5: none is kept.
    """
    try:
        pairs = read_pairs(folder, key)
    except OSError as error:
        raise fault(JournalError(f"The kept pairs in {folder!r} cannot be read: {error.strerror}.")) from None
    if not pairs:
        raise EmptyFault(
            f"No pair of {key!r} is kept in {folder!r}. Pairs are kept by @rollout(keep=Disagreements(50, redact=...)) with a "
            "journal, while shadows run and answers differ."
        )
    tables = [pair.as_dict(is_revealed=is_revealed) for pair in pairs]
    if target is not None:
        write_private(target, "".join(json.dumps(table) + "\n" for table in tables))
        say(f"{len(pairs):,} pairs written to {target}")
    elif as_json:
        say(json.dumps(tables, indent=2))
    else:
        say("\n\n".join(_as_text(pair, is_revealed=is_revealed) for pair in pairs[:most]))
        if len(pairs) > most:
            say(f"\n{len(pairs) - most:,} more: --most {len(pairs)}, or --export FILE")


def _as_text(pair: KeptPair, *, is_revealed: bool) -> str:
    far = "" if pair.difference is None else f"  difference {pair.difference:.4g}"
    table = pair.as_dict(is_revealed=is_revealed)
    lines = [f"{when(pair.time_s)}  {plain(pair.candidate)}{far}  {plain(pair.reason or '')}", f"  id {plain(pair.id)}"]
    for name in ("arguments", "a", "b"):
        whose = ""
        if is_revealed and name in ("a", "b"):
            whose = " (control)" if table["control"] == name else " (candidate)"
        lines.append(f"  {name}{whose}: {plain(json.dumps(table[name]), _LONGEST)}")
    return "\n".join(lines)


COMMANDS = (disagreements,)
