"""The store's actor, as a process of the cluster sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import sleep
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError

from rollout_sdk.control.stores import Gathered
from rollout_sdk_ray.actor import EMPTY, StoreActor, Version

__all__ = ["START_S", "Joined", "cause_of", "cure_of", "join"]

NAMESPACE = "rollout_sdk"
# Joining a cluster and starting an actor take seconds, and an operator's command waits for it.
START_S = 20.0

_MOST_WAITING = 10_000
_LONGEST_CAUSE = 200


def join(cluster: str) -> None:
    """Join a cluster.

    Raises:
        Exception: It cannot be reached: Ray's exceptions and Python's.
    """
    ray.init(cluster, namespace=NAMESPACE, log_to_driver=False, configure_logging=False, ignore_reinit_error=True)


class Joined:
    """Asks the actor, in a process that has joined the cluster. Methods raise Ray's exceptions, Python's, and the actor's."""

    def __init__(self, name: str, keep: str, patience_s: float) -> None:
        """Create it; the actor is looked up at the first use.

        Args:
            name: Name of the actor.
            keep: Address of the store in which the actor keeps everything; "" is its memory.
            patience_s: Seconds that a request may take.
        """
        self._name, self._keep, self._patience_s = name, keep, patience_s
        self._actor: Any = None

    def start(self, timeout_s: float) -> None:
        """Start the actor, unless it runs."""
        with self._noticing_death():
            self._found(start_s=timeout_s)

    def ask(self, method: str, arguments: tuple[Any, ...], start_s: float | None = None) -> Any:
        """Return the store's answer, or its `StoreError`; without an actor and `start_s`, that of an empty store."""
        with self._noticing_death():
            actor = self._found(start_s=start_s)
            if actor is None:
                return Gathered(0, {}) if method == "gather" else EMPTY[method]
            return self._get(actor.ask.remote(method, *arguments), self._patience_s)

    def wait(self, seen: Version | None, timeout_s: float) -> Version | None:
        """Return the actor's version as soon as it differs from `seen`, or after the time-out; None if there is no actor."""
        with self._noticing_death():
            actor = self._found()
            if actor is None:
                # The first write starts it, and the next call finds it.
                sleep(timeout_s)
                return None
            version: Version = self._get(actor.wait.remote(seen, timeout_s), timeout_s + self._patience_s)
            return version

    @contextmanager
    def _noticing_death(self) -> Iterator[None]:
        """Forget an actor that has died: it does not return, and the next write starts another."""
        try:
            yield
        except ActorDiedError:
            self._actor = None
            raise

    def _get(self, answer: Any, patience_s: float) -> Any:
        try:
            return ray.get(answer, timeout=patience_s)
        except GetTimeoutError:
            # A call that has not begun must not run long after it has failed.
            with suppress(Exception):
                ray.cancel(answer)
            raise

    def _found(self, *, start_s: float | None = None) -> Any:
        """Return the actor, started within `start_s` if it does not exist; None if it does not exist and `start_s` is None."""
        if self._actor is None:
            with suppress(ValueError):
                self._actor = ray.get_actor(self._name, namespace=NAMESPACE)
            if self._actor is None and start_s is not None:
                self._actor = self._started(start_s)
        return self._actor

    def _started(self, patience_s: float) -> Any:
        """Return the actor, started by this process or by another at the same time."""
        options = {
            "name": self._name,
            "namespace": NAMESPACE,
            "get_if_exists": True,
            "lifetime": "detached",
            "num_cpus": 0,
            "max_restarts": -1,
            "max_concurrency": _MOST_WAITING,
        }
        actor = ray.remote(StoreActor).options(**options).remote(self._keep)
        self._get(actor.wait.remote(None, 0.0), patience_s)
        return actor


def cause_of(error: Exception) -> str:
    """Return what has failed, in the words of the exception."""
    return f"{type(error).__name__}: {error}"[:_LONGEST_CAUSE].rstrip(".")


def cure_of(error: Exception) -> str:
    """Return what happens next, and what to do."""
    if isinstance(error, GetTimeoutError):
        return "Check the cluster: its head or the actor's node is busy or unreachable; the store is tried again."
    if isinstance(error, ActorDiedError):
        return "The actor has ended; the next write starts another, and processes write back what they know."
    if isinstance(error, RayError | OSError):
        return "Check the cluster and its head; the store is tried again."
    return "Pass the arguments that StateStore names, and check the address of the cluster."
