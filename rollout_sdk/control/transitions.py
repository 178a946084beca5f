"""Transitions made by this process: on behalf of an operator, the control file or the judge, in the store and here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from rollout_sdk.assignment import Phase
from rollout_sdk.control.announcing import made
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.plane import ControlPlane
from rollout_sdk.control.roles import must_be_allowed
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import replanned
from rollout_sdk.control.state_sync import StateSync
from rollout_sdk.control.stored_state import Change, change_stored, new_change_id, shortened
from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import StateError, StoreError
from rollout_sdk.plan import Criteria
from rollout_sdk.resilience.faults import STORE

__all__ = ["OPERATOR_WAIT_S", "Transitions"]

OPERATOR_WAIT_S = 1.5
"""How long decorating or stopping a rollout waits for the store: slightly more than a store's default timeout."""


class Transitions:
    """Makes transitions by compare-and-set, and announces them."""

    def __init__(self, plane: ControlPlane, sync: StateSync, rollouts: Mapping[str, ManagedRollout]) -> None:
        """Make none yet.

        Args:
            plane: The store, the clocks and the callbacks.
            sync: Sets the states of rollouts in this process.
            rollouts: The rollouts of this process, by key.
        """
        self._plane = plane
        self._sync = sync
        self._rollouts = rollouts

    def change(
        self,
        key: str,
        action: str,
        change: Change,
        *,
        actor: str,
        reason: str,
        revision: int | None = None,
        evidence: Mapping[str, Any] | None = None,
        mine: RolloutState | None = None,
        store: StateStore | None = None,
        change_id: str | None = None,
    ) -> None:
        """Change the state of a rollout, for all processes.

        Raises:
            StateError: The change is not possible.
            ConflictError: `revision` is not the current one.
            StoreError: The store did not answer.
            NotAllowedError: The actor's role does not allow it.
        """
        plane = self._plane
        must_be_allowed(plane.allowed, key, actor, action)
        managed, (actor, reason), now_s = self._rollouts[key], shortened(actor, reason), plane.now_s
        store, here = plane.store if store is None else store, managed.state if mine is None else mine
        before, after = change_stored(
            store,
            key,
            action,
            change,
            now_s=now_s,
            actor=actor,
            reason=reason,
            revision=revision,
            evidence=evidence,
            mine=here,
            change_id=change_id,
            lost=managed.announced.fall_behind,
        )
        self._sync.enter(managed, after)
        if not managed.announced.knows(before):
            # Earlier changes by other processes are announced first.
            self._sync.catch_up(managed, before, here, store)
        if after is not before:
            event = made(managed.strategy, action, before, after, actor=actor, reason=reason, time_s=now_s, evidence=evidence)
            plane.announce(managed, event, before.phase.all_shares)

    def abort(self, key: str, *, actor: str, reason: str, revision: int | None = None) -> None:
        """Stop a rollout: in this process at once, whatever the store does, and everywhere as soon as the store has it.

        Raises:
            ConflictError: `revision` is not the current one: nothing was stopped.
            NotAllowedError: The actor's role does not allow it: nothing was stopped.
        """
        plane = self._plane
        must_be_allowed(plane.allowed, key, actor, "abort")
        managed, (actor, reason) = self._rollouts[key], shortened(actor, reason)
        before, change_id = managed.state, new_change_id()
        if revision is None:
            managed.pending_abort = actor, reason, change_id
            self._sync.enter(managed, before.abort())
        try:
            # It is stopped here already, and the reconciler writes later what the store does not take now.
            store = plane.store.within(OPERATOR_WAIT_S) if revision is None else plane.store
            self.change(
                key,
                "abort",
                RolloutState.abort,
                actor=actor,
                reason=reason,
                revision=revision,
                # The state before: for the store, the abort is still new.
                mine=before,
                store=store,
                change_id=change_id,
            )
            managed.pending_abort = None
        # Also a state that this version cannot read, or that others keep changing.
        except (StoreError, StateError) as error:
            if revision is not None:
                raise
            (plane.failed if isinstance(error, StoreError) else plane.failed_of(key))(STORE, error)
            # Earlier changes by other processes are not known either.
            managed.announced.fall_behind()
            if managed.state is not before:
                after = evolve(managed.state, change_id=change_id)
                event = made(managed.strategy, "abort", before, after, actor=actor, reason=reason, time_s=plane.now_s)
                plane.announce(managed, event, before.phase.all_shares)

    def replan(self, key: str, criteria: Criteria, plan: tuple[Phase, ...], *, actor: str, reason: str) -> None:
        """Change the plan of a canary, from its current state; a metric judged for the first time starts without evidence.

        Raises:
            StateError: The rollout is not a canary.
        """
        managed = self._rollouts[key]
        if managed.criteria is None or not managed.criteria.acts:
            raise StateError(
                f"{key!r} has no plan to change: its strategy is {managed.strategy!r}. A plan belongs to a canary. "
                "Use Canary([...])."
            )
        must_be_allowed(self._plane.allowed, key, actor, "set_plan")
        managed.judge_by(criteria)
        self.change(key, "set_plan", lambda state: replanned(state, plan), actor=actor, reason=reason)
