"""A whole journal as one page: the headlines of all rollouts, and then each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rollout_sdk.analysis.report import Report, RolloutReport
from rollout_sdk.analysis.screen import ordered
from rollout_sdk.analysis.text import about_journal
from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.control.stored_status import StoredStatus
from rollout_sdk.journal import KeptPair
from rollout_sdk.page.document import document
from rollout_sdk.page.pairs import MOST_SHOWN, disagreements
from rollout_sdk.page.rollout import badge, meta, rollout_page, unbroken
from rollout_sdk.page.stored import standing

__all__ = ["as_html", "cards"]

_MOST_PAIRS = 25
"""Pairs on a page in all: with twenty rollouts, it stays below half a megabyte."""
_NO_PAIRS: Mapping[str, Sequence[KeptPair]] = MappingProxyType({})
_NOT_STORED: Mapping[str, StoredStatus] = MappingProxyType({})


def as_html(
    report: Report,
    *,
    pairs: Mapping[str, Sequence[KeptPair]] = _NO_PAIRS,
    stored: Mapping[str, StoredStatus] = _NOT_STORED,
) -> str:
    """The report as a page of one file, which asks for no other.

    Args:
        report: The report.
        pairs: Pairs of answers that were kept of each rollout, those that differ most first; they hold what `redact` left.
        stored: Where rollouts stand in their store, by key.
    """
    rollouts = ordered(report)
    most = min(MOST_SHOWN, max(1, _MOST_PAIRS // max(1, len(pairs))))
    parts = [element("h1", text(f"{len(rollouts)} rollouts"))] if len(rollouts) != 1 else []
    if len(rollouts) > 1:
        parts.append(cards(rollouts, [f"#r{number}" for number in range(len(rollouts))]))
    parts += [
        element(
            "article",
            rollout_page(each, level=2 if len(rollouts) > 1 else 1),
            disagreements(pairs.get(each.rollout, ()), most),
            *([standing(stored[each.rollout])] if each.rollout in stored else ()),
            id=f"r{number}",
        )
        for number, each in enumerate(rollouts)
    ]
    about = list(about_journal(report))
    if about:
        parts.append(element("section", element("h2", text("The journal")), *(element("p", text(line)) for line in about)))
    title = rollouts[0].rollout if len(rollouts) == 1 else f"{len(rollouts)} rollouts"
    return document(title, join(parts))


def cards(rollouts: Sequence[RolloutReport], addresses: Sequence[str | None]) -> Markup:
    """The headlines, one card each, the rollout that needs a person first."""
    found = []
    for each, address in zip(rollouts, addresses, strict=True):
        verdict = each.verdict
        if verdict is None:
            continue
        name = element("a" if address else "strong", text(each.rollout), href=address)
        found.append(
            element(
                "li",
                element("div", name, badge(verdict), class_="headline"),
                element("p", unbroken(text(verdict.reason, 300))),
                meta(each, verdict),
            )
        )
    return element("ul", *found, class_="cards")
