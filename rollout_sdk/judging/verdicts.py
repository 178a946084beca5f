"""Verdicts and findings: what was decided, and the arithmetic behind it, so that anybody can do it again."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any, Literal

from attrs import asdict, frozen

__all__ = ["Finding", "Outcome", "Verdict"]

Outcome = Literal["PASS", "FAIL", "FUTILE", "INCONCLUSIVE", "INSUFFICIENT_DATA", "ERROR"]
"""Only PASS advances; only FAIL rolls back."""

_MOST_EXPONENT = 23.0
_LISTED = ("failed", "passed", "pauses", "futile")


def _e_value(log_e: float) -> str:
    """An e-value as a text: how many times more likely the data are if it is so than if it is not."""
    if log_e > _MOST_EXPONENT:
        return f"1e{log_e / 2.302585:.0f}"
    return f"{exp(log_e):.3g}"


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
        control: The control's value.
        value: The candidate's value.
        harm_log_e: Logarithm of the evidence that the candidate is too much worse; a rollback takes `harm_needed`.
        harm_needed: Logarithm of the evidence that a rollback takes.
        safe_log_e: Logarithm of the evidence that the candidate is good enough; a pass takes `safe_needed`.
        safe_needed: Logarithm of the evidence that a pass takes.
        numbers: The sums that all of the above is computed from, by name.
        matured: Share of the decisions that are old enough to count for a pass.
        dry_run: Whether it decides nothing.
    """

    name: str
    kind: Literal["guardrail", "gate", "assignment"]
    candidate: str | None
    outcome: Outcome
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    control: float | None = None
    value: float | None = None
    harm_log_e: float | None = None
    harm_needed: float | None = None
    safe_log_e: float | None = None
    safe_needed: float | None = None
    numbers: Mapping[str, Any]
    matured: float = 1.0
    dry_run: bool = False

    def _over(self, arm: str) -> str:
        """What the mean of an arm is taken over."""
        count = self.numbers.get(f"{arm}_count")
        return "" if count is None else f" over {count:,.0f}"

    def __str__(self) -> str:
        """A line or two for a person."""
        about = self.name if self.candidate is None else f"{self.kind} {self.name} of {self.candidate}"
        lines = [f"{self.outcome:<17} {about}{' (dry run)' if self.dry_run else ''}: {self.reason}"]
        if self.control is not None and self.value is not None:
            between = "" if self.low is None or self.high is None else f" [{self.low:+.4g}, {self.high:+.4g}]"
            by = "" if self.estimate is None else f"  difference {self.estimate:+.4g}{between}"
            control, candidate = f"{self.control:.4g}{self._over('control')}", f"{self.value:.4g}{self._over('value')}"
            lines.append(f"control {control}  candidate {candidate}{by}")
        evidence = [
            f"{what} {_e_value(log_e)} of {_e_value(needed)}"
            for what, log_e, needed in (
                ("evidence of harm" if self.candidate else "evidence of other shares", self.harm_log_e, self.harm_needed),
                ("evidence that it is good enough", self.safe_log_e, self.safe_needed),
            )
            if log_e is not None and needed is not None
        ]
        if evidence:
            lines.append("  ".join(evidence))
        return "\n                  ".join(lines)


@frozen(kw_only=True)
class Verdict:
    """What a look at a rollout came to.

    Attributes:
        rollout: Key of the rollout.
        outcome: PASS, FAIL, INCONCLUSIVE, INSUFFICIENT_DATA or ERROR.
        reason: Why, in a sentence.
        phase: The current phase.
        revision: The revision that was looked at.
        time_s: When, in seconds since 1970.
        failed: Candidates that are to be rolled back.
        passed: Candidates that may go on.
        valid: Whether the numbers can be trusted: False when the realised shares are not the configured ones.
        findings: What was found, by criterion.
        units: Units of every arm in the current phase.
        outcomes: Recorded outcomes of judged metrics: counted, late, duplicate, unknown.
        pauses: Labels of the checks with on_fail="pause" that fail now.
        futile: Gates that surely have less than the effect worth having.
        idle: Whether no traffic came lately, so that the time to wait does not run out.
    """

    rollout: str
    outcome: Outcome
    reason: str
    phase: str
    revision: int
    time_s: float
    failed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    valid: bool = True
    findings: tuple[Finding, ...] = ()
    units: Mapping[str, int]
    outcomes: Mapping[str, int]
    pauses: tuple[str, ...] = ()
    futile: tuple[str, ...] = ()
    idle: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON-plain."""
        table = asdict(self)
        return {**table, **{name: list(table[name]) for name in (*_LISTED, "findings")}}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Verdict:
        """What `as_dict` gave."""
        listed = {name: tuple(table.get(name, ())) for name in _LISTED}
        return cls(**{**table, **listed, "findings": tuple(Finding(**each) for each in table["findings"])})

    def __str__(self) -> str:
        """The verdict and its arithmetic, for a person."""
        units = "  ".join(f"{arm} {number:,}" for arm, number in self.units.items())
        invalid = "" if self.valid else " (INVALID)"
        lines = [f"{self.outcome}{invalid} in phase {self.phase}: {self.reason}", f"  units: {units or 'none'}"]
        lines.extend(f"  {finding}" for finding in self.findings)
        left = {name: number for name, number in self.outcomes.items() if name != "counted" and number}
        if left:
            lines.append("  outcomes not counted: " + ", ".join(f"{name} {number:,}" for name, number in sorted(left.items())))
        return "\n".join(lines)
