"""The diagnosis as text for a terminal: plain, aligned, at most 80 columns wide, and printable to the last character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from attrs import evolve

from rollout_sdk.analysis.cautions import about_shares
from rollout_sdk.analysis.screen import headlines, ordered
from rollout_sdk.doctor.diagnosis import SEVERITIES, Diagnosis
from rollout_sdk.doctor.environment import KNOWN, Folder
from rollout_sdk.doctor.survey import Survey
from rollout_sdk.doctor.writers import Source
from rollout_sdk.formatting import WIDTH, counts, duration, fitting, number, plain, several, size, table, when

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
        yield _rollouts(seen.journal, seen.now)
    yield _findings(seen)


def _installed(seen: Diagnosis) -> Iterator[str]:
    yield "Versions"
    yield "  " + ", ".join(f"{name} {version or 'not installed'}" for name, version in seen.versions.items())
    yield ""
    yield f"Plugins (entry points of group rollout_sdk): {number(len(seen.plugins))}"
    rows = [["name", "of", "", "file"]]
    # In a table that is folded, a file stands beside the name, and is not broken.
    longest = WIDTH - 4 - max((len(plain(plugin.name, _NAME)) for plugin in seen.plugins), default=0)
    for plugin in seen.plugins:
        whose = f"{plain(plugin.distribution or '-', 30)} {plain(plugin.version or '', 12)}".strip()
        missing = "no such module" if plugin.found is False else "unknown without importing it"
        file = _tail(plain(plugin.file), longest) if plugin.file is not None else missing
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
        yield "  is not a folder"
    else:
        mode = f"{folder.mode or 0:04o}"
        link = ", a symbolic link" if folder.is_link else ""
        yield f"  mode {mode}, owner {folder.owner}{' (you)' if folder.is_mine else ''}{link}, {size(folder.free_bytes)} free"


def _journal(journal: Survey, now: float) -> Iterator[str]:
    yield f"  {several(len(journal.files), 'file')}, {size(journal.bytes)}, {several(journal.report.lines, 'line')}"
    if not journal.files:
        return
    lag = None if journal.newest_s is None else max(0.0, now - journal.newest_s)
    yield f"  from {when(journal.first_s)} to {when(journal.newest_s)}; newest record {duration(lag)} old"
    yield f"  lines skipped: {counts(journal.skipped) if journal.skipped else 'none'}"
    yield f"  parts missing: {number(len(journal.report.missing))}; facts lost: {number(journal.report.lost)}"
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


def _rollouts(journal: Survey, now: float) -> Iterator[str]:
    """The report's headlines."""
    operated = list(journal.operated(now).items())
    if operated:
        yield ""
        yield f"Rollouts (more: rollout report {plain(journal.report.folder)})"
        yield from headlines(evolve(journal.report, rollouts=tuple(ordered(journal.report)[:_MOST_ROWS])), width=WIDTH).split(
            "\n"
        )
    for key, rollout in operated[:_MOST_ROWS]:
        for arms in rollout.sets:
            version = f", version {plain(arms.version, _NAME)}" if arms.version else ""
            fingerprint = f", fingerprint {plain(arms.fingerprint or 'unknown', _NAME)}" if arms.others else ""
            strategy = plain(arms.strategy, 40) or "strategy unknown"
            phase = f", in phase {plain(arms.phases[-1].phase, 40)}" if arms.phases else ""
            yield f"  {plain(key)}{version}{fingerprint}: {strategy}, {plain(arms.status, 40)}{phase}"
            yield from about_shares(arms.shares)
        sums = rollout.sums
        failed = f"; callers got exceptions: {counts(sums.failed)}" if sums.failed else ""
        excluded = f"; not analysed: {counts(rollout.excluded)}" if rollout.excluded else ""
        yield f"    {several(sums.calls, 'call')}, {several(sums.outcomes, 'outcome')}{excluded}{failed}"
        for name, breaker in sums.breakers.items():
            open_now, open_s = rollout.opened(breaker)
            state = f"open now in {several(open_now, 'process', 'processes')}" if open_now else "closed now"
            yield (
                f"    breaker of {plain(name, _NAME)}: opened {number(breaker.opened)}, closed {number(breaker.closed)}, "
                f"open for {duration(open_s)} in all, {state}"
            )
    if len(operated) > _MOST_ROWS:
        yield f"  and {number(len(operated) - _MOST_ROWS)} more: see --json"


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
