"""Formats rollouts of a store for a terminal: a table of all, a page for one, and a line for a pipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rollout_sdk.assignment import percent
from rollout_sdk.control.stored import StoredStatus
from rollout_sdk.control.stored_status import Process
from rollout_sdk.formatting import duration, number, plain, several, table, when
from rollout_sdk.judging import Verdict
from rollout_sdk.plan import as_duration

__all__ = ["as_change", "as_line", "as_list", "as_page", "moment"]

_LONGEST_KEY = 22
_LONGEST_NAME = 22
_BAR = 20
_MOST_LOG = math.log(1e6)
_LONGEST_S = 1e12
"""A larger time is damaged data."""


def moment(time_s: float) -> str:
    """Format a time in UTC."""
    return when(time_s).replace(" UTC", "Z")


def _since(seconds: float) -> str:
    return as_duration(max(0.0, seconds)) if seconds < _LONGEST_S else "an unknown time"


# The list -------------------------------------------------------------------------------------------------------------


def as_list(statuses: Sequence[StoredStatus], width: int) -> str:
    """Format rollouts as a table, those that need a person first."""
    found = sorted(statuses, key=_by_need)
    rows = [["rollout", "status", "verdict", "step", "share", "for", "live"]]
    rows.extend(_row(each) for each in found)
    lines = list(table(rows, indent="", left=3, width=width))
    # A long key gets its own line: a truncated key would be useless.
    for index, each in reversed(list(enumerate(found, 1))):
        if len(key := plain(each.key)) > _LONGEST_KEY:
            lines[index : index + 1] = [key, " " * _LONGEST_KEY + lines[index][_LONGEST_KEY:]]
    return "\n".join([*lines, *_remarks(found)])


def _by_need(now: StoredStatus) -> tuple[int, str]:
    """Sort key: rollouts that need a person first, those that are over last."""
    needs = now.invalid or now.behind or (now.status == "paused" and not now.paused_by) or (_is_open(now) and not now.processes)
    return 0 if needs else 1 if _is_open(now) else 2, now.key


def _is_open(now: StoredStatus) -> bool:
    return now.status in ("running", "shadowing", "paused")


def _row(now: StoredStatus) -> list[str]:
    key = plain(now.key)
    planned = bool(now.plan.get("steps"))
    step = f"{now.step + 1}/{len(now.steps)}" if planned and _is_open(now) else "-"
    share = sum(each for name, each in now.shares.items() if name != next(iter(now.shares)))
    seconds = now.now_s - now.entered_s
    ago = as_duration(max(0.0, seconds)).split(" ")[0] if seconds < _LONGEST_S else "?"
    verdict = "-" if now.verdict is None else now.verdict.outcome
    live = len(now.processes)
    return [
        key if len(key) <= _LONGEST_KEY else " " * _LONGEST_KEY,
        "INVALID" if now.invalid else now.status,
        plain(verdict, 20),
        step,
        percent(share),
        ago,
        f"{live - len(now.behind)}/{live}" if now.behind else str(live),
    ]


def _remarks(found: Sequence[StoredStatus]) -> Iterator[str]:
    """Explain numbers in the table that need attention."""
    remarks = []
    for now in found:
        key = plain(now.key)
        if now.invalid:
            remarks.append(f"{key} takes no step: its shares are not the configured ones.")
        if now.behind:
            remarks.append(f"{len(now.behind)} of {len(now.processes)} processes of {key} have not followed the last change.")
        if not now.processes and _is_open(now):
            ago = "" if now.last_seen_s is None else f", since {_since(now.now_s - now.last_seen_s)} ago"
            remarks.append(f"No process serves {key} now{ago}.")
    if remarks:
        yield ""
        yield from remarks


# The page -------------------------------------------------------------------------------------------------------------


def as_page(now: StoredStatus, *, bars: bool = False) -> str:
    """Format a rollout as a page; with bars, also how far its evidence is from deciding.

    The verdict comes before its plan, because the lower part of a long page does not fit a window.
    """
    return "\n".join(_page(now, bars=bars))


def _bars(verdict: Verdict) -> Iterator[str]:
    """Draw the evidence of the checks that decide: for "good enough" and for harm, each against its threshold.

    A full bar decides. The scale is logarithmic, so that a bar grows about as fast as the data.
    """
    many = len({each.candidate for each in verdict.findings if each.candidate is not None}) > 1
    is_first = True
    for each in verdict.findings:
        if not each.decides or each.candidate is None:
            continue
        name = plain(f"{each.name} {each.candidate}" if many else each.name, _LONGEST_NAME)
        for what, log_e, needed in (("good", each.safe_log_e, each.safe_needed), ("harm", each.harm_log_e, each.harm_needed)):
            if log_e is None or needed is None or not needed > 0:
                continue
            filled = math.floor(_BAR * min(max(log_e / needed, 0.0), 1.0))
            bar = "#" * filled + "." * (_BAR - filled)
            label = "evidence" if is_first else ""
            yield f"  {label:<9}  {name:<{_LONGEST_NAME}}  {what} {bar} {_odds(log_e)} of {_odds(needed)}"
            name, is_first = "", False


def _odds(log_e: float) -> str:
    """Format evidence: one in so many by chance."""
    return f"{math.exp(min(log_e, _MOST_LOG)):,.3g}" if log_e < _MOST_LOG else "over 1e6"


def _page(now: StoredStatus, *, bars: bool) -> Iterator[str]:
    yield f"{plain(now.key)}: {now.status}, phase {plain(now.phase)} for {_since(now.now_s - now.entered_s)}"
    yield "  shares     " + "  ".join(f"{plain(name)} {percent(share)}" for name, share in now.shares.items())
    several_ = f", number {now.versions} of this rollout" if now.versions > 1 else ""
    version = f"version {plain(now.version)}" if now.version else "version -"
    yield f"  candidate  {version}, fingerprint {plain(now.fingerprint) or '-'}{several_}; revision {number(now.revision)}"
    if now.dropped:
        yield f"  dropped    {', '.join(map(plain, now.dropped))}"
    yield from _served(now)
    if now.invalid:
        # On its own line, for copying.
        yield "  INVALID, no step is taken until:"
        yield f"    rollout resume {plain(now.key)} --clear-invalid --reason ..."
        yield f"  {plain(now.invalid, 2_000)}"
    if now.paused_by:
        yield f"  paused     until it has recovered: {', '.join(map(plain, now.paused_by))}"
    if now.verdict is not None:
        yield f"  verdict    {_since(now.now_s - now.verdict.time_s)} ago:"
        first, *others = _judged(now.verdict)
        yield f"  {plain(first, 2_000)}"
        if bars:
            yield from _bars(now.verdict)
        yield from (f"  {plain(line, 2_000)}" for line in others)
    yield from _plan(now)


def _judged(verdict: Verdict) -> Iterator[str]:
    """Format a verdict, without repeating its first line."""
    first, *others = str(verdict).splitlines()
    yield first
    reasons = [f": {each.reason}" for each in verdict.findings if each.reason and each.reason in first]
    for line in others:
        yield next((line.removesuffix(reason) for reason in reasons if line.endswith(reason)), line)


def _served(now: StoredStatus) -> Iterator[str]:
    live = len(now.processes)
    if not live:
        ago = "" if now.last_seen_s is None else f"; the last one was seen {_since(now.now_s - now.last_seen_s)} ago"
        yield f"  served by  no process now{ago}"
        return
    followed = "at this revision" if live == 1 else "all at this revision"
    behind = f"{len(now.behind)} of them behind:" if now.behind else followed
    yield f"  served by  {several(live, 'process', 'processes')}, {behind}"
    for each in now.behind[:5]:
        yield f"             {_process(each)} at revision {number(each.revision)}, {duration(now.now_s - each.seen_s)} ago"
    for each in [each for each in now.processes if each.held_by][:5]:
        yield f"             {_process(each)} runs no candidate: {', '.join(map(plain, each.held_by))}"


def _process(each: Process) -> str:
    return f"process {each.pid} on {plain(each.host, 40)}"


def _plan(now: StoredStatus) -> Iterator[str]:
    steps = now.plan.get("steps")
    if not isinstance(steps, list) or len(steps) != len(now.steps):
        # A strategy without steps, or a process with an early SDK.
        names = " ".join(f"[{plain(name)}]" if index == now.step else plain(name) for index, name in enumerate(now.steps))
        yield f"  plan       {names}"
        return
    for index, step in enumerate(steps):
        mark = ">" if index == now.step and _is_open(now) else " "
        yield f"  {'plan' if not index else '':<8} {mark} {_options(step, 'share', now.steps[index])}"
    if not isinstance(steps[-1], Mapping) or steps[-1].get("share") != "100%":
        yield f"           {'>' if now.status == 'promoted' else ' '} 100%"
    judged = [*_criteria(now.plan, "guardrails"), *_criteria(now.plan, "gates")]
    others = {name: value for name, value in now.plan.items() if name in ("alpha", "max_calls_per_unit")}
    if others:
        judged.append(_pairs(others))
    if now.plan.get("approve"):
        judged.append("approval before each step")
    judged.extend(f"frozen {_pairs(each)}" for each in now.plan.get("freeze") or () if isinstance(each, Mapping))
    for index, line in enumerate(judged):
        yield f"  {'judged by' if not index else '':<9}  {line}"


def _criteria(plan: Mapping[str, Any], name: str) -> Iterator[str]:
    for each in plan.get(name) or ():
        if isinstance(each, Mapping):
            yield f"{name[:-1]} {_options(each, 'metric', '')}"


def _options(table: Any, first: str, otherwise: str) -> str:
    """Format the value of `first`, then the other options."""
    if not isinstance(table, Mapping):
        return plain(otherwise)
    head = table.get(first, otherwise)
    named = _pairs(head) if isinstance(head, Mapping) else plain(head)
    rest = {name: value for name, value in table.items() if name != first}
    return f"{named:<6} {_pairs(rest)}".rstrip() if rest else named


def _pairs(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{plain(name)} {_value(value)}" for name, value in options.items())


def _value(value: Any) -> str:
    return (
        " to ".join(map(_value, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else plain(value)
    )


# The line for a pipe --------------------------------------------------------------------------------------------------


def as_change(now: StoredStatus) -> tuple[Any, ...]:
    """Return what must change before another line is printed."""
    verdict = None if now.verdict is None else now.verdict.outcome
    return now.status, now.phase, now.revision, bool(now.invalid), verdict, len(now.processes), len(now.behind)


def as_line(now: StoredStatus) -> str:
    """Format a rollout in one line."""
    verdict = "-" if now.verdict is None else now.verdict.outcome
    live = f"{len(now.processes)} live" + (f", {len(now.behind)} behind" if now.behind else "")
    invalid = " INVALID" if now.invalid else ""
    where = f"{now.status}{invalid}  {plain(now.phase)}  revision {number(now.revision)}"
    return f"{moment(now.now_s)[11:]}  {plain(now.key)}  {where}  {plain(verdict, 20)}  {live}"
