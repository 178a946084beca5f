"""What a process leaves in the store for those who do not serve a rollout: that it serves it, the plan, and the roles."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from json import dumps

from attrs import asdict

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.control.allowing import ALLOW, Allowed, as_note
from rollout_sdk.control.managed import ManagedRollout
from rollout_sdk.control.presence import PRESENCE, Process
from rollout_sdk.control.stored_status import PLAN
from rollout_sdk.control.stores import StateStore
from rollout_sdk.plan import written

__all__ = ["PresenceAnnouncer"]

_EVERY_S = 10.0
_LONGEST_NAME = 200


class PresenceAnnouncer:
    """Says in the name of one process what it serves."""

    def __init__(self, store: StateStore, writer: str, allowed: Allowed) -> None:
        """Say nothing yet.

        Args:
            store: The shared state.
            writer: The name of this process in it.
            allowed: The actions of the actors that may not do everything.
        """
        self._store = store
        self._writer = writer
        self._allowed = allowed
        self._said: dict[str, tuple[object, float]] = {}
        self._noted: dict[tuple[str, str], str] = {}

    def due(self, rollouts: Iterable[ManagedRollout]) -> list[ManagedRollout]:
        """The rollouts of which it is to be said that they are served here: those that have changed since, and then those of
        which that was said ten seconds ago, the first ones first.
        """
        now_s, due = monotonic(), []
        for managed in rollouts:
            said, until_s = self._said.get(managed.key, (None, 0.0))
            # In a process of another version, it is another rollout's.
            if not managed.local_state.lost and (said != _here(managed) or now_s >= until_s):
                due.append((said == _here(managed), until_s, managed))
        return [managed for *_, managed in sorted(due, key=lambda each: each[:2])]

    def announce(self, managed: ManagedRollout, now_s: float) -> None:
        """Say that a rollout is served here; and how, when that is new.

        Raises:
            StoreError: The store did not answer.
        """
        local_state, state, here = managed.local_state, managed.state, _here(managed)
        host = socket.gethostname()[:_LONGEST_NAME]
        process = Process(host, os.getpid(), now_s, state.revision, tuple(sorted(local_state.held_by)))
        if self._store.publish(managed.key, state.epoch, self._writer, {PRESENCE: dumps(asdict(process))}):
            self._said[managed.key] = (here, monotonic() + _EVERY_S)
        self._note(managed.key, PLAN, "{}" if managed.criteria is None else dumps(written(managed.criteria)))
        self._note(managed.key, ALLOW, as_note(self._allowed))

    def _note(self, key: str, name: str, text: str) -> None:
        """Leave a note where there is another; of two processes that disagree, the one that started last is right."""
        if self._noted.get((key, name)) != text:
            if self._store.noted(key, name) not in ((None, text) if text == "{}" else (text,)):
                self._store.note(key, name, text)
            self._noted[key, name] = text

    def leave(self, managed: ManagedRollout, store: StateStore) -> None:
        """Say that the process ends; `store` is the same for those in a hurry.

        Raises:
            StoreError: The store did not answer.
        """
        if self._said.pop(managed.key, None) is not None:
            store.publish(managed.key, managed.state.epoch, self._writer, {PRESENCE: "null"})


def _here(managed: ManagedRollout) -> tuple[object, ...]:
    """What is said anew as soon as it changes."""
    return managed.state.epoch, managed.state.revision, managed.local_state.held_by
