"""The state of a rollout as a JSON document in a store, validated when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from attrs import evolve

from rollout_sdk.assignment import Phase, last_step_within
from rollout_sdk.control.state import RolloutState, Status
from rollout_sdk.exceptions import StateError

__all__ = ["as_document", "from_document", "is_comparable", "joined", "numbered", "replanned"]

SCHEMA = 1


def _phase(phase: Phase) -> dict[str, Any]:
    return {"name": phase.name, "shares": dict(phase.shares), "shadow": phase.shadow}


def _as_phase(table: Mapping[str, Any], control: str, fingerprint: str = "") -> Phase:
    phase = Phase(table["name"], table["shares"], control, table["shadow"], fingerprint=fingerprint)
    # Documents of early SDKs have no lanes: those of a new rollout.
    return phase if "lanes" not in table else evolve(phase, lanes=table["lanes"])


def _texts(names: Any) -> tuple[str, ...]:
    # A string would pass as a sequence of letters.
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{names!r:.60} is not a list of names")
    return tuple(names)


def as_document(state: RolloutState) -> dict[str, Any]:
    """Return the state as JSON-compatible values."""
    return {
        "schema": SCHEMA,
        "key": state.key,
        "control": state.phase.control,
        "plan": [_phase(phase) for phase in state.plan],
        "phase": {**_phase(state.phase), "lanes": [list(lane) for lane in state.phase.lanes]},
        "step": state.step,
        "status": state.status,
        "revision": state.revision,
        "change_id": state.change_id,
        "number": state.number,
        "ramps": state.ramps,
        "version": state.version,
        "fingerprint": state.fingerprint,
        "code": state.code,
        "epoch": state.epoch,
        "since": state.since,
        "entered_s": state.entered_s,
        "resumed_s": state.resumed_s,
        "dropped": list(state.dropped),
        "superseded": list(state.superseded),
        "replaced": list(state.replaced),
        "invalid": state.invalid,
        "valid_from": state.valid_from,
        "paused_by": list(state.paused_by),
        "futile": list(state.futile),
    }


def from_document(document: Mapping[str, Any]) -> RolloutState:
    """Return the state in a document.

    Raises:
        StateError: The document is damaged, or of a later SDK version.
    """
    try:
        if document["schema"] != SCHEMA or document["status"] not in get_args(Status):
            raise ValueError(f"schema {document['schema']!r:.20}, status {document['status']!r:.20}")
        # Fields that early SDKs did not write have their defaults.
        control, fingerprint = document["control"], str(document.get("fingerprint", ""))
        return RolloutState(
            key=document["key"],
            plan=tuple(_as_phase(phase, control) for phase in document["plan"]),
            phase=_as_phase(document["phase"], control, fingerprint),
            step=int(document["step"]),
            status=document["status"],
            revision=int(document["revision"]),
            change_id=str(document.get("change_id", "")),
            number=int(document["number"]),
            ramps=bool(document["ramps"]),
            version=str(document["version"]),
            fingerprint=fingerprint,
            code=str(document.get("code", "")),
            epoch=int(document["epoch"]),
            since=int(document.get("since", 0)),
            entered_s=float(document["entered_s"]),
            resumed_s=float(document.get("resumed_s", 0.0)),
            dropped=_texts(document["dropped"]),
            superseded=_texts(document["superseded"]),
            replaced=_texts(document.get("replaced", [])),
            invalid=str(document.get("invalid", "")),
            valid_from=int(document.get("valid_from", 0)),
            paused_by=_texts(document.get("paused_by", [])),
            futile=_texts(document.get("futile", [])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StateError(
            f"The stored state of {document.get('key')!r:.80} cannot be read ({type(error).__name__}: {error}). "
            "It is damaged, or of a later version of rollout_sdk. Give every process, and the command rollout, the same "
            "version, or restore the store."
        ) from error


def is_comparable(one: RolloutState, other: RolloutState) -> bool:
    """Whether the calls of two states may be pooled."""
    if one.fingerprint and other.fingerprint:
        return one.fingerprint == other.fingerprint
    # An early SDK stored one of them without a fingerprint: compare what it has.
    return _identity(one) == _identity(other)


def _identity(state: RolloutState) -> tuple[str, str, frozenset[str]]:
    return state.version, state.phase.control, frozenset(state.phase.shares)


def joined(stored: RolloutState, mine: RolloutState) -> RolloutState:
    """Return a stored state with the plan and fingerprint of a process with comparable settings."""
    state, fingerprint = numbered(stored, mine.plan), mine.fingerprint
    if state.fingerprint == fingerprint:
        return state
    return evolve(state, fingerprint=fingerprint, phase=evolve(state.phase, fingerprint=fingerprint))


def numbered(state: RolloutState, plan: tuple[Phase, ...]) -> RolloutState:
    """Return the state with another plan: in the same phase, at the last step whose shares do not exceed it."""
    if state.plan == plan:
        return state
    return evolve(state, plan=plan, step=last_step_within(plan, state.phase.shares))


def replanned(state: RolloutState, plan: tuple[Phase, ...]) -> RolloutState:
    """Return the state after a change of plan; the same object if the plan is equal."""
    after = numbered(state, plan)
    return after if after is state else evolve(after, revision=state.revision + 1)
