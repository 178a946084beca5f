"""What a report says, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attrs import asdict, fields, frozen

from rollout_sdk.analysis.phase_report import PhaseReport
from rollout_sdk.analysis.verdict import Difference, RolloutVerdict
from rollout_sdk.formatting import Shown

__all__ = ["CrossedReport", "OtherSet", "PhaseShares", "Report", "RolloutReport", "SharesReport"]

SCHEMA = 1
"""Version of the report's JSON; raised when a field changes its meaning or goes, never when one is added."""


@frozen
class PhaseShares:
    """Where the units are that were first seen in one phase.

    Attributes:
        phase: Its name.
        units: Units by variant; each counts once in a rollout.
        configured: Configured shares by variant.
    """

    phase: str
    units: Mapping[str, int]
    configured: Mapping[str, float]


@frozen
class SharesReport:
    """Whether units are in the arms in the configured shares.

    Attributes:
        phases: The phases in which several arms have a share; shadows have none.
        log_e: Evidence of a sample ratio mismatch; None where there is nothing to check.
        highest_log_e: The highest that it ever was: the first alarm is not forgotten.
        needed: From where on it is one.
        is_mismatch: Whether it is one, by the highest. No interval that compares arms is given then.
    """

    phases: tuple[PhaseShares, ...]
    log_e: float | None
    highest_log_e: float | None
    needed: float
    is_mismatch: bool


@frozen
class CrossedReport:
    """Units of one rollout and fingerprint that were in several arms.

    Attributes:
        units: Units in all; calls that are their own units are not among them.
        in_phase: Units that had several variants in one phase: they count in each of these arms.
        between_phases: Other units that had several variants, as steps and `set_share` intend.
    """

    units: int
    in_phase: int
    between_phases: int


@frozen
class OtherSet:
    """Calls of the same rollout with another fingerprint, which are reported apart.

    Attributes:
        fingerprint: Theirs; empty where an earlier SDK wrote them.
        version: Their version.
        differs: Parts in which the two fingerprints differ; none where that is not known.
        at_once: Whether there were such calls at the same time.
        overlap: Share of this set's time, from its first call to its last, in which there were.
        shared: Units that were in both; None where units cannot be matched, because hash keys or layers differ.
        switched: Of these, the units that did not have one and the same variant; likewise.
    """

    fingerprint: str
    version: str
    differs: tuple[str, ...]
    at_once: bool
    overlap: float
    shared: int | None
    switched: int | None


@frozen
class RolloutReport:
    """One rollout with one fingerprint: calls that are comparable. Another fingerprint is another `RolloutReport`.

    Attributes:
        rollout: Its key.
        version: Version of the candidates; empty when none was given.
        fingerprint: What makes the calls comparable; empty where an earlier SDK wrote them.
        made_of: What the fingerprint is made of.
        others: The sets of arms beside this one.
        crossed: Units in several arms.
        strategy: Name of the strategy.
        status: Status, as last seen; "replaced" when another fingerprint has taken its place in a store.
        control: Name of the control.
        shares: Whether units are in the arms as configured.
        phases: Its phases.
        transitions: Its transitions.
        excluded: Calls that are not analysed, by reason.
        problems: Outcomes that could not be used, by why.
        joined: Outcomes of units that went to the unit's last call before them.
        codes: Forms of the candidates' code that its processes had. Several are pooled where a store keeps one rollout through
            a change of code; 0 where a version says what the candidates are, or an earlier SDK wrote it.
        verdict: What to do, and why; None for one of more rollouts than a report concludes about.
    """

    rollout: str
    version: str
    fingerprint: str
    made_of: Mapping[str, Any]
    others: tuple[OtherSet, ...]
    crossed: CrossedReport
    strategy: str
    status: str
    control: str
    shares: SharesReport
    phases: tuple[PhaseReport, ...]
    transitions: tuple[Mapping[str, Any], ...]
    excluded: Mapping[str, int]
    problems: Mapping[str, int]
    joined: int
    codes: int = 0
    verdict: RolloutVerdict | None = None


@frozen
class Report(Shown):
    """A journal, reported.

    Attributes:
        folder: Where it is.
        files: How many files were read.
        lines: How many lines.
        skipped: Lines that could not be read, by why.
        missing: Names of files that were there and are not any more, as far as the numbers of the others tell.
        repeated: Lines that are there twice, and count once.
        cut: How many of the damaged lines are the last of their file: being written, or cut by a kill.
        lost: Facts that writers had to drop.
        sampled: How many of these were of calls that were not drawn under overload: those that were kept stand for them.
        rollouts: The rollouts, in order of their first calls.
    """

    folder: str
    files: int
    lines: int
    skipped: Mapping[str, int]
    missing: tuple[str, ...]
    repeated: int
    lost: int
    sampled: int
    rollouts: tuple[RolloutReport, ...]
    cut: int = 0

    @property
    def damaged(self) -> int:
        """Lines and files that could not be read, but for the last lines of files."""
        return sum(self.skipped.values()) - self.cut

    def __str__(self) -> str:
        """What to do about each rollout, in a line each."""
        verdicts = [each.verdict for each in self.rollouts if each.verdict is not None]
        return "\n".join(map(str, verdicts)) or f"{self.folder}: no calls"

    def to_frame(self) -> Any:
        """Every metric of every candidate as a pandas DataFrame: a row for each difference of each rollout's verdict.

        Its columns are the fields of `Difference` that are single values, and `rollout`, `version`,
        `fingerprint` and `headline`.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas as pd  # type: ignore[import-untyped] # it has no types of its own

        about = ("rollout", "version", "fingerprint", "headline")
        left_out = {"to_go", "novelty", "course", "numbers"}
        names = [each.name for each in fields(Difference) if each.name not in left_out]
        rows = [
            [getattr(verdict, name) for name in about] + [getattr(each, name) for name in names]
            for verdict in (each.verdict for each in self.rollouts)
            if verdict is not None
            for each in verdict.differences
        ]
        return pd.DataFrame(rows, columns=[*about, *names])

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON; docs/report.schema.json describes them, and `schema` is its version."""
        return {"schema": SCHEMA, **asdict(self, value_serializer=_plain)}


def _plain(_: Any, __: Any, value: Any) -> Any:
    """JSON has no infinite numbers."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
