"""Interleaved lists as recorded in a journal: restored as their design made them, with pseudonyms for keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["item_of", "page_of", "read_page", "shown_item"]


def shown_item(keys: Sequence[Any], named: str | int | None) -> Any:
    """The item of a list that is named by pseudonym or position; None for a position beyond its end."""
    if isinstance(named, int):
        return keys[named] if named < len(keys) else None
    return named


def read_page(
    items: Sequence[str], blend: Sequence[str], teams: Sequence[str | None], rule: Mapping[str, Any] | None
) -> Interleaved[str] | None:
    """A list as its design made it; None where it cannot be read.

    Args:
        items: Pseudonyms of the shown items, in order.
        blend: The rankers, the control first.
        teams: Team of each item, for team draft.
        rule: Rule that credits clicks, where it is not by team.
    """
    try:
        if rule:
            page = Interleaved.from_rule(rule, items)
        else:
            page = Interleaved(
                items=tuple(items),
                keys=tuple(items),
                rankers=tuple(blend),
                design="team_draft",
                orders=[items] * len(blend),
                teams=[-1 if team is None else blend.index(team) for team in teams],
                counted=len(items),
            )
        # It must be able to credit a click on each of its items.
        page.credit(dict.fromkeys(items, 1.0))
    # Damaged, or of a design that this version does not know.
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    return page if set(page.rankers) == set(blend) else None


def item_of(outcome: Mapping[str, Any]) -> str | int | None:
    """What names the item of an outcome: its pseudonym, or else its position."""
    item: str | int | None = outcome.get("item")
    return outcome.get("position") if item is None else item


def page_of(record: Mapping[str, Any]) -> Interleaved[str] | None:
    """The list of a decision as its design made it, with pseudonyms for keys; None where it cannot be read."""
    teams = record.get("teams", ())
    if not teams and not record.get("rule"):
        return None
    return read_page(record.get("items", ()), record.get("blend", ()), teams, record.get("rule"))
