"""A report on a terminal: the headlines, the one that needs a person first, and then a block for each rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rollout_sdk.analysis.phrases import absolute, counted, differing, effect, latencies, named, remaining
from rollout_sdk.analysis.report import Report, RolloutReport
from rollout_sdk.analysis.text import about_journal
from rollout_sdk.analysis.verdict import Difference, Headline, RolloutVerdict
from rollout_sdk.formatting import WIDTH, duration, fitting, number, percent, plain, several, when
from rollout_sdk.plan import LATENCY_MEAN

__all__ = ["as_screen", "blocks", "headlines", "ordered"]

_RANK: dict[Headline, int] = {"CHECK": 0, "DO NOT SHIP": 1, "SHIP": 2, "WAIT": 3}
"""A broken test needs a person first, then a candidate that hurts, then one that can be shipped."""

_COLUMN = 13
_LABEL = 14
_NAME = 60
_LONGEST_LINE = 1_000
_MOST_EXPLORATORY = 5
_MOST_SEGMENTS = 5
_MOST_TRANSITIONS = 6
_FORMER = ("replaced",)
_ENDED = ("aborted",)
_NOTHING = "No rollout has a call, or none that was asked for."
_BETTER: dict[str, str] = {"PASS": "good enough", "FAIL": "significantly worse", "FUTILE": "less than worth having"}

Style = Callable[[str, Headline], str]
"""Colours a text by a headline; the word stands beside it in any case."""


def _uncoloured(text: str, _: Headline) -> str:
    return text


def ordered(report: Report) -> list[RolloutReport]:
    """The rollouts with a verdict, the one that needs a person first; those that a person ended, or replaced, come last."""
    known = [each for each in report.rollouts if each.verdict is not None and each.phases]

    def need(each: RolloutReport) -> tuple[bool, bool, int, str]:
        assert each.verdict is not None
        return each.status in _FORMER, each.status in _ENDED, _RANK[each.verdict.headline], each.rollout

    return sorted(known, key=need)


def as_screen(report: Report, *, width: int = WIDTH, style: Style = _uncoloured) -> str:
    """The headlines of all rollouts, a block for each, and what is wrong with the journal itself.

    Args:
        report: The report.
        width: Columns of the terminal; no line is wider.
        style: Colours the headlines.
    """
    many = len(ordered(report))
    about = [part for line in about_journal(report) for part in fitting(plain(line, _LONGEST_LINE), width)]
    parts = (
        headlines(report, width=width, style=style) if many > 1 else "" if many else _NOTHING,
        blocks(report, width=width, style=style),
        "\n".join(about),
    )
    return "\n\n".join(part for part in parts if part)


def headlines(report: Report, *, width: int = WIDTH, most_lines: int = 3, style: Style = _uncoloured) -> str:
    """What to do about each rollout, and why, in a few lines each.

    Args:
        report: The report.
        width: Columns of the terminal.
        most_lines: Lines for the reason of one rollout at the most; the block below has all of it.
        style: Colours the headline.
    """
    lines: list[str] = []
    for each in ordered(report):
        verdict = each.verdict
        assert verdict is not None
        head = verdict.headline.ljust(_COLUMN)
        lines.append(style(head, verdict.headline) + _cut(_titled(verdict, each), width - _COLUMN))
        wrapped = _wrapped(f"{_sentence(verdict.reason)} {verdict.action}", width, _COLUMN)
        if len(wrapped) > most_lines:
            wrapped = [*wrapped[: most_lines - 1], _cut(wrapped[most_lines - 1], width - 3) + " .."]
        lines.extend(wrapped)
    return "\n".join(lines)


def blocks(report: Report, *, width: int = WIDTH, style: Style = _uncoloured) -> str:
    """A block for each rollout: every metric with its difference, interval and counts, the shares, and what to look into."""
    return "\n\n".join("\n".join(_block(each, width, style)) for each in ordered(report))


def _sentence(text: str) -> str:
    text = plain(text, 1_000)
    return text if text.endswith((".", "?")) else f"{text}."


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2].rstrip() + ".."


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    return wrap(
        text, width, initial_indent=" " * indent, subsequent_indent=" " * indent, break_on_hyphens=False
    )  # fmt: skip


def _titled(verdict: RolloutVerdict, report: RolloutReport) -> str:
    """The rollout, its strategy, version and age."""
    parts = [f"{verdict.strategy} {_split(verdict, report)}".strip()]
    if verdict.version:
        parts.append(f"version {plain(verdict.version, _NAME)}")
    if verdict.steps and verdict.step is not None:
        parts.append(f"step {verdict.step} of {verdict.steps}")
    if report.status not in ("running", "shadowing"):
        parts.append(report.status.replace("_", " "))
    if verdict.first_s is not None and verdict.last_s is not None:
        parts.append(_age(verdict.last_s - verdict.first_s))
    who = f" {plain(verdict.candidate, _NAME)}" if verdict.candidate not in (None, "candidate") else ""
    return f"{plain(verdict.rollout, _NAME)}{who}  {', '.join(parts)}"


def _age(seconds: float) -> str:
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if days else duration(max(0.0, seconds))


def _split(verdict: RolloutVerdict, report: RolloutReport) -> str:
    """Configured shares of the candidates, or of the calls that are shadowed."""
    shares = [share for name, share in verdict.shares.items() if name != verdict.control]
    if verdict.strategy == "shadow" or not any(shares):
        planned = sum(each.planned for phase in report.phases[-1:] for each in phase.shadows[:1])
        calls = sum(each.calls for phase in report.phases[-1:] for each in phase.variants)
        return f"of {percent(planned / calls).replace('.0 ', ' ')}" if planned and calls else ""
    return " and ".join(f"{share * 100:.3g} %" for share in shares)


# One rollout -------------------------------------------------------------------------------------------------------------


def _block(report: RolloutReport, width: int, style: Style) -> Iterator[str]:
    verdict = report.verdict
    assert verdict is not None
    who = f" {plain(verdict.candidate, _NAME)}" if verdict.candidate else ""
    headline = f"{verdict.headline}{who}"
    title = _cut(_titled(verdict, report), width - len(headline) - 2)
    yield f"{title}{' ' * (width - len(title) - len(headline))}{style(headline, verdict.headline)}"
    many = len(verdict.candidates) > 1
    shown = [each for each in verdict.differences if each.kind != "exploratory"]
    others = [each for each in verdict.differences if each.kind == "exploratory" and _is_worth_a_line(each)]
    for each in (*shown, *others[:_MOST_EXPLORATORY]):
        label = plain(named(each.metric), _NAME)
        label = f"{label} {plain(each.candidate, _NAME)}" if many else label
        yield from _row(label, _metric(each, report), width)
    if len(others) > _MOST_EXPLORATORY:
        yield from _row("", [f"{len(others) - _MOST_EXPLORATORY} more metrics: --full"], width)
    yield from _segments(verdict, width)
    yield from _trust(report, verdict, width)
    for check in verdict.checks:
        since = "" if check.since_s is None else f", since {when(check.since_s)}"
        yield from _row(
            "CHECK" if check.is_fatal else "note", [f"{_sentence(plain(check.what, 500) + since)} {check.cure}"], width
        )
    for record in report.transitions[-_MOST_TRANSITIONS:]:
        yield from _row("history" if record is report.transitions[-_MOST_TRANSITIONS:][0] else "", [_transition(record)], width)
    if verdict.outcomes:
        left = ", ".join(f"{name} {number(count)}" for name, count in sorted(verdict.outcomes.items()))
        yield from _row("outcomes", [f"not counted: {left}"], width)
    yield from _row("next", [verdict.action], width)


def _transition(record: Mapping[str, Any]) -> str:
    """A change of the rollout: when, what, who, why."""
    who = f" by {plain(record['actor'], _NAME)}" if record.get("actor") else ""
    why = f": {plain(record['reason'], 200)}" if record.get("reason") else ""
    return f"{when(record.get('t')).removesuffix(' UTC')}  {record['action']} to {plain(record['to_phase'], _NAME)}{who}{why}"


def _is_worth_a_line(each: Difference) -> bool:
    """Whether an undeclared metric is worth a line: one without a value in either arm says nothing."""
    return bool(each.value_total or each.control_total) or (each.metric == LATENCY_MEAN and each.value is not None)


def _row(label: str, cells: Sequence[str], width: int) -> Iterator[str]:
    """A label, and cells in columns as far as they fit; what does not goes on below."""
    text = "   ".join(cell for cell in cells if cell)
    indent = 2 + max(_LABEL, len(label) + 2)
    first = f"  {label}".ljust(indent)
    lines = wrap(text, width - indent, break_on_hyphens=False) or [""]
    yield (first + lines[0]).rstrip()
    yield from (" " * indent + line for line in lines[1:])


def _metric(each: Difference, report: RolloutReport) -> list[str]:
    """One metric: the effect with its interval, a word, and the counts."""
    if each.metric == LATENCY_MEAN:
        medians = latencies(report, each.candidate)
        figures = "" if medians is None else f"median {medians[0] * 1e3:.3g} ms, control {medians[1] * 1e3:.3g} ms"
    else:
        figures = counted(each)
        phases = _phases(report, each.candidate)
        if figures and phases > 1:
            # The effect is the mean of those in the phases; the counts are added up, and their shares may say another thing.
            figures += f", over {phases} phases"
    left = [] if each.to_go is None else [remaining(each.to_go)]
    # Of few events, the counts say more than a difference without an interval.
    shown = "" if each.unit == "share" and each.low is None and figures else effect(each)
    return [shown, _word(each), figures, *left]


def _phases(report: RolloutReport, candidate: str) -> int:
    """In how many phases a candidate is compared with the control."""
    both = {report.control, candidate}
    return sum(both <= {each.variant for each in phase.variants} for phase in report.phases)


def _word(each: Difference) -> str:
    """What became of a metric, in two or three words."""
    if each.kind == "exploratory":
        if not each.is_discovery:
            return "not declared"
        return f"{differing(each)}, not declared"
    if each.outcome == "PASS" and each.kind == "gate":
        return "gate passed"
    aside = "" if each.decides else " (no effect)"
    return _BETTER.get(each.outcome, "cannot be judged" if each.outcome == "ERROR" else "not yet") + aside


def _segments(verdict: RolloutVerdict, width: int) -> Iterator[str]:
    """The segments in which a metric differs significantly, and how many were looked at."""
    if not verdict.segments:
        return
    found = [each for each in verdict.segments if each.is_discovery]
    many = len(verdict.candidates) > 1
    for each in found[:_MOST_SEGMENTS]:
        who = f" {plain(each.candidate, _NAME)}" if many else ""
        cells = [f"{plain(named(each.metric), _NAME)}{who} {absolute(each)}", differing(each), counted(each)]
        yield from _row(plain(f"{each.attribute}={each.segment}", _NAME), cells, width)
    names = ", ".join(dict.fromkeys(plain(each.attribute, _NAME) for each in verdict.segments))
    significant = f"{len(found)} of {len(verdict.segments)} differences significant" if found else "no difference significant"
    of = "" if found else f" of {len(verdict.segments)}"
    yield from _row("segments", [f"{significant}{of}, by {names}, corrected; all: --full"], width)


def _trust(report: RolloutReport, verdict: RolloutVerdict, width: int) -> Iterator[str]:
    """Shares, shadows, and what else says whether the numbers are whole."""
    cells: list[str] = []
    last = next((phase.variants for phase in report.phases if phase.phase == verdict.phase), ())
    if len(last) > 1 and report.shares.phases:
        realised = " : ".join(f"{each.share_of_units * 100:.1f}" for each in last)
        cells.append(f"{realised}, {'broken' if report.shares.is_mismatch else 'as configured'}")
    if last:
        cells.append(" : ".join(number(each.units) for each in last) + " units")
    if cells:
        yield from _row("shares" if len(cells) > 1 else "units", cells, width)
    for phase in report.phases[-1:]:
        for shadow in phase.shadows:
            agreement = shadow.agreement
            agree = "" if agreement.mean is None else f"{percent(agreement.mean)} agree"
            ends = (
                ""
                if agreement.low is None or agreement.high is None
                else f" [{percent(agreement.low)}, {percent(agreement.high)}]"
            )
            done = f"{number(shadow.latency.runs)} of {number(shadow.planned)} came back"
            yield from _row(
                "shadows", [f"{agree}{ends}", done, f"{sum(shadow.errors.values())} failed" if shadow.errors else ""], width
            )
    if report.crossed.in_phase:
        yield from _row("crossed", [several(report.crossed.in_phase, "unit") + " in several arms"], width)
