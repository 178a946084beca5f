"""Verdicts and findings: the decision, and the numbers needed to recompute it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import asdict, frozen

from rollout_sdk.formatting import Shown
from rollout_sdk.judging.wording import chance, lift, percent

__all__ = ["Finding", "Outcome", "Verdict"]

Outcome = Literal["PASS", "FAIL", "FUTILE", "INCONCLUSIVE", "INSUFFICIENT_DATA", "ERROR"]
"""Only PASS advances; only FAIL rolls back."""

_ORDER: Mapping[str, int] = {"FAIL": 0, "ERROR": 1, "FUTILE": 2, "INCONCLUSIVE": 3, "INSUFFICIENT_DATA": 4, "PASS": 5}


@frozen(kw_only=True)
class Finding:
    """What one guardrail or gate found about one candidate, or the check of the assignment.

    Attributes:
        name: The guardrail's or gate's metric; "assignment" for the check of the realised shares.
        kind: "guardrail", "gate" or "assignment".
        candidate: Name of the candidate; None for the assignment.
        outcome: The outcome.
        reason: The reason, in one sentence.
        estimate: Candidate minus control, in the metric's unit; None if unknown.
        low: Lower end of its confidence interval at level 1 - alpha, which holds at every look; None if unknown.
        high: Upper end.
        relative: Relative lift, candidate / control - 1; None if unknown.
        relative_low: Lower end of the lift's interval, which holds at every look; None if unknown.
        relative_high: Upper end.
        control: The control's value.
        value: The candidate's value.
        harm_log_e: Logarithm of the evidence that the candidate is too much worse.
        harm_needed: Threshold of `harm_log_e` for a rollback.
        safe_log_e: Logarithm of the evidence that the candidate is good enough.
        safe_needed: Threshold of `safe_log_e` for a pass.
        futile_log_e: Logarithm of the evidence that a gate's effect is smaller than the one worth having.
        numbers: The numbers from which everything above is computed, by name.
        matured: Share of the decisions that are old enough to count for a pass.
        dry_run: Whether the finding is reported only, without effect.
        on_fail: Effect of a failure: "rollback", "pause" or "warn".
    """

    name: str
    kind: Literal["guardrail", "gate", "assignment"]
    candidate: str | None
    outcome: Outcome
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    control: float | None = None
    value: float | None = None
    harm_log_e: float | None = None
    harm_needed: float | None = None
    safe_log_e: float | None = None
    safe_needed: float | None = None
    futile_log_e: float | None = None
    numbers: Mapping[str, Any]
    matured: float = 1.0
    dry_run: bool = False
    on_fail: str = "rollback"

    @property
    def decides(self) -> bool:
        """Whether the verdict depends on this finding."""
        return not self.dry_run and self.on_fail != "warn"

    def _over(self, arm: str) -> str:
        """Format the denominator of an arm's mean."""
        count = self.numbers.get(f"{arm}_count")
        return "" if count is None else f" over {count:,.0f}"

    def __str__(self) -> str:
        """Format the finding in a few lines."""
        about = self.name if self.candidate is None else f"{self.kind} {self.name} of {self.candidate}"
        aside = " (dry run)" if self.dry_run else " (warning only)" if self.on_fail == "warn" else ""
        lines = [f"{self.outcome:<17} {about}{aside}: {self.reason}", *self._measured()]
        if self.harm_log_e is not None and self.harm_needed is not None:
            what = "as bad by chance" if self.candidate else "other shares by chance"
            does = {"rollback": "rolled back", "pause": "paused", "warn": "reported"}.get(self.on_fail, "rolled back")
            at = does if self.candidate else "an alarm"
            lines.append(f"{what}: {chance(self.harm_log_e)} ({at} at {chance(self.harm_needed)})")
        if self.safe_log_e is not None and self.safe_needed is not None and "looks" not in self.numbers:
            lines.append(f"as good by chance: {chance(self.safe_log_e)} (passed at {chance(self.safe_needed)})")
        looks = self.numbers.get("looks") or ()
        lines.extend(f"look at {percent(part)} of the horizon: z {z:.2f} of {needed:.2f}" for part, z, needed, _ in looks)
        if "heaviest" in self.numbers:
            share, arm = self.numbers["heaviest"], self.numbers["heaviest_arm"]
            lines.append(f"one unit makes about {percent(share)} of the calls of {arm}")
        return "\n                  ".join(lines)

    def _measured(self) -> list[str]:
        """Format both arms and their difference."""
        if self.control is None or self.value is None:
            return []
        between = "" if self.low is None or self.high is None else f" [{self.low:+.4g}, {self.high:+.4g}]"
        by = "" if self.estimate is None or self.numbers.get("is_log") else f"  difference {self.estimate:+.4g}{between}"
        control, candidate = f"{self.control:.4g}{self._over('control')}", f"{self.value:.4g}{self._over('value')}"
        lines = [f"control {control}  candidate {candidate}{by}"]
        if self.relative is not None:
            low, high = self.relative_low, self.relative_high
            ends = "" if low is None else f" [{lift(low)}, {'...' if high is None else lift(high)}]"
            lines.append(f"relative {lift(self.relative)}{ends}")
        return lines


@frozen(kw_only=True)
class Verdict(Shown):
    """The result of one look at a rollout.

    Attributes:
        rollout: Key of the rollout.
        outcome: PASS, FAIL, FUTILE, INCONCLUSIVE, INSUFFICIENT_DATA or ERROR.
        reason: The reason, in one sentence.
        phase: The current phase.
        revision: The judged revision.
        time_s: Time of the look, in seconds since 1970.
        failed: Candidates to roll back.
        passed: Candidates that may take the next step.
        ready: Candidates for which everything has passed; also while the verdict is about others, which have not.
        pauses: Guardrails with on_fail="pause" that currently fail.
        futile: Gates whose effect is significantly below the one worth having.
        idle: Whether there is no recent traffic; the time limit for a verdict then stops running.
        valid: Whether the numbers can be trusted; False if the realised shares differ from the configured ones.
        findings: All findings, the assignment check first.
        units: Units of each arm in the current phase.
        outcomes: Number of recorded outcomes of judged metrics: counted, late, duplicate, unknown; and of capped calls.
    """

    rollout: str
    outcome: Outcome
    reason: str
    phase: str
    revision: int
    time_s: float
    failed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    pauses: tuple[str, ...] = ()
    futile: tuple[str, ...] = ()
    idle: bool = False
    valid: bool = True
    findings: tuple[Finding, ...] = ()
    units: Mapping[str, int]
    outcomes: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values."""
        table = asdict(self)
        return {**table, **{name: list(table[name]) for name in (*_NAMES, "findings")}}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Verdict:
        """Rebuild the verdict from `as_dict`, also from an earlier version of the SDK."""
        listed = {name: tuple(table.get(name, ())) for name in _NAMES}
        return cls(**{**table, **listed, "findings": tuple(Finding(**each) for each in table["findings"])})

    def __str__(self) -> str:
        """Format the verdict and its arithmetic, the most decisive finding first."""
        units = "  ".join(f"{arm} {number:,}" for arm, number in self.units.items())
        invalid = "" if self.valid else " (INVALID)"
        lines = [f"{self.outcome}{invalid} in phase {self.phase}: {self.reason}", f"  units: {units or 'none'}"]
        lines.extend(f"  {finding}" for finding in _by_weight(self.findings))
        left = {name: number for name, number in self.outcomes.items() if name != "counted" and number}
        if left:
            lines.append(
                "  not counted: " + ", ".join(f"{_PLAIN.get(name, name)} {number:,}" for name, number in sorted(left.items()))
            )
        return "\n".join(lines)


_PLAIN = {"by unit": "by unit (reports count them)"}
_NAMES = ("failed", "passed", "ready", "pauses", "futile")


def _by_weight(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort the findings, the most decisive first."""
    return tuple(sorted(findings, key=lambda each: (not each.decides, _ORDER[each.outcome])))
