"""Interleaved lists as a journal has them: what stood where, and which item an outcome names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rollout_sdk.interleaving import Interleaved

__all__ = ["item_of", "page_of", "shown_item"]


def item_of(outcome: Mapping[str, Any]) -> str | int | None:
    """What names the item of an outcome: its pseudonym, or else its position."""
    item: str | int | None = outcome.get("item")
    return outcome.get("position") if item is None else item


def shown_item(keys: Sequence[Any], named: str | int | None) -> Any:
    """The item of a list that is named by pseudonym or position; None for a position beyond its end."""
    if isinstance(named, int):
        return keys[named] if named < len(keys) else None
    return named


def page_of(record: Mapping[str, Any]) -> Interleaved[str] | None:
    """The list of a decision as its design made it, with pseudonyms for keys; None where it cannot be read."""
    items, blend = record.get("items", ()), record.get("blend", ())
    try:
        if record.get("rule"):
            page = Interleaved.from_rule(record["rule"], items)
        else:
            teams = [-1 if team is None else blend.index(team) for team in record["teams"]]
            page = Interleaved(
                items=tuple(items),
                keys=tuple(items),
                rankers=tuple(blend),
                design="team_draft",
                orders=[items] * len(blend),
                teams=teams,
                counted=len(items),
            )
        # It must be able to credit a click on each of its items.
        page.credit(dict.fromkeys(items, 1.0))
    # Damaged, or of a design that this version does not know.
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    return page if set(page.rankers) == set(blend) else None
