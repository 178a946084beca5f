"""Verdicts and findings: what was decided, and the arithmetic behind it, so that it can be done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import asdict, frozen

from rollout_sdk.judging.wording import chance, lift, percent

__all__ = ["Finding", "Outcome", "Verdict"]

Outcome = Literal["PASS", "FAIL", "FUTILE", "INCONCLUSIVE", "INSUFFICIENT_DATA", "ERROR"]
"""Only PASS advances; only FAIL rolls back."""

_ORDER: Mapping[str, int] = {"FAIL": 0, "ERROR": 1, "FUTILE": 2, "INCONCLUSIVE": 3, "INSUFFICIENT_DATA": 4, "PASS": 5}


@frozen(kw_only=True)
class Finding:
    """What was found about one candidate by one guardrail or gate, or about the assignment.

    Attributes:
        name: The guardrail's or gate's metric; "assignment" for the check of the realised shares.
        kind: "guardrail", "gate" or "assignment".
        candidate: Name of the candidate; None for the assignment.
        outcome: What was found.
        reason: Why, in a sentence.
        estimate: Candidate minus control, in the metric's unit; None where it cannot be told.
        low: Lower end of an interval for it that holds at every look, at level 1 - alpha; None where it cannot be told.
        high: Upper end.
        relative: The relative lift, candidate / control - 1; None where unknown.
        relative_low: Lower end of an interval for it that holds at every look; None where unknown.
        relative_high: Upper end.
        control: The control's value.
        value: The candidate's value.
        harm_log_e: Logarithm of the evidence that the candidate is too much worse; a rollback takes `harm_needed`.
        harm_needed: Logarithm of the evidence that a rollback takes.
        safe_log_e: Logarithm of the evidence that the candidate is good enough; a pass takes `safe_needed`.
        safe_needed: Logarithm of the evidence that a pass takes.
        futile_log_e: Logarithm of the evidence that a gate's effect is less than what is worth having.
        numbers: The sums that all of the above is computed from, by name.
        matured: Share of the decisions that are old enough to count for a pass.
        dry_run: Whether it decides nothing.
        on_fail: What its failure does: "rollback", "pause" or "warn".
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
        """Whether the verdict depends on it."""
        return not self.dry_run and self.on_fail != "warn"

    def _over(self, arm: str) -> str:
        """What the mean of an arm is taken over."""
        count = self.numbers.get(f"{arm}_count")
        return "" if count is None else f" over {count:,.0f}"

    def __str__(self) -> str:
        """A few lines for a person."""
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
        """Both arms and their difference."""
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
class Verdict:
    """What a look at a rollout came to.

    Attributes:
        rollout: Key of the rollout.
        outcome: PASS, FAIL, FUTILE, INCONCLUSIVE, INSUFFICIENT_DATA or ERROR.
        reason: Why, in a sentence.
        phase: The current phase.
        revision: The revision that was looked at.
        time_s: When, in seconds since 1970.
        failed: Candidates that are to be rolled back.
        passed: Candidates that may go on.
        pauses: Guardrails with on_fail="pause" that fail now.
        futile: Gates whose effect is surely less than what is worth having.
        idle: Whether there has been no traffic lately: the time to wait for a verdict does not run out then.
        valid: Whether the numbers can be trusted: False when the realised shares are not the configured ones.
        findings: What was found, the check of the shares first.
        units: Units of every arm in the current phase.
        outcomes: Recorded outcomes of judged metrics: counted, late, duplicate, unknown; and calls that are capped.
    """

    rollout: str
    outcome: Outcome
    reason: str
    phase: str
    revision: int
    time_s: float
    failed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    pauses: tuple[str, ...] = ()
    futile: tuple[str, ...] = ()
    idle: bool = False
    valid: bool = True
    findings: tuple[Finding, ...] = ()
    units: Mapping[str, int]
    outcomes: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        table = asdict(self)
        return {**table, **{name: list(table[name]) for name in (*_NAMES, "findings")}}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Verdict:
        """The verdict that `as_dict` wrote, also by an earlier version of the SDK."""
        listed = {name: tuple(table.get(name, ())) for name in _NAMES}
        return cls(**{**table, **listed, "findings": tuple(Finding(**each) for each in table["findings"])})

    def __str__(self) -> str:
        """The verdict and its arithmetic, for a person: what decides first."""
        units = "  ".join(f"{arm} {number:,}" for arm, number in self.units.items())
        invalid = "" if self.valid else " (INVALID)"
        lines = [f"{self.outcome}{invalid} in phase {self.phase}: {self.reason}", f"  units: {units or 'none'}"]
        lines.extend(f"  {finding}" for finding in _by_weight(self.findings))
        left = {name: number for name, number in self.outcomes.items() if name != "counted" and number}
        if left:
            lines.append("  not counted: " + ", ".join(f"{name} {number:,}" for name, number in sorted(left.items())))
        return "\n".join(lines)


_NAMES = ("failed", "passed", "pauses", "futile")


def _by_weight(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with the one that decides first."""
    return tuple(sorted(findings, key=lambda each: (not each.decides, _ORDER[each.outcome])))
