"""Everything that the doctor saw, and what it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, frozen

from rollout_sdk.control.control_file import Wanted
from rollout_sdk.doctor.environment import Folder, Key, Variable
from rollout_sdk.doctor.findings import Finding, Severity, worst
from rollout_sdk.doctor.installed import Plugin
from rollout_sdk.doctor.sums import PhaseSums, RolloutSums, VariantSums
from rollout_sdk.doctor.survey import Survey
from rollout_sdk.doctor.writers import Source

__all__ = ["Control", "Diagnosis", "completeness"]


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
        """Whether nobody needs to do anything."""
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


def completeness(variant: VariantSums) -> float | None:
    """The share of a variant's shadow runs that ended well; None where there were none."""
    ended = sum(variant.ends.values())
    return variant.ends.get("ok", 0) / ended if ended else None


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
    return {
        "folder": journal.folder,
        "files": [_source(source) for source in journal.files],
        "lines": journal.lines,
        "bytes": journal.bytes,
        "skipped": dict(journal.skipped),
        "cut": journal.cut,
        "lost": journal.lost,
        "lost_in_files": journal.lost_in,
        "last_lost_s": journal.last_lost_s,
        "first_s": journal.first_s,
        "newest_s": journal.newest_s,
        "lag_s": None if journal.newest_s is None else max(0.0, now - journal.newest_s),
        "future": journal.future,
        "furthest_s": journal.furthest_s,
        "past": journal.past,
        "sdk_versions": dict(journal.versions),
        "rollouts": {key: _rollout(rollout) for key, rollout in journal.rollouts.items()},
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


def _rollout(rollout: RolloutSums) -> dict[str, Any]:
    return {
        "strategy": rollout.strategy,
        "control": rollout.control,
        "status": rollout.status,
        "phase": rollout.phase,
        "calls": rollout.calls,
        "excluded": dict(rollout.excluded),
        "failed": dict(rollout.failed),
        "outcomes": rollout.outcomes,
        "first_s": rollout.first_s,
        "last_s": rollout.last_s,
        "fingerprints": {name: asdict(each) for name, each in rollout.fingerprints.items()},
        "phases": {name: _phase(phase) for name, phase in rollout.phases.items()},
        "shares": _shares(rollout),
        "variants": {
            name: {**_variant(variant), "heaviest": _heaviest(rollout, name)} for name, variant in rollout.variants.items()
        },
        "transitions": [dict(transition) for transition in rollout.transitions],
        "processes": [
            {"status": status, "phase": phase, "count": count} for (status, phase), count in sorted(rollout.standings.items())
        ],
    }


def _shares(rollout: RolloutSums) -> dict[str, Any]:
    arrived = rollout.arrived()
    return {"units": arrived.units, "log_e": arrived.log_e, "is_mismatch": arrived.is_mismatch}


def _heaviest(rollout: RolloutSums, variant: str) -> float | None:
    most, calls = rollout.units.heaviest(variant)
    return most / calls if calls else None


def _phase(phase: PhaseSums) -> dict[str, Any]:
    calls = sum(phase.calls.values())
    return {
        variant: {
            "configured": phase.shares.get(variant),
            "realised": phase.calls.get(variant, 0) / calls if calls else None,
            "calls": phase.calls.get(variant, 0),
        }
        for variant in dict.fromkeys((*phase.shares, *phase.calls))
    }


def _variant(variant: VariantSums) -> dict[str, Any]:
    return {
        "assigned": variant.assigned,
        "fallbacks": variant.fallbacks,
        "withheld": dict(variant.withheld),
        "runs": variant.runs,
        "errors": dict(variant.errors),
        "shadows": {
            "planned": variant.planned,
            "ends": dict(variant.ends),
            "completeness": completeness(variant),
            "errors": dict(variant.shadow_errors),
            "not_copied": dict(variant.not_copied),
        },
        "breaker": None if variant.breaker is None else asdict(variant.breaker),
    }
