"""Completeness checks: the pairs of a shadow phase, and measurements of every served call."""

from __future__ import annotations

from collections.abc import Mapping

from rollout_sdk.judging.look import Look
from rollout_sdk.judging.phase_evidence import UNCOMPARED, PhaseEvidence
from rollout_sdk.plan import is_compared
from rollout_sdk.records import UNMEASURED

__all__ = [
    "DIFFERING",
    "LEAST_COMPLETE",
    "MATCHING",
    "UNCOMPARED",
    "UNDER_LOAD",
    "completeness",
    "cure_of",
    "incomplete",
    "most_missing",
    "unjudged_answers",
    "unmeasured",
    "unmeasured_calls",
]

LEAST_COMPLETE = 0.95
"""Minimum share of planned pairs at the end of a shadow step: the missing ones are not missing at random."""

UNDER_LOAD = frozenset({"dropped_full", "dropped_stale"})
"""Ends of runs for which there was no time: those that are left are of quiet moments."""

_COMPLETE = frozenset({"ok", "error", "timeout"})
_NOT_PLANNED = frozenset({"cancelled", "dropped_aborted", "dropped_closed"})
MATCHING, DIFFERING = "compared: match", "compared: differ"
"""Counts beside the ends of runs: pairs of either kind."""
_NO_ENDS = (UNCOMPARED, "compared: ")
_CURES: Mapping[str, str] = {
    "dropped_full": "raise ShadowLimits.workers, cpu_share, max_jobs (max_tasks for coroutines), or shadow a smaller share",
    "dropped_stale": "raise ShadowLimits.workers, cpu_share or max_age_s, or shadow a smaller share",
    "dropped_too_large": "raise ShadowLimits.max_bytes",
    "dropped_snapshot": "make the arguments copyable, or pass isolate=",
    "dropped_open": "the candidate's circuit breaker is open: it keeps failing",
    "dropped_start": "see the faults in status()",
    "timeout": "raise ShadowLimits.timeout_s, or give the candidate a timeout of its own",
    "abandoned": "the candidate hangs: give it a timeout of its own",
    UNMEASURED: "its answers cannot be measured: return the answer itself, a coroutine, or a stream",
}


def completeness(phase: PhaseEvidence, candidate: str) -> float | None:
    """Return the share of a candidate's planned shadow runs that ended; None before the first."""
    ends = {
        end: number
        for (name, end), number in phase.ends.items()
        if name == candidate and end not in _NOT_PLANNED and not end.startswith(_NO_ENDS)
    }
    planned = sum(ends.values())
    return sum(number for end, number in ends.items() if end in _COMPLETE) / planned if planned else None


def most_missing(ends: Mapping[str, int]) -> str | None:
    """Return the end of most runs that did not come back, of a candidate's runs by end; None if all came back."""
    missing = {
        end: number
        for end, number in ends.items()
        if number and end not in _COMPLETE | _NOT_PLANNED and not end.startswith(_NO_ENDS)
    }
    return max(missing, key=lambda each: missing[each], default=None)


def cure_of(end: str | None) -> str:
    """Return what to do about runs that end so."""
    return _CURES.get(end or "", "see status().shadows")


def incomplete(look: Look) -> str | None:
    """Explain why the current phase has too few pairs, and how to get more; None if it has enough."""
    phase = look.current
    for candidate in look.situation.candidates:
        share = completeness(phase, candidate)
        if share is not None and share < LEAST_COMPLETE:
            ends = {end: number for (name, end), number in phase.ends.items() if name == candidate}
            end = most_missing(ends) or ""
            return (
                f"{share:.1%} of the planned shadow runs of {candidate} ended, and at least {LEAST_COMPLETE:.0%} must: "
                f"{ends[end]:,} ended as {end!r}, and runs missing under load are not missing at random: {cure_of(end)}"
            )
    return None


def unjudged_answers(look: Look) -> str:
    """Warn of answers that differ while no guardrail judges them; empty if none do."""
    if not look.situation.shadowing or any(is_compared(each.metric) for each in look.criteria.guardrails):
        return ""
    warnings = []
    for candidate in look.situation.candidates:
        differing, matching = (look.current.ends[candidate, each] for each in (DIFFERING, MATCHING))
        if differing:
            pairs = differing + matching
            warnings.append(
                f" Warning: answers of {candidate} differ in {differing / pairs:.1%} of {pairs:,} pairs, and no guardrail "
                "judges that: Guardrail('shadow.mismatch', margin=...)."
            )
    return "".join(warnings)


def unmeasured_calls(phase: PhaseEvidence) -> dict[str, int]:
    """Return the number of served calls of a phase that could not be measured, by variant."""
    return {name: number for (name, end), number in phase.ends.items() if end == UNMEASURED and number}


def unmeasured(look: Look) -> str | None:
    """Explain which calls of the current phase could not be measured, and what to do; None if all were."""
    situation = look.situation
    found = {} if situation.shadowing else unmeasured_calls(look.current)
    for arm in (situation.control, *situation.candidates):
        if found.get(arm):
            return (
                f"{found[arm]:,} calls of {arm} returned an answer that cannot be measured, so their errors and latency are "
                "unknown: return the answer itself, a coroutine, or a stream"
            )
    return None
