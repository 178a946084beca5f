"""The last verdict about a rollout, and whether it still says something about where the rollout stands."""

from __future__ import annotations

from json import dumps, loads

from rollout_sdk.control.state import RolloutState
from rollout_sdk.formatting import when
from rollout_sdk.judging import Verdict

__all__ = ["VERDICT", "is_about", "is_current", "verdict_from_note"]

VERDICT = "verdict"
"""Name of the note in the store."""


def verdict_from_note(text: str) -> Verdict:
    """The verdict that a note says.

    Raises:
        ValueError: It is damaged, or of another SDK.
    """
    try:
        verdict = Verdict.from_dict(loads(text))
        # Its fields may be anything: they are readable when they can be written out.
        dumps(verdict.as_dict(), allow_nan=False), str(verdict), when(verdict.time_s)
        _number(verdict)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(type(error).__name__) from error
    return verdict


def is_about(verdict: Verdict, state: RolloutState) -> bool:
    """Whether a verdict is worth showing: it is of this version, and, where the rollout is over, it is what ended it.

    What was last judged before a person aborted or promoted says nothing about why it is over.
    """
    if _number(verdict) < state.since:
        return False
    if state.status == "rolled_back":
        return verdict.outcome == "FAIL"
    if state.status == "promoted":
        return verdict.outcome == "PASS" and verdict.revision + 1 == state.revision
    return state.is_open


def is_current(verdict: Verdict, state: RolloutState) -> bool:
    """Whether a verdict is about the phase in which the rollout stands."""
    return is_about(verdict, state) and verdict.phase == state.phase.name


def _number(verdict: Verdict) -> int:
    return int(verdict.phase.partition(":")[0])
