"""Transition preconditions and their error messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rollout_sdk.assignment import Phase
from rollout_sdk.exceptions import ConfigurationError, StateError
from rollout_sdk.judging import Verdict

__all__ = ["must_be", "must_be_explained", "must_be_valid", "must_have_steps", "must_pass", "one_candidate"]

_CLEAR = (
    "Find out why, then call resume(clear_invalid=True, actor=..., reason=...), or: rollout resume KEY --clear-invalid "
    "--reason ..."
)


class State(Protocol):
    """The attributes of a rollout's state that preconditions depend on."""

    @property
    def key(self) -> str:
        """Key of the rollout."""

    @property
    def status(self) -> str:
        """Its status."""

    @property
    def invalid(self) -> str:
        """Why the comparison cannot be trusted, or ""."""

    @property
    def ramps(self) -> bool:
        """Whether its strategy has steps."""

    @property
    def candidates(self) -> Sequence[str]:
        """Names of its candidates."""

    @property
    def phase(self) -> Phase:
        """The current phase."""


def must_be(state: State, *allowed: str, action: str) -> None:
    """Refuse an action in any other status.

    Raises:
        StateError: The status is not one of `allowed`.
    """
    if state.status not in allowed:
        cure = {
            "paused": "It is paused already." if action == "pause" else "Resume it first.",
            "promoted": "It is over: the candidate serves everybody. Abort it to go back.",
            "rolled_back": "A rollback is final. Start again with another version.",
            "aborted": "An abort is final. Start again with another version, or under a new key.",
        }.get(state.status, "It is running already.")
        if action == "resume" and state.invalid:
            cure = f"It is running, and invalid. {_CLEAR}"
        # Users think of shadowing as running.
        possible = " or ".join(status for status in allowed if status != "shadowing")
        raise StateError(f"Cannot {action} {state.key!r}: it is {state.status}. This is possible while {possible}. {cure}")


def must_be_valid(state: State, action: str) -> None:
    """Refuse to give a candidate more users while the comparison cannot be trusted.

    Raises:
        StateError: The rollout is invalid.
    """
    if state.invalid:
        raise StateError(
            f"Cannot {action} {state.key!r}: it is invalid: {state.invalid.rstrip('.')}. The data so far are not a reason to "
            f"give a candidate more users; a smaller share and abort are possible. {_CLEAR}"
        )


def must_be_explained(key: str, actor: str, reason: str) -> None:
    """Refuse to clear an alarm without a name and an explanation.

    Raises:
        ConfigurationError: One is empty.
    """
    for option, text in (("actor", actor), ("reason", reason)):
        if not text.strip():
            raise ConfigurationError(
                f"The alarm of {key!r} is cleared with an empty {option}. Clearing it says that the comparison can be trusted "
                f"again, and the history must say who found that out, and how. Pass {option}='...'."
            )


def must_pass(state: State, action: str, verdict: Verdict | None, *, judged: bool) -> None:
    """Refuse to give a candidate more users by hand while the judge would not.

    Args:
        state: The state of the rollout.
        action: The action.
        verdict: The last verdict about the current phase; None before the first.
        judged: Whether the rollout is judged at all.

    Raises:
        StateError: The verdict is not PASS, or there is none yet.
    """
    if not judged or (verdict is not None and verdict.outcome == "PASS"):
        return
    if verdict is None:
        why = f"phase {state.phase.name} has no verdict yet"
    else:
        why = f"its last verdict is {verdict.outcome}, not PASS: {verdict.reason.rstrip('.')}"
    raise StateError(
        f"Will not {action.replace('_', ' ')} {state.key!r}: {why}. A candidate gets more users when its verdict is PASS. "
        "Wait for it (rollout status KEY --watch), or override it with --force (in Python: force=True)."
    )


def must_have_steps(state: State, action: str) -> None:
    """Refuse an action on steps if the strategy has none.

    Raises:
        StateError: The rollout is not a canary.
    """
    if not state.ramps:
        raise StateError(
            f"Cannot {action} {state.key!r}: its strategy has no steps. Steps belong to a canary. Use Canary([...])."
        )


def one_candidate(state: State, candidate: str | None) -> str:
    """Return the named candidate, or the only one.

    Raises:
        StateError: The candidate is unknown or ambiguous.
    """
    names = state.candidates
    if candidate is None and len(names) == 1:
        return names[0]
    if candidate is None or candidate not in names:
        raise StateError(
            f"Cannot tell which candidate of {state.key!r} is meant by {candidate!r}. "
            f"With several candidates, one must be named. Pass candidate= one of: {', '.join(names)}."
        )
    return candidate
