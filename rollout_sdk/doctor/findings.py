"""A finding: what is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from attrs import frozen

__all__ = ["SEVERITIES", "Finding", "Severity", "most_severe_first", "worst"]

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
