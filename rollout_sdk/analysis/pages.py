"""Interleaved lists as a journal has them: what stood where, and which item an outcome names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollout_sdk.interleaving import Interleaved
from rollout_sdk.interleaving.pages import read_page, shown_item

__all__ = ["item_of", "page_of", "shown_item"]


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
