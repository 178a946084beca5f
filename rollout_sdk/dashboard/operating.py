"""Changing a rollout from its page: the forms, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.control.stored import StoredChange, StoredRollout, StoredStatus
from rollout_sdk.control.stores import StateStore
from rollout_sdk.dashboard.sessions import Session
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["change", "forms"]


@frozen
class _Action:
    """Something that can be done.

    Attributes:
        name: In the form and in the history.
        button: What its button says.
        asks: What is said before it is done.
        when: The statuses in which it is offered.
        do: Does it.
        needs_reason: Whether the history must say why.
        has_share: Whether the form asks for a share in percent.
        can_be_forced: Whether the form asks whether to do it although the last verdict is not PASS.
    """

    name: str
    button: str
    asks: str
    when: tuple[str, ...]
    do: Callable[[StoredRollout, Mapping[str, str], int], StoredChange]
    needs_reason: bool = True
    has_share: bool = False
    can_be_forced: bool = False


def _promote(rollout: StoredRollout, said: Mapping[str, str], revision: int) -> StoredChange:
    return rollout.promote(reason=said["reason"], revision=revision, force="force" in said)


def _set_share(rollout: StoredRollout, said: Mapping[str, str], revision: int) -> StoredChange:
    try:
        share = float(said.get("share", "")) / 100
    except ValueError:
        raise ConfigurationError("The share is not a number of percent. Nothing was changed. Write 5 for 5 %.") from None
    candidate = said.get("candidate") or None
    return rollout.set_share(share, candidate, reason=said["reason"], revision=revision, force="force" in said)


_GOING = ("running", "shadowing")
_ACTIONS = (
    _Action(
        "abort",
        "Abort",
        "Everybody gets the control, at once and for good.",
        (*_GOING, "paused", "promoted"),
        lambda rollout, said, revision: rollout.abort(reason=said["reason"], revision=revision),
        needs_reason=False,
    ),
    _Action(
        "pause",
        "Pause",
        "The shares stay as they are; no step is made until it is resumed.",
        _GOING,
        lambda rollout, said, revision: rollout.pause(reason=said["reason"], revision=revision),
        needs_reason=False,
    ),
    _Action(
        "resume",
        "Resume",
        "The plan goes on.",
        ("paused",),
        lambda rollout, said, revision: rollout.resume(reason=said["reason"], revision=revision),
    ),
    _Action("promote", "Promote", "The candidate takes its next step.", _GOING, _promote, can_be_forced=True),
    _Action(
        "set_share", "Set share", "The candidate gets this share, outside of the plan.", _GOING, _set_share, has_share=True
    ),
)
_BY_NAME = {action.name: action for action in _ACTIONS}


def change(store: StateStore, key: str, actor: str, said: Mapping[str, str]) -> StoredChange:
    """Do what a form says.

    Args:
        store: Where the rollout is.
        key: Key of the rollout.
        actor: Who does it.
        said: Fields of the form: "action", "revision", "reason", and for some actions "share", "candidate" and "force".

    Raises:
        ConfigurationError: The form says something that cannot be.
        StateError: The rollout does not allow it; `ConflictError` when another change came first.
        StoreError: The store did not answer.
    """
    action = _BY_NAME.get(said.get("action", ""))
    if action is None or not said.get("revision", "").isascii() or not said.get("revision", "").isdigit():
        raise ConfigurationError("This form is not one of this page. Nothing was changed. Load the page again.")
    known = {"reason": "", **said}
    if action.needs_reason and not known["reason"].strip():
        raise ConfigurationError("No reason was given. The history must say why. Nothing was changed.")
    with StoredRollout(store, key, actor=actor) as rollout:
        return action.do(rollout, known, int(known["revision"][:18]))


def forms(status: StoredStatus, session: Session) -> Markup:
    """The forms for what can be done with a rollout now: a click opens one, and its button does it."""
    candidates = [name for name in status.shares if name != status.control]
    return element(
        "section",
        element("h2", text("Operate")),
        *(_form(action, status, session, candidates) for action in _ACTIONS if status.status in action.when),
        element("p", text(f"You are {session.actor}; the page shows revision {status.revision}."), class_="muted"),
        class_="operate",
        aria_label="Operate",
    )


def _form(action: _Action, status: StoredStatus, session: Session, candidates: list[str]) -> Markup:
    fields = [
        _hidden("key", status.key),
        _hidden("action", action.name),
        _hidden("revision", str(status.revision)),
        _hidden("ticket", session.hand_out(status.key)),
    ]
    if action.has_share:
        fields.append(_field("Share in %", "share", inputmode="decimal", required=True, size=6))
        if len(candidates) > 1:
            fields.append(_field("Candidate", "candidate", value=candidates[0]))
    fields.append(_field("Reason", "reason", required=action.needs_reason, maxlength=500))
    if action.can_be_forced:
        fields.append(
            element("label", element("input", type="checkbox", name="force"), text(" although the last verdict is not PASS"))
        )
    return element(
        "details",
        element("summary", text(action.button), class_=f"button {action.name}"),
        element(
            "form",
            element("p", text(action.asks)),
            join(fields),
            element("button", text(f"{action.button} now"), class_=f"button {action.name}"),
            method="post",
            action="/operate",
        ),
    )


def _hidden(name: str, value: str) -> Markup:
    return element("input", type="hidden", name=name, value=value)


def _field(label: str, name: str, **attributes: object) -> Markup:
    return element("label", text(f"{label} "), element("input", name=name, autocomplete="off", **attributes))
