"""Values as HTML for a notebook: the same blocks as in a page, with a style of their own that touches nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rollout_sdk.analysis import Report, RolloutVerdict
from rollout_sdk.analysis.screen import ordered
from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.control.stored import StoredStatus
from rollout_sdk.controller import RolloutController
from rollout_sdk.controller.status import RolloutStatus
from rollout_sdk.formatting import counts, number, percent, several
from rollout_sdk.judging import Verdict
from rollout_sdk.page.document import STYLE_SHEET
from rollout_sdk.page.report import cards
from rollout_sdk.page.rollout import badge, effects, rollout_page

__all__ = ["html"]

_LONG = 40
_TONES = {"PASS": "good", "FAIL": "bad", "FUTILE": "bad", "ERROR": "bad"}
# Nested, so that it holds inside of the block alone.
_STYLE = f"<style>.rollout-sdk{{{STYLE_SHEET.replace(':root', '&').replace('body{', '&{')}}}</style>"


def html(value: object) -> str | None:
    """A value as HTML; None where it is none that a page shows."""
    for kind, shown in _SHOWN.items():
        if isinstance(value, kind):
            return element("div", Markup(_STYLE), shown(value), class_="rollout-sdk")
    return None


def _report(report: Report) -> Markup:
    rollouts = ordered(report)
    if len(rollouts) == 1:
        return rollout_page(rollouts[0], level=3)
    pages = (
        element("details", element("summary", text(each.rollout)), rollout_page(each, level=3), class_="block")
        for each in rollouts
    )
    return join([cards(rollouts, [None] * len(rollouts)), *pages])


def _verdict(verdict: RolloutVerdict) -> Markup:
    return join(
        [
            element("div", element("strong", text(verdict.rollout)), badge(verdict), class_="headline"),
            element("p", text(verdict.reason)),
            element("p", element("strong", text("Next: ")), text(verdict.action)),
            effects(verdict),
        ]
    )


def _judged(verdict: Verdict) -> Markup:
    word = element("span", text(verdict.outcome), class_=f"verdict {_TONES.get(verdict.outcome, 'unsure')}")
    rows = [(each.outcome, each.kind, each.name, each.candidate or "", each.reason) for each in verdict.findings]
    return join(
        [
            element("div", element("strong", text(f"{verdict.rollout}, phase {verdict.phase}")), word, class_="headline"),
            element("p", text(verdict.reason)),
            _table(("outcome", "check", "metric", "candidate", "why"), rows),
        ]
    )


def _status(status: RolloutStatus) -> Markup:
    rows = [
        (
            name,
            percent(share),
            percent(status.realised.get(name)),
            number(status.calls.get(name, 0)),
            counts({kind: count for (variant, kind), count in status.errors.items() if variant == name}),
        )
        for name, share in status.shares.items()
    ]
    parts = [
        _headline(status.key, f"{status.strategy}, {status.status}, phase {status.phase}"),
        _table(("variant", "configured", "realised", "calls", "errors"), rows),
    ]
    if status.verdict is not None:
        parts.append(_judged(status.verdict))
    return join([*parts, *(element("p", text(note)) for note in status.notes)])


def _stored(status: StoredStatus) -> Markup:
    parts = [
        _headline(status.key, f"{status.status}, phase {status.phase}"),
        _table(("variant", "share"), [(name, percent(share)) for name, share in status.shares.items()]),
        element("p", text(f"served by {several(len(status.processes), 'live process', 'live processes')}")),
    ]
    return join(parts if status.verdict is None else [*parts, _judged(status.verdict)])


def _headline(key: str, standing: str) -> Markup:
    return element("div", element("strong", text(key)), text(standing), class_="headline")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    names = element("tr", *(element("th", text(name)) for name in head))
    return element("table", element("thead", names), element("tbody", *(element("tr", *map(_cell, row)) for row in rows)))


def _cell(content: str) -> Markup:
    return element("td", text(content), class_="words" if len(content) > _LONG else None)


_SHOWN: dict[type, Callable[[Any], Markup]] = {
    Report: _report,
    RolloutVerdict: _verdict,
    Verdict: _judged,
    RolloutStatus: _status,
    StoredStatus: _stored,
    RolloutController: lambda controller: _status(controller.status()),
}
