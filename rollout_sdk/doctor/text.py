"""The diagnosis as text for a terminal: plain, aligned, at most 80 columns wide, and printable to the last character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from rollout_sdk.doctor.diagnosis import Diagnosis, completeness
from rollout_sdk.doctor.environment import KNOWN, Folder
from rollout_sdk.doctor.findings import SEVERITIES
from rollout_sdk.doctor.sums import RolloutSums
from rollout_sdk.doctor.survey import Survey
from rollout_sdk.doctor.writers import Source
from rollout_sdk.formatting import counts, duration, number, percent, plain, several, size, when
from rollout_sdk.tables import WIDTH, fitting, table

__all__ = ["as_text"]

_MOST_ROWS = 12
_NAME = 28


def as_text(diagnosis: Diagnosis) -> str:
    """The diagnosis as lines of text, without colours."""
    lines = [line for part in _parts(diagnosis) for line in part]
    return "\n".join(line for each in lines for line in fitting(each))


def _parts(seen: Diagnosis) -> Iterator[Iterable[str]]:
    yield _installed(seen)
    yield _settings(seen)
    if seen.journal is not None:
        yield _journal(seen.journal, seen.now)
        for key, rollout in list(seen.journal.rollouts.items())[:_MOST_ROWS]:
            yield _rollout(key, rollout)
        if len(seen.journal.rollouts) > _MOST_ROWS:
            yield ["", f"and {number(len(seen.journal.rollouts) - _MOST_ROWS)} more rollouts: see --json"]
    yield _findings(seen)


def _installed(seen: Diagnosis) -> Iterator[str]:
    yield "Versions"
    yield "  " + ", ".join(f"{name} {version or 'not installed'}" for name, version in seen.versions.items())
    yield ""
    yield f"Plugins (entry points of group rollout_sdk): {number(len(seen.plugins))}"
    rows = [["name", "of", "", "file"]]
    for plugin in seen.plugins:
        whose = f"{plain(plugin.distribution or '-', 30)} {plain(plugin.version or '', 12)}".strip()
        missing = "no such module" if plugin.found is False else "not to be told without importing it"
        file = _tail(plain(plugin.file), 66) if plugin.file is not None else missing
        rows.append([plain(plugin.name, _NAME), whose, "blocked" if plugin.blocked else "", file])
    if len(rows) > 1:
        yield from table(rows, left=4)


def _tail(text: str, longest: int) -> str:
    """The end of a path, which says more than its beginning."""
    return text if len(text) <= longest else ".." + text[2 - longest :]


def _settings(seen: Diagnosis) -> Iterator[str]:
    yield ""
    yield "Settings"
    rows = []
    shown = {variable.name: variable for variable in seen.variables}
    for name in sorted({*KNOWN, *shown}):
        variable = shown.get(name)
        if name == "ROLLOUT_KEY":
            said = f"set, {seen.key.length}" if seen.key.is_set else "not set"
        elif variable is None:
            said = "not set"
        elif variable.known:
            said = plain(variable.value, 90) or "empty"
        else:
            said = "not a variable of rollout_sdk (its value is not shown)"
        rows.append([plain(name, 40), said])
    yield from table(rows, left=2)
    if seen.control is not None and (wanted := seen.control.wanted) is not None:
        each_wants = "".join(f"; {plain(key, 40)} {each.status or 'as it is'}" for key, each in wanted.rollouts.items())
        yield f"  control file: version {number(wanted.version)}, disabled {str(wanted.disabled).lower()}{each_wants}"
    if seen.folder is not None:
        yield from _folder(seen.folder)


def _folder(folder: Folder) -> Iterator[str]:
    yield ""
    yield f"Journal folder {plain(folder.path)}"
    if folder.is_folder is None:
        yield "  does not exist"
    elif not folder.is_folder:
        yield "  is no folder"
    else:
        mode = f"{folder.mode or 0:04o}"
        link = ", a symbolic link" if folder.is_link else ""
        yield f"  mode {mode}, owner {folder.owner}{' (you)' if folder.is_mine else ''}{link}, {size(folder.free_bytes)} free"


def _journal(journal: Survey, now: float) -> Iterator[str]:
    yield f"  {several(len(journal.files), 'file')}, {size(journal.bytes)}, {several(journal.lines, 'line')}"
    if not journal.files:
        return
    lag = None if journal.newest_s is None else max(0.0, now - journal.newest_s)
    yield f"  from {when(journal.first_s)} to {when(journal.newest_s)}; newest record {duration(lag)} old"
    yield f"  lines passed over: {counts(journal.skipped) if journal.skipped else 'none'}"
    yield f"  parts missing: {number(len(journal.missing))}; facts lost: {number(journal.lost)}"
    if journal.future or journal.past:
        yield f"  records from the future: {number(journal.future)}; older than their process: {number(journal.past)}"
    yield ""
    rows = [["file", "process", "", "bytes", "lines", "damaged", "newest"]]
    newest = sorted(journal.files, key=lambda source: source.newest_s or 0.0, reverse=True)
    rows.extend(_file_row(source, now) for source in newest[:_MOST_ROWS])
    yield from table(rows, left=3)
    if len(newest) > _MOST_ROWS:
        yield f"  and {number(len(newest) - _MOST_ROWS)} older ones"


def _file_row(source: Source, now: float) -> list[str]:
    process = source.process
    who = "-" if process is None else f"{process.pid} on {plain(process.host, 16)}"
    state = {True: "running", False: "ended", None: "elsewhere" if process else ""}[source.writing]
    age = "-" if source.newest_s is None else duration(max(0.0, now - source.newest_s))
    damaged = number(source.damaged + source.cut)
    return [_tail(plain(source.path.name), 20), who, state, size(source.bytes), number(source.lines), damaged, age]


def _rollout(key: str, rollout: RolloutSums) -> Iterator[str]:
    yield ""
    yield f"Rollout {plain(key)}: {plain(rollout.strategy, 40) or 'strategy not told'}, {plain(rollout.status, 40)}" + (
        f", in phase {plain(rollout.phase, 40)}" if rollout.phase else ""
    )
    excluded = f"; not analysed: {counts(rollout.excluded)}" if rollout.excluded else ""
    failed = f"; callers got exceptions: {counts(rollout.failed)}" if rollout.failed else ""
    yield f"  {several(rollout.calls, 'call')}, {several(rollout.outcomes, 'outcome')}{excluded}{failed}"
    if rollout.last_s is not None:
        yield f"  from {when(rollout.first_s)} to {when(rollout.last_s)}"
    yield f"  shares: {_shares(rollout)}"
    yield from _variants(rollout)
    yield from _shadows(rollout)
    yield from _breakers(rollout)
    if rollout.transitions:
        yield ""
    for transition in rollout.transitions:
        who = f" by {plain(transition['actor'], 40)}" if transition["actor"] else ""
        why = f": {plain(transition['reason'], 120)}" if transition["reason"] else ""
        to = plain(transition["to_phase"], 40)
        yield f"  {when(transition['time_s'])}  {plain(transition['action'], 20)} to {to}{who}{why}"


def _shares(rollout: RolloutSums) -> str:
    arrived = rollout.arrived()
    if arrived.log_e is None:
        return "not checked, because no two variants have a configured share"
    result = "sample ratio mismatch" if arrived.is_mismatch else "as configured, as far as the units can tell"
    return f"{result} ({several(arrived.units, 'unit')})"


def _variants(rollout: RolloutSums) -> Iterator[str]:
    phase = rollout.phases.get(rollout.phase)
    shares, calls = (phase.shares, phase.calls) if phase is not None else ({}, {})
    total = sum(calls.values())
    rows = [["variant", "share", "of calls", "calls", "runs", "failed", "fell back", "not run"]]
    for name in dict.fromkeys((*shares, *calls, *rollout.variants)):
        variant = rollout.variant(name) if name in rollout.variants else None
        realised = calls.get(name, 0) / total if total else None
        numbers: list[int] = [0] * 5
        if variant is not None:
            failed, withheld = sum(variant.errors.values()), sum(variant.withheld.values())
            numbers = [variant.assigned, variant.runs, failed, variant.fallbacks, withheld]
        cells = [percent(shares.get(name)), percent(realised), *map(number, numbers)]
        rows.append([plain(name, _NAME), *cells])
    if len(rows) > 1:
        yield ""
        yield from table(rows)
    for name, variant in rollout.variants.items():
        if variant.errors:
            yield f"  {plain(name, _NAME)} failed with: {counts(variant.errors)}"
        if variant.withheld:
            yield f"  {plain(name, _NAME)} was not run: {counts(variant.withheld)}"


def _shadows(rollout: RolloutSums) -> Iterator[str]:
    rows = [["shadow", "planned", "ended", "ok", "complete"]]
    for name, variant in rollout.variants.items():
        if variant.ends or variant.planned:
            ok = variant.ends.get("ok", 0)
            numbers = [number(variant.planned), number(sum(variant.ends.values())), number(ok), percent(completeness(variant))]
            rows.append([plain(name, _NAME), *numbers])
    if len(rows) > 1:
        yield ""
        yield from table(rows)
    for name, variant in rollout.variants.items():
        if others := {end: count for end, count in variant.ends.items() if end != "ok"}:
            yield f"  shadows of {plain(name, _NAME)} that did not end well: {counts(others)}"


def _breakers(rollout: RolloutSums) -> Iterator[str]:
    for name, variant in rollout.variants.items():
        if (breaker := variant.breaker) is not None:
            now = f"open now in {several(breaker.open_now, 'process', 'processes')}" if breaker.open_now else "closed now"
            yield ""
            yield (
                f"  breaker of {plain(name, _NAME)}: opened {number(breaker.opened)}, closed {number(breaker.closed)}, "
                f"open for {duration(breaker.open_s)} in all, {now}; last opened at {number(breaker.failures)} failures in "
                f"{number(breaker.runs)} runs for {duration(breaker.cooldown_s)}"
            )


def _findings(seen: Diagnosis) -> Iterator[str]:
    yield ""
    tally = {severity: sum(finding.severity == severity for finding in seen.findings) for severity in SEVERITIES}
    plural = {"error": "errors", "warning": "warnings", "note": "notes", "ok": "ok"}
    said = ", ".join(f"{number(count)} {plural[severity] if count != 1 else severity}" for severity, count in tally.items())
    yield f"Findings: {said}"
    for finding in seen.findings:
        # Cut as late as this: JSON holds the whole of it.
        cure = "" if finding.severity == "ok" else f" {plain(finding.cure, 600)}"
        start = f"  {finding.severity:<8} "
        said = f"{plain(finding.what, 600)}{cure}"
        yield from wrap(said, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)
