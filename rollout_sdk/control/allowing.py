"""Roles: which actors may change a rollout only in some ways, such as a robot that may abort and not promote.

The names are what actors call themselves. This keeps a robot, a script or a control file from doing by mistake what it is not
meant to do; it is no authentication: whoever can write the store can do everything there.
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
"""The actions of the actors that may not do everything."""

ALLOW = "allow"
"""Name of the note in the store by which the command and other processes know the roles."""

JUDGE = "judge"
"""The judge's name as an actor."""

ACTIONS = ("promote", "promote_full", "skip_step", "set_share", "set_plan", "pause", "resume", "abort")
"""What an actor can do, by the names of the history."""


class UnreadableRolesError(NotAllowedError):
    """Who may do what cannot be read in the store."""


def as_allowed(allow: Mapping[str, Iterable[str]] | None) -> Allowed:
    """The roles, checked.

    Raises:
        ConfigurationError: They are no sets of actions by actor, or name an unknown action or the judge.
    """
    if allow is None:
        return {}
    form = 'Write allow={"robot": {"abort", "pause"}}.'
    if not isinstance(allow, Mapping):
        raise ConfigurationError(f"allow={brief(allow)} is not a mapping. It has a set of actions for each actor. {form}")
    found = {}
    for actor, actions in allow.items():
        # A text is a collection, too: of letters.
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
    """Refuse what an actor may not do; one that is not listed may do everything.

    Raises:
        NotAllowedError: It may not.
    """
    if actor in allowed and action not in allowed[actor]:
        may = ", ".join(sorted(allowed[actor])) or "nothing"
        raise NotAllowedError(
            f"{actor!r} may not {action} {key!r}. By allow=, it may: {may}. Have somebody do it who may, under their own name."
        )


def as_note(allowed: Allowed) -> str:
    """The roles as a note."""
    return dumps({actor: sorted(actions) for actor, actions in sorted(allowed.items())})


def allowed_from_note(text: str | None) -> Allowed:
    """The roles that a note says; of a later SDK, actions may be unknown here, and are kept.

    Raises:
        UnreadableRolesError: It is damaged: who may do what is not known.
    """
    if text is None:
        return {}
    try:
        table: dict[str, Any] = loads(text)
        return {str(actor): frozenset(map(str, actions)) for actor, actions in table.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableRolesError(
            "The roles (allow=) in the store cannot be read, so that it is not known who may do what. They are damaged. "
            "Start a process that serves the rollout: it writes them anew."
        ) from error
