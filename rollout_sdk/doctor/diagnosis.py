"""Everything that the doctor examined, and its findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import asdict, frozen

from rollout_sdk.analysis.operations import Breaker
from rollout_sdk.control.control_file import Wanted
from rollout_sdk.doctor.environment import Folder, Key, Variable
from rollout_sdk.doctor.installed import Plugin
from rollout_sdk.doctor.operated import Operated
from rollout_sdk.doctor.survey import Survey
from rollout_sdk.doctor.writers import Source

__all__ = ["SEVERITIES", "Control", "Diagnosis", "Finding", "Severity", "most_severe_first", "worst"]

Severity = Literal["ok", "note", "warning", "error"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note", "ok")
"""The most severe first. Errors and warnings need an action; notes and what is well do not."""


@frozen
class Finding:
    """One thing that was found.

    Attributes:
        severity: How bad it is.
        code: What kind of finding it is, as a stable word: "journal.lost".
        what: One sentence about what is.
        cure: One sentence about what to do.
    """

    severity: Severity
    code: str
    what: str
    cure: str


def most_severe_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in order of severity; those of one severity as they come."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def worst(findings: Iterable[Finding]) -> Severity:
    """The worst severity among them."""
    return min((finding.severity for finding in findings), key=SEVERITIES.index, default="ok")


@frozen
class Control:
    """The control file.

    Attributes:
        path: As it was given.
        wanted: What it says; None where there is none yet, or it is refused.
        refused: Why it is refused, or None.
    """

    path: str
    wanted: Wanted | None
    refused: str | None


@frozen
class Diagnosis:
    """What is installed, set and journalled, and the findings about it.

    Attributes:
        now: When it was looked at, in seconds since 1970.
        versions: Versions by name of package; None for what is not installed.
        plugins: The installed plugins.
        unreadable: Folders of installed metadata that cannot be read.
        variables: Environment variables.
        key: What may be said of the secret.
        control: The control file, or None when none is set.
        folder: The journal's folder from outside, or None when none is known.
        journal: What is in it, or None when it could not be read.
        findings: The most severe first.
    """

    now: float
    versions: Mapping[str, str | None]
    plugins: tuple[Plugin, ...]
    unreadable: tuple[str, ...]
    variables: tuple[Variable, ...]
    key: Key
    control: Control | None
    folder: Folder | None
    journal: Survey | None
    findings: tuple[Finding, ...] = ()

    @property
    def worst(self) -> Severity:
        """The severity of the worst finding."""
        return worst(self.findings)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing needs attention."""
        return self.worst in ("ok", "note")

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; the keys are documented in docs/doctor.md and stay."""
        return {
            "healthy": self.is_healthy,
            "worst": self.worst,
            "now": self.now,
            "versions": dict(self.versions),
            "plugins": [asdict(plugin) for plugin in self.plugins],
            "unreadable_metadata": list(self.unreadable),
            "settings": {
                "variables": [asdict(variable) for variable in self.variables],
                "key": asdict(self.key),
                "control": None if self.control is None else _control(self.control),
                "folder": None if self.folder is None else _folder(self.folder),
            },
            "journal": None if self.journal is None else _journal(self.journal, self.now),
            "findings": [asdict(finding) for finding in self.findings],
        }


def _control(control: Control) -> dict[str, Any]:
    wanted = control.wanted
    return {
        "path": control.path,
        "refused": control.refused,
        "version": None if wanted is None else wanted.version,
        "disabled": None if wanted is None else wanted.disabled,
        "rollouts": {} if wanted is None else {key: each.status for key, each in wanted.rollouts.items()},
    }


def _folder(folder: Folder) -> dict[str, Any]:
    return {**asdict(folder), "mode": None if folder.mode is None else f"{folder.mode:04o}"}


def _journal(journal: Survey, now: float) -> dict[str, Any]:
    report = journal.report
    return {
        "folder": report.folder,
        "files": [_source(source) for source in journal.files],
        "lines": report.lines,
        "bytes": journal.bytes,
        "skipped": dict(journal.skipped),
        "missing": list(report.missing),
        "repeated": report.repeated,
        "cut": journal.cut,
        "lost": report.lost,
        "sampled": report.sampled,
        "lost_in_files": journal.lost_in,
        "last_lost_s": journal.last_lost_s,
        "first_s": journal.first_s,
        "newest_s": journal.newest_s,
        "lag_s": None if journal.newest_s is None else max(0.0, now - journal.newest_s),
        "future": journal.future,
        "furthest_s": journal.furthest_s,
        "past": journal.past,
        "sdk_versions": dict(journal.versions),
        "rollouts": {key: _rollout(rollout) for key, rollout in journal.operated(now).items()},
    }


def _source(source: Source) -> dict[str, Any]:
    process = source.process
    return {
        "name": source.path.name,
        "host": None if process is None else process.host,
        "pid": None if process is None else process.pid,
        "began_s": None if process is None else process.began_s,
        "writing": source.writing,
        "bytes": source.bytes,
        "mode": f"{source.mode:04o}",
        "is_link": source.is_link,
        "changed_s": source.changed_s,
        "lines": source.lines,
        "damaged": source.damaged,
        "cut": source.cut,
        "newest_s": source.newest_s,
    }


def _rollout(rollout: Operated) -> dict[str, Any]:
    sums = rollout.sums
    return {
        "status": rollout.status,
        "calls": sums.calls,
        "outcomes": sums.outcomes,
        "failed": dict(sums.failed),
        "sets": [
            {
                "version": each.version,
                "fingerprint": each.fingerprint,
                "strategy": each.strategy,
                "status": each.status,
                "phases": [phase.phase for phase in each.phases],
                "mismatch": each.shares.is_mismatch,
                "processes": rollout.fingerprints.get(each.fingerprint, 0),
            }
            for each in rollout.sets
        ],
        "runs": {name: {"runs": ran.runs, "errors": dict(ran.errors)} for name, ran in sums.ran.items()},
        "not_copied": {name: dict(why) for name, why in sums.not_copied.items()},
        "breakers": {name: _breaker(rollout, breaker) for name, breaker in sums.breakers.items()},
        "processes": [
            {"status": status, "phase": phase, "count": count} for (status, phase), count in sorted(rollout.places.items())
        ],
    }


def _breaker(rollout: Operated, breaker: Breaker) -> dict[str, Any]:
    open_now, open_s = rollout.opened(breaker)
    kept = asdict(breaker)
    del kept["open_since"]
    return {**kept, "open_s": open_s, "open_now": open_now}
