"""How a rollout stands in all processes, as the store knows it."""

from __future__ import annotations

from collections.abc import Mapping
from json import loads
from typing import Any

from attrs import Factory, asdict, frozen

from rollout_sdk.control.presence import Process
from rollout_sdk.control.state import RolloutState, Status
from rollout_sdk.judging import Verdict

__all__ = ["PLAN", "StoredChange", "StoredStatus", "plan_from_note"]

PLAN = "plan"
"""Name of the note in the store that has the plan as it was written."""


@frozen(kw_only=True)
class StoredStatus:
    """How a rollout stands, in all processes that serve it.

    Attributes:
        key: Key of the rollout.
        status: "shadowing", "running", "paused", "promoted", "rolled_back" or "aborted".
        phase: Name of the current phase.
        step: Index of the step last entered or passed; -1 before the first.
        steps: Names of the planned steps.
        shares: Configured share of every variant.
        revision: Number of transitions so far.
        entered_s: When the current phase began, in seconds since 1970.
        now_s: When it was looked at, by the clock of this process.
        version: Version of the candidates; empty when none was given.
        fingerprint: What makes its calls comparable.
        versions: How many versions, or other fingerprints, this rollout has had.
        control: Name of the control.
        epoch: Number of the evidence: another version, or other settings, have another.
        dropped: Candidates that were rolled back while others went on.
        invalid: Why the comparison cannot be trusted; empty when it can.
        paused_by: Checks that the judge has paused it for, until they have recovered.
        plan: The plan as it was written: `steps`, `guardrails`, `gates` and options that are not the default; empty for a
            rollout without one.
        processes: The processes that serve it now, each with the revision that it stands at.
        last_seen_s: When a process that no longer serves it was last heard of; None when there was none.
        verdict: The last verdict, while it says something: none about another version, none from before an abort.
        notes: What cannot be read in the store.
    """

    key: str
    status: Status
    phase: str
    step: int
    steps: tuple[str, ...]
    shares: Mapping[str, float]
    revision: int
    entered_s: float
    now_s: float
    version: str = ""
    fingerprint: str = ""
    versions: int = 1
    control: str = "control"
    epoch: int = 0
    dropped: tuple[str, ...] = ()
    invalid: str = ""
    paused_by: tuple[str, ...] = ()
    plan: Mapping[str, Any] = Factory(dict)
    processes: tuple[Process, ...] = ()
    last_seen_s: float | None = None
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, state: RolloutState, *, now_s: float, **more: Any) -> StoredStatus:
        """The status of a state, with what else is known of it."""
        return cls(
            key=state.key,
            status=state.status,
            phase=state.phase.name,
            step=state.step,
            steps=tuple(phase.name for phase in state.plan),
            shares=state.phase.all_shares,
            revision=state.revision,
            entered_s=state.entered_s,
            now_s=now_s,
            version=state.version,
            fingerprint=state.fingerprint,
            versions=state.versions,
            control=state.phase.control,
            epoch=state.epoch,
            dropped=state.dropped,
            invalid=state.invalid,
            paused_by=state.paused_by,
            **more,
        )

    @property
    def behind(self) -> tuple[Process, ...]:
        """The processes that have not followed the last change yet."""
        return tuple(each for each in self.processes if each.revision < self.revision)

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        table = asdict(self, filter=lambda field, _: field.name not in ("verdict", "processes", "key", "now_s"))
        return {
            "rollout": self.key,
            **table,
            "processes": [asdict(each) for each in self.processes],
            "verdict": None if self.verdict is None else self.verdict.as_dict(),
        }

    def __str__(self) -> str:
        """A few lines for a person."""
        shares = "  ".join(f"{name} {share:.4g}" for name, share in self.shares.items())
        lines = [f"{self.key}: {self.status}, phase {self.phase}, revision {self.revision}", f"  {shares}"]
        if self.invalid:
            lines.append(f"  INVALID: {self.invalid}")
        lines.append(f"  served by {len(self.processes)} live processes")
        lines.extend(f"  note: {note}" for note in self.notes)
        if self.verdict is not None:
            lines.extend(f"  {line}" for line in str(self.verdict).splitlines())
        return "\n".join(lines)


@frozen
class StoredChange:
    """What a change has done.

    Attributes:
        before: How the rollout stood.
        after: How it stands now; equal to `before` when there was nothing to change.
    """

    before: StoredStatus
    after: StoredStatus

    @property
    def is_change(self) -> bool:
        """Whether anything was changed."""
        return self.before.revision != self.after.revision

    def __str__(self) -> str:
        """One line for a person."""
        before, after = self.before, self.after
        if not self.is_change:
            return f"{after.key}: nothing to change, it is {after.status} in phase {after.phase}."
        return f"{after.key}: {before.status} {before.phase} -> {after.status} {after.phase}, revision {after.revision}"


def plan_from_note(text: str | None) -> dict[str, Any]:
    """The plan that a note says; empty where there is none, or it cannot be read."""
    try:
        table = {} if text is None else loads(text)
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}
