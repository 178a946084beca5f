"""The status of a rollout in all processes, read from the store: its state, plan, last verdict and live processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from json import dumps, loads
from typing import Any

from attrs import Factory, asdict, frozen

from rollout_sdk.control.state import RolloutState, Status
from rollout_sdk.formatting import Shown, when
from rollout_sdk.judging import Verdict

__all__ = [
    "PLAN",
    "PRESENCE",
    "VERDICT",
    "Process",
    "StoredChange",
    "StoredStatus",
    "is_about",
    "is_current",
    "phase_number",
    "plan_from_note",
    "processes_in",
    "verdict_from_note",
]

PLAN = "plan"
"""Name of the store's note with the plan, as it was written."""
VERDICT = "verdict"
"""Name of the store's note with the last verdict."""
PRESENCE = "process"
"""Name of the part in which each process announces itself. Parts belong to an epoch, and each writer replaces only its own."""

_GONE_AFTER_S = 30.0


@frozen
class Process:
    """A process that serves a rollout.

    Attributes:
        host: Name of its machine.
        pid: Its process id there.
        seen_s: When it last announced itself, in seconds since 1970: every ten seconds, and after each change.
        revision: The revision that it serves; equal to the rollout's once it has followed the last change.
        held_by: Holders that keep candidates from running in it, such as "control file"; empty if candidates run.
    """

    host: str
    pid: int
    seen_s: float
    revision: int
    held_by: tuple[str, ...] = ()


@frozen(kw_only=True)
class StoredStatus(Shown):
    """The status of a rollout in all processes that serve it.

    Attributes:
        key: Key of the rollout.
        status: "shadowing", "running", "paused", "promoted", "rolled_back" or "aborted".
        phase: Name of the current phase.
        step: Index of the step last entered or passed; -1 before the first.
        steps: Names of the planned steps.
        shares: Configured share of every variant.
        revision: Number of transitions so far.
        entered_s: When the current phase began, in seconds since 1970.
        now_s: When this status was read, by the clock of this process.
        version: Version of the candidates; empty when none was given.
        fingerprint: What makes its calls comparable.
        versions: How many versions, or fingerprints, this rollout has had.
        control: Name of the control.
        epoch: Number of the evidence: each version, and each fingerprint, has its own.
        dropped: Candidates that were rolled back while others went on.
        invalid: Why the comparison cannot be trusted; empty if it is valid.
        paused_by: Checks for which the judge paused it, until they recover.
        plan: The plan as it was written: `steps`, `guardrails`, `gates` and options that are not the default; empty if the
            rollout has none.
        processes: The processes that serve it now, each with its revision.
        last_seen_s: When a process that no longer serves it last announced itself; None if there was none.
        verdict: The last verdict, if it is still meaningful: not of another version, not from before an abort.
        notes: What the store holds but cannot be read.
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
        """Return the status for a state, with further attributes."""
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
        """Return the status as JSON-compatible values."""
        table = asdict(self, filter=lambda field, _: field.name not in ("verdict", "processes", "key", "now_s"))
        return {
            "rollout": self.key,
            **table,
            "processes": [asdict(each) for each in self.processes],
            "verdict": None if self.verdict is None else self.verdict.as_dict(),
        }

    def __str__(self) -> str:
        """Describe the status in a few lines."""
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
    """The result of a change.

    Attributes:
        before: The status before.
        after: The status now; equal to `before` if there was nothing to change.
    """

    before: StoredStatus
    after: StoredStatus

    @property
    def is_change(self) -> bool:
        """Whether anything changed."""
        return self.before.revision != self.after.revision

    def __str__(self) -> str:
        """Describe the change in one line."""
        before, after = self.before, self.after
        if not self.is_change:
            return f"{after.key}: nothing to change, it is {after.status} in phase {after.phase}."
        return f"{after.key}: {before.status} {before.phase} -> {after.status} {after.phase}, revision {after.revision}"


def plan_from_note(text: str | None) -> dict[str, Any]:
    """Return the plan in a note; empty if there is none, or it cannot be read."""
    try:
        table = {} if text is None else loads(text)
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def processes_in(parts: Mapping[tuple[str, str], str], now_s: float) -> tuple[tuple[Process, ...], float | None]:
    """Return the processes seen within the last 30 s, and when the last of the others was seen (None if there are none)."""
    found = list(_processes(text for (_, part), text in parts.items() if part == PRESENCE))
    live = [each for each in found if now_s - each.seen_s < _GONE_AFTER_S]
    ordered = tuple(sorted(live, key=lambda each: (each.host, each.pid)))
    return ordered, max((each.seen_s for each in found if each not in live), default=None)


def _processes(texts: Iterable[str]) -> Iterable[Process]:
    for text in texts:
        try:
            table = loads(text)
            if table is not None:
                held_by = tuple(str(each) for each in table["held_by"])
                seen_s, revision = float(table["seen_s"]), int(table["revision"])
                yield Process(str(table["host"]), int(table["pid"]), seen_s, revision, held_by)
        # Of another SDK version, or damaged: its process writes it again within seconds.
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            continue


def verdict_from_note(text: str) -> Verdict:
    """Return the verdict in a note.

    Raises:
        ValueError: The note is damaged, or of another SDK version.
    """
    try:
        verdict = Verdict.from_dict(loads(text))
        # Its fields may be anything: they are usable if they can be written.
        dumps(verdict.as_dict(), allow_nan=False), str(verdict), when(verdict.time_s)
        phase_number(verdict)
        # They are compared with the time and with the revision of the rollout.
        if not isinstance(verdict.time_s, int | float) or not isinstance(verdict.revision, int):
            raise TypeError("a verdict without a time or a revision")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(type(error).__name__) from error
    return verdict


def is_about(verdict: Verdict, state: RolloutState) -> bool:
    """Whether a verdict is worth showing: it belongs to this version and, if the rollout is over, it is what ended it.

    The last verdict before a person aborted or promoted does not explain why the rollout is over.
    """
    if phase_number(verdict) < state.since:
        return False
    if state.status == "rolled_back":
        return verdict.outcome == "FAIL"
    if state.status == "promoted":
        return verdict.outcome == "PASS" and verdict.revision + 1 == state.revision
    return state.is_open


def is_current(verdict: Verdict, state: RolloutState) -> bool:
    """Whether a verdict is about the current phase."""
    return is_about(verdict, state) and verdict.phase == state.phase.name


def phase_number(verdict: Verdict) -> int:
    """Return the number of the phase that a verdict is about."""
    return int(verdict.phase.partition(":")[0])
