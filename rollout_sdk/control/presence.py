"""What a serving process leaves in the store for others: that it serves a rollout, its plan, and the roles."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from json import dumps

from attrs import asdict

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.roles import ALLOW, Allowed, as_note
from rollout_sdk.control.stored_status import PLAN, PRESENCE, Process
from rollout_sdk.control.stores import StateStore
from rollout_sdk.plan import written

__all__ = ["Presence"]

_EVERY_S = 10.0
_LONGEST_NAME = 200


class Presence:
    """Announces in the store which rollouts this process serves."""

    def __init__(self, store: StateStore, writer: str, allowed: Allowed) -> None:
        """Announce nothing yet.

        Args:
            store: The shared state.
            writer: Name of this process in the store.
            allowed: Allowed actions of the actors with restrictions.
        """
        self._store = store
        self._writer = writer
        self._allowed = allowed
        self._announced: dict[str, tuple[object, float]] = {}
        self._noted: dict[tuple[str, str], str] = {}

    def due(self, rollouts: Iterable[ManagedRollout]) -> list[ManagedRollout]:
        """Return the rollouts to announce: first those that have changed, then those announced 10 s ago, oldest first."""
        now_s, due = monotonic(), []
        for managed in rollouts:
            announced, until_s = self._announced.get(managed.key, (None, 0.0))
            is_same = announced == _served(managed)
            # A process of another version does not serve this rollout.
            if not managed.local_state.lost and (not is_same or now_s >= until_s):
                due.append((is_same, until_s, managed))
        return [managed for *_, managed in sorted(due, key=lambda each: each[:2])]

    def announce(self, managed: ManagedRollout, now_s: float) -> None:
        """Announce that this process serves a rollout, with its plan and the roles if they are new.

        Raises:
            StoreError: The store did not answer.
        """
        local_state, state, served = managed.local_state, managed.state, _served(managed)
        host = socket.gethostname()[:_LONGEST_NAME]
        process = Process(host, os.getpid(), now_s, state.revision, tuple(sorted(local_state.held_by)))
        if self._store.publish(managed.key, state.epoch, self._writer, {PRESENCE: dumps(asdict(process))}):
            self._announced[managed.key] = (served, monotonic() + _EVERY_S)
        self._note(managed.key, PLAN, "{}" if managed.criteria is None else dumps(written(managed.criteria)))
        self._note(managed.key, ALLOW, as_note(self._allowed))

    def _note(self, key: str, name: str, text: str) -> None:
        """Replace a different note; if two processes disagree, the one that started last wins."""
        if self._noted.get((key, name)) != text:
            if self._store.noted(key, name) not in ((None, text) if text == "{}" else (text,)):
                self._store.note(key, name, text)
            self._noted[key, name] = text

    def leave(self, managed: ManagedRollout, store: StateStore) -> None:
        """Announce that the process ends; `store` is the same store with a shorter timeout.

        Raises:
            StoreError: The store did not answer.
        """
        if self._announced.pop(managed.key, None) is not None:
            store.publish(managed.key, managed.state.epoch, self._writer, {PRESENCE: "null"})


def _served(managed: ManagedRollout) -> tuple[object, ...]:
    """Return what is announced again as soon as it changes."""
    return managed.state.epoch, managed.state.revision, managed.local_state.held_by
