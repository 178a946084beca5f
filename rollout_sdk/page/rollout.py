"""One rollout as a page: what to do and why first, then the pictures, and every number behind them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rollout_sdk.analysis.phrases import counted, effect, remaining
from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.analysis.verdict import Check, Difference, Headline, RolloutVerdict
from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.formatting import duration, number, percent, when
from rollout_sdk.page.pictures import pictures

__all__ = ["AFTER_EFFECTS", "badge", "effects", "headline", "history", "meta", "rollout_page", "unbroken"]

_TONES: dict[Headline, str] = {"SHIP": "good", "DO NOT SHIP": "bad", "CHECK": "bad", "WAIT": "unsure"}
_MOST_ROWS = 4
_WORDS = {
    "PASS": ("good enough", "good"),
    "FAIL": ("significantly worse", "bad"),
    "FUTILE": ("less than worth having", "bad"),
    "ERROR": ("cannot be judged", "bad"),
}


AFTER_EFFECTS = element("div", data_name="after-effects")
"""A place on a rollout's page, for what must be seen without scrolling."""


def rollout_page(report: RolloutReport, *, level: int = 1, has_place: bool = False) -> Markup:
    """All of one rollout.

    Args:
        report: The rollout.
        level: Level of its heading, for a page with several.
        has_place: Whether `AFTER_EFFECTS` is on it.
    """
    verdict = report.verdict
    if verdict is None:
        return join(
            [element(f"h{level}", text(report.rollout)), element("p", text("Nothing is concluded about this rollout."))]
        )
    return join(
        [
            headline(report, verdict, level=level),
            effects(verdict),
            AFTER_EFFECTS if has_place else Markup(""),
            _checks(verdict.checks),
            element("div", *(each.html() for each in pictures(report, verdict)), class_="charts"),
            _numbers(verdict),
            _history(report),
        ]
    )


def badge(verdict: RolloutVerdict) -> Markup:
    """The headline as a word in a frame."""
    who = f" {verdict.candidate}" if verdict.candidate else ""
    return element("span", text(f"{verdict.headline}{who}"), class_=f"verdict {_TONES[verdict.headline]}")


def headline(report: RolloutReport, verdict: RolloutVerdict, *, level: int) -> Markup:
    """What to do, why, and what to do next."""
    return join(
        [
            element("div", element(f"h{level}", text(report.rollout)), badge(verdict), class_="headline"),
            element("p", unbroken(text(_sentence(verdict.reason))), class_="reason"),
            element("p", element("strong", text("Next: ")), text(verdict.action)),
            meta(report, verdict),
        ]
    )


def meta(report: RolloutReport, verdict: RolloutVerdict) -> Markup:
    """What it is and how long it has run; a line is broken between two facts, and not within a time."""
    shares = ", ".join(f"{name} {percent(share)}" for name, share in verdict.shares.items())
    parts = [verdict.strategy, report.status.replace("_", " ")]
    if verdict.steps and verdict.step is not None:
        parts.append(f"step {verdict.step} of {verdict.steps}")
    if shares:
        parts.append(shares)
    if verdict.version:
        parts.append(f"version {verdict.version}")
    if verdict.first_s is not None and verdict.last_s is not None:
        parts.append(f"{duration(max(0.0, verdict.last_s - verdict.first_s))} of calls until {when(verdict.last_s)}")
    units = sum(verdict.units.values())
    if units:
        parts.append(f"{number(units)} units")
    return element("p", join((element("span", text(each)) for each in parts), Markup(" ")), class_="muted facts")


def _sentence(said: str) -> str:
    return said if said.endswith((".", "?", "!")) else f"{said}."


def unbroken(said: Markup) -> Markup:
    """A sentence in which no line is broken between a number and its percent sign."""
    return Markup(said.replace(" %", "\u00a0%"))


def effects(verdict: RolloutVerdict) -> Markup:
    """The metrics that decide, in so few lines that they stand beside the headline."""
    declared = [each for each in verdict.differences if each.kind != "exploratory"]
    shown = (declared or list(verdict.differences))[:_MOST_ROWS]
    if not shown:
        return Markup("")
    many = len(verdict.candidates) > 1
    rows = (
        element(
            "tr",
            element("th", text(f"{each.metric} {each.candidate}" if many else each.metric), scope="row"),
            element("td", text(effect(each))),
            element("td", element("span", text(_word(each)[0]), class_=f"word {_word(each)[1]}")),
            element("td", text(counted(each) or remaining(each.to_go)), class_="words"),
        )
        for each in shown
    )
    return element(
        "div",
        element("table", element("tbody", *rows)),
        class_="scroll effects",
        tabindex=0,
        role="group",
        aria_label="Effects",
    )


def _word(each: Difference) -> tuple[str, str]:
    """What became of a metric, and in which colour that is said."""
    if each.kind == "exploratory":
        return ("differs significantly, not declared", "unsure") if each.is_discovery else ("not declared", "unsure")
    if each.outcome == "PASS" and each.kind == "gate":
        return "gate passed", "good"
    return _WORDS.get(each.outcome, ("not yet", "unsure"))


def _checks(checks: Iterable[Check]) -> Markup:
    found = [
        element(
            "li",
            element("span", text("CHECK" if each.is_fatal else "Note"), class_=f"word {'bad' if each.is_fatal else 'unsure'}"),
            text(
                f" {_sentence(each.what)}" + ("" if each.since_s is None else f" Since {when(each.since_s)}.") + f" {each.cure}"
            ),
        )
        for each in checks
    ]
    return (
        element("section", element("h2", text("To look into")), element("ul", *found), class_="block") if found else Markup("")
    )


def _numbers(verdict: RolloutVerdict) -> Markup:
    """Every figure of every metric, to be opened."""
    head = (
        "metric",
        "candidate",
        "declared as",
        "outcome",
        "difference",
        "counts",
        "smallest effect seen at 80 %",
        "still takes",
        "why",
    )
    rows = (
        (
            each.metric,
            each.candidate,
            each.kind,
            each.outcome,
            effect(each),
            counted(each),
            "-" if each.mde is None else f"{each.mde:.3g}",
            remaining(each.to_go) or "-",
            each.reason,
        )
        for each in verdict.differences
    )
    table = element(
        "table",
        element("thead", element("tr", *(element("th", text(name), scope="col") for name in head))),
        element("tbody", *(element("tr", *map(_cell, row)) for row in rows)),
    )
    scroll = element("div", table, class_="scroll", tabindex=0, role="group", aria_label="All numbers")
    return element("details", element("summary", text("All numbers")), scroll, data_name="numbers", class_="block")


def _cell(content: str) -> Markup:
    return element("td", text(content), class_="words" if len(content) > 40 else None)


def _history(report: RolloutReport) -> Markup:
    names = ("action", "to_phase", "actor", "reason")
    return history("History", ((each.get("t"), *(each.get(name, "") for name in names)) for each in report.transitions))


def history(title: str, changes: Iterable[tuple[Any, ...]]) -> Markup:
    """The changes of a rollout, to be opened.

    Args:
        title: What to open.
        changes: Time, action, phase, actor and reason of each, oldest first.
    """
    rows = [
        element(
            "tr",
            element("td", text(when(time_s))),
            element("td", text(str(action).replace("_", " "))),
            element("td", text(phase)),
            element("td", text(actor)),
            element("td", text(reason), class_="words"),
        )
        for time_s, action, phase, actor, reason in changes
    ]
    if not rows:
        return Markup("")
    head = element("tr", *(element("th", text(name), scope="col") for name in ("time", "what", "phase", "by", "why")))
    table = element("table", element("thead", head), element("tbody", *rows))
    scroll = element("div", table, class_="scroll", tabindex=0, role="group", aria_label=title)
    name = title.lower().replace(" ", "-")
    return element("details", element("summary", text(title)), scroll, data_name=name, class_="block")
