"""Roles: actors that may change a rollout only in some ways, such as a robot that may abort but not promote.

Actors give their own names. Roles prevent mistakes of a robot, a script or a control file; they are not authentication: any
program that can write to the store can do everything there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from json import dumps, loads
from typing import Any, TypeAlias

from rollout_sdk.exceptions import ConfigurationError, NotAllowedError
from rollout_sdk.formatting import brief, nearest

__all__ = [
    "ACTIONS",
    "ALLOW",
    "JUDGE",
    "Allowed",
    "UnreadableRolesError",
    "allowed_from_note",
    "as_allowed",
    "as_note",
    "must_be_allowed",
]

Allowed: TypeAlias = Mapping[str, frozenset[str]]
"""Allowed actions by actor; actors that are not listed may do everything."""

ALLOW = "allow"
"""Name of the store's note with the roles, for the command and other processes."""

JUDGE = "judge"
"""The judge's name as an actor."""

ACTIONS = ("promote", "promote_full", "skip_step", "set_share", "set_plan", "pause", "resume", "abort")
"""The actions, by their names in the history."""


class UnreadableRolesError(NotAllowedError):
    """The roles in the store cannot be read."""


def as_allowed(allow: Mapping[str, Iterable[str]] | None) -> Allowed:
    """Validate roles.

    Raises:
        ConfigurationError: They are not sets of actions by actor, or name an unknown action or the judge.
    """
    if allow is None:
        return {}
    form = 'Write allow={"robot": {"abort", "pause"}}.'
    if not isinstance(allow, Mapping):
        raise ConfigurationError(f"allow={brief(allow)} is not a mapping. It has a set of actions for each actor. {form}")
    found = {}
    for actor, actions in allow.items():
        # A string would pass as a collection of letters.
        if not isinstance(actor, str) or isinstance(actions, str) or not isinstance(actions, Iterable):
            raise ConfigurationError(f"allow= of {brief(actor)} is {brief(actions)}. It is a set of actions. {form}")
        if actor == JUDGE or not actor.strip():
            raise ConfigurationError(
                f"allow= names the actor {actor!r}. The judge does what its plan says, and an actor has a name. "
                "To have a person decide on steps, use Canary(approve=...)."
            )
        found[actor] = frozenset(_known(actor, each) for each in actions)
    return found


def _known(actor: str, action: object) -> str:
    if not isinstance(action, str) or action not in ACTIONS:
        near = nearest(str(action), ACTIONS)
        meant = "Write one of these." if near is None else f"Did you mean {near!r}?"
        raise ConfigurationError(
            f"allow= gives {actor!r} the action {brief(action)}, which is unknown. It is one of {', '.join(ACTIONS)}. {meant}"
        )
    return action


def must_be_allowed(allowed: Allowed, key: str, actor: str, action: str) -> None:
    """Refuse an action that the actor's role does not include; actors that are not listed may do everything.

    Raises:
        NotAllowedError: The role does not include it.
    """
    if actor in allowed and action not in allowed[actor]:
        may = ", ".join(sorted(allowed[actor])) or "nothing"
        raise NotAllowedError(
            f"{actor!r} may not {action} {key!r}. By allow=, it may: {may}. Use an actor that may, under its own name."
        )


def as_note(allowed: Allowed) -> str:
    """Return the roles as a note."""
    return dumps({actor: sorted(actions) for actor, actions in sorted(allowed.items())})


def allowed_from_note(text: str | None) -> Allowed:
    """Return the roles in a note; unknown actions, of a later SDK version, are kept.

    Raises:
        UnreadableRolesError: The note is damaged.
    """
    if text is None:
        return {}
    try:
        table: dict[str, Any] = loads(text)
        return {str(actor): frozenset(map(str, actions)) for actor, actions in table.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableRolesError(
            "The roles (allow=) in the store are damaged and cannot be read, so that no actor's permissions are known. "
            "Start a process that serves the rollout: it writes them again."
        ) from error
