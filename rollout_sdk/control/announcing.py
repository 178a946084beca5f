"""Tracks which transitions a process has announced, and finds in the store's history those that it has not.

Every process that follows a store announces every transition to its own observers, log, spans, counters and journal, once. Its
own transitions it announces at once. Transitions made elsewhere (the command line, another process's judge) it reads from the
history, with actor and reason, as soon as the stored state differs from the one that it knows.

A transition is identified by its id in the history. Its revision is not enough: after a store was lost, two can be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from rollout_sdk.concurrency.threads import ReentrantLock
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stored_state import shortened
from rollout_sdk.records import TransitionedEvent

__all__ = ["Announced", "inferred", "made", "recorded", "weights"]

_MOST_KNOWN = 1_000
_NO_RECORD = "the store's history has no record of it"


@frozen
class _Made:
    """A transition: its key, its revision, and when it was made, or when this process joined."""

    key: str
    revision: int
    time_s: float

    def is_before(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is of a later transition, as far as revisions and clocks show."""
        time_s = record.get("time_s")
        return _named(record)[1] > self.revision or (isinstance(time_s, int | float) and time_s > self.time_s)


@define(eq=False)
class Announced:
    """The transitions of a rollout that a process has announced, so that none is announced twice.

    Attributes:
        lock: Held from the claim of a transition until the recorder has it.
        behind: How often transitions may have been missed.
        caught_up: Value of `behind` when the history was last read completely.
    """

    lock: Any = field(factory=ReentrantLock)
    behind: int = 0
    caught_up: int = 0
    _known: dict[str, _Made] = field(factory=dict)
    _since: _Made | None = None

    def renew(self) -> None:
        """Replace the lock in a forked child, where the thread that held it does not exist."""
        self.lock = ReentrantLock()

    def claim(self, change_id: str, revision: int, time_s: float) -> bool:
        """Whether a transition is not announced yet; the caller then announces it, while it holds the lock."""
        key = _key(change_id, revision)
        if key in self._known:
            return False
        self._known[key] = made = _Made(key, revision, time_s)
        if self._since is None:
            self._since = made
        if len(self._known) > _MOST_KNOWN:
            self._since = self._known.pop(next(iter(self._known)))
        return True

    def fall_behind(self) -> None:
        """Have the next look read the whole history: transitions before the last known one may be missing."""
        with self.lock:
            self.behind += 1

    def join(self, state: RolloutState, now_s: float) -> None:
        """Follow a rollout from now on: earlier transitions were announced by other processes."""
        with self.lock:
            self.claim(state.change_id, state.revision, now_s)

    def pass_over(self, record: Mapping[str, Any]) -> None:
        """Skip a record that cannot be read, or is not about what this process serves."""
        change_id, revision = _named(record)
        with self.lock:
            self.claim(change_id, revision, 0.0)

    def knows(self, state: RolloutState) -> bool:
        """Whether a state's last transition is announced, or older than this process."""
        return _key(state.change_id, state.revision) in self._known

    def missed(
        self, history: Sequence[Mapping[str, Any]], until: RolloutState, before: RolloutState
    ) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Return the transitions to announce from a history, in order: each record, with the one before it.

        Args:
            history: The records of all transitions, oldest first.
            until: The state whose transition is the last to announce.
            before: The state in this process before them.
        """
        # A foreign store may hold anything; a record with neither id nor revision is not a transition.
        history = [record for record in history if isinstance(record, Mapping) and _named(record) != _NAMELESS]
        keys = [_key(*_named(record)) for record in history]
        here = _key(until.change_id, until.revision)
        end = len(keys) - keys[::-1].index(here) if here in keys else len(keys)
        since = self._since
        begins = keys.index(since.key) + 1 if since is not None and since.key in keys else None
        for index in range(begins or 0, end):
            # A history without `since` belongs to a store that was lost.
            is_news = begins is not None or keys[index] == here or since is None or since.is_before(history[index])
            if is_news and keys[index] not in self._known:
                yield history[index], history[index - 1] if index else _as_record(before)


def _key(change_id: str, revision: int) -> str:
    # Early SDKs stored no ids.
    return change_id or f"revision {revision}"


def _named(record: Mapping[str, Any]) -> tuple[str, int]:
    """Return id and revision of a record, whatever it holds."""
    change_id, revision = record.get("id"), record.get("revision")
    return change_id if isinstance(change_id, str) else "", revision if isinstance(revision, int) else -1


_NAMELESS = ("", -1)


def _as_record(state: RolloutState) -> dict[str, Any]:
    """Return a state as the fields of a record."""
    return {"phase": state.phase.name, "shares": state.phase.all_shares, "fingerprint": state.fingerprint}


def weights(record: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the share of every variant after a record; empty if it is damaged."""
    shares = record.get("shares")
    if not isinstance(shares, Mapping):
        return {}
    # A store may return an int for a float.
    return {name: float(share) for name, share in shares.items() if isinstance(share, int | float)}


def made(
    strategy: str,
    action: str,
    before: RolloutState,
    after: RolloutState,
    *,
    actor: str,
    reason: str,
    time_s: float,
    evidence: Mapping[str, Any] | None = None,
) -> TransitionedEvent:
    """Return the event of a transition between two states."""
    return TransitionedEvent(
        rollout=after.key,
        strategy=strategy,
        action=action,  # type: ignore[arg-type] # a store returns strings
        status=after.status,
        revision=after.revision,
        from_phase=before.phase.name,
        to_phase=after.phase.name,
        shares=after.phase.all_shares,
        actor=actor,
        reason=reason,
        time_s=time_s,
        shadow=after.phase.shadow,
        evidence=evidence,
        invalid=after.invalid,
        version=after.version,
        fingerprint=after.fingerprint,
        replaced=before.fingerprint if before.fingerprint != after.fingerprint else "",
        id=after.change_id,
    )


def recorded(
    state: RolloutState, strategy: str, record: Mapping[str, Any], before: Mapping[str, Any]
) -> TransitionedEvent | None:
    """Return the event of a transition in the history; None if it is not about what this process serves.

    Args:
        state: The state of the rollout in this process.
        strategy: Name of its strategy.
        record: The record in the history.
        before: The record before it.

    Raises:
        Exception: The record is damaged, or was not written by the SDK.
    """
    change_id, revision = _named(record)
    fingerprint, replaced = record.get("fingerprint") or state.fingerprint, before.get("fingerprint") or state.fingerprint
    # A process that starts a rollout in an empty store announces that itself.
    if fingerprint != state.fingerprint or (record.get("action") == "start" and replaced == fingerprint):
        return None
    actor, reason = shortened(record["actor"], record["reason"])
    evidence = record.get("verdict")
    return TransitionedEvent(
        rollout=state.key,
        strategy=strategy,
        action=shortened(record["action"], "")[0],  # type: ignore[arg-type] # a store returns strings
        status=shortened(record["status"], "")[0],
        revision=revision,
        from_phase=str(before.get("phase", "")),
        to_phase=str(record["phase"]),
        shares=_shares(record["shares"]),
        actor=actor,
        reason=reason,
        time_s=float(record["time_s"]),
        shadow=float(record.get("shadow", 0.0)),
        evidence=evidence if isinstance(evidence, Mapping) else None,
        invalid=str(record.get("invalid", "")),
        version=str(record.get("version", "")),
        fingerprint=fingerprint,
        replaced="" if replaced == fingerprint else str(replaced),
        id=change_id,
    )


def _shares(shares: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(share) for name, share in shares.items()}


_ACTIONS = {"aborted": "abort", "rolled_back": "roll_back", "promoted": "promote_full", "paused": "pause"}


def inferred(strategy: str, before: RolloutState, after: RolloutState, time_s: float) -> TransitionedEvent:
    """Return the event of a transition without a record: a program has written the state itself."""
    if before.status != after.status:
        action = _ACTIONS.get(after.status, "resume")
    else:
        action = "set_plan" if before.phase.name == after.phase.name else "set_share"
    return made(strategy, action, before, after, actor="", reason=_NO_RECORD, time_s=time_s)
