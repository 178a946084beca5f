"""A store on a Ray cluster: a named, detached actor, for all processes that are connected to the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from time import sleep
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError

from rollout_sdk import ConfigurationError, StoreError
from rollout_sdk.control.stores import Gathered, Stored, checked_timeout
from rollout_sdk.extending import renew_after_fork
from rollout_sdk_ray.actor import EMPTY, StoreActor, Version

__all__ = ["RayStore"]

_NAMESPACE = "rollout_sdk"
# Joining a cluster and starting an actor take seconds, and an operator's command waits for it.
_START_S = 20.0

_MOST_WAITING = 10_000
_LONGEST_CAUSE = 200
_WRITES = frozenset({"swap", "note"})


class RayStore:
    """Keeps everything in one actor of the cluster. See `rollout_sdk.control.stores.StateStore` for what the methods promise.

    The first write starts the actor; it lives until the cluster ends, and Ray restarts it if its node is lost. A store is
    pickled as its settings.
    """

    def __init__(self, name: str = "rollouts", *, cluster: str | None = None, keep: str = "", timeout_s: float = 1.0) -> None:
        """Create a store; the actor is looked up at the first use.

        Args:
            name: Name of the actor. Use one for each group of services that must not see each other's rollouts.
            cluster: Address of the cluster that a process joins, if it has not joined one: "auto" (`RAY_ADDRESS`, or the one on
                this machine) or "host:6379". None: the process calls `ray.init` itself, as every replica does.
            keep: Address of the store in which the actor keeps everything ("redis://..."), so that it outlives the cluster. By
                default, it keeps everything in memory.
            timeout_s: Seconds that a method may wait for the actor.

        Raises:
            ConfigurationError: `timeout_s` is not above 0 and at most 10.
        """
        self._name, self._cluster, self._keep = name, cluster, keep
        self._patience_s = checked_timeout(f"ray://{cluster or ''}/{name}", timeout_s)
        self._closed = self._orphaned = False
        self._actor: Any = None
        self._seen: Version | None = None
        renew_after_fork(self)

    @classmethod
    def at(cls, url: str) -> RayStore:
        """Return the store at `ray:///NAME`, `ray://auto/NAME` or `ray://host:6379/NAME`, with `?keep=` and `?timeout_s=`.

        Raises:
            ConfigurationError: The address is not valid. The message does not show options.
        """
        parts = urlsplit(url)
        shown, name, options = (
            f"{parts.scheme}://{parts.netloc}{parts.path}",
            parts.path.strip("/"),
            dict(parse_qsl(parts.query)),
        )
        if parts.scheme != "ray" or not name or "/" in name or set(options) - {"keep", "timeout_s"}:
            raise ConfigurationError(
                f"The address {shown!r:.80} is not that of a store on Ray. It must have the name of an actor, and no options "
                "but keep and timeout_s. Write ray:///rollouts, or ray://auto/rollouts for processes that do not call ray.init."
            )
        timeout_s = checked_timeout(shown, options.get("timeout_s", 1.0))
        return cls(name, cluster=parts.netloc or None, keep=options.get("keep", ""), timeout_s=timeout_s)

    @property
    def timeout_s(self) -> float:
        """Seconds that a method may take if it first has to join the cluster and start the actor."""
        return self._patience_s + _START_S

    def __repr__(self) -> str:
        """Show the address without options."""
        return f"RayStore('ray://{self._cluster or ''}/{self._name}')"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings."""
        return (partial(RayStore, cluster=self._cluster, keep=self._keep, timeout_s=self._patience_s), (self._name,))

    def renew(self) -> None:
        """Stop working in a forked child, which does not have the threads of Ray."""
        self._orphaned = self._orphaned or ray.is_initialized()
        self._actor = self._seen = None

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the actor now, unless it runs; otherwise the first write does. For a driver, before its deployments need it.

        Args:
            timeout_s: Seconds to wait for it; a busy cluster may need many.

        Raises:
            StoreError: It has not started by then.
        """
        with self._reading():
            self._found(start_s=timeout_s)

    def load(self, key: str) -> Stored | None:
        """Return the document of this key."""
        found: Stored | None = self._ask("load", key)
        return found

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document if it has the expected revision, and add the record to the history."""
        done: bool = self._ask("swap", key, expected, document, record)
        return done

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer, if the document has this epoch."""
        done: bool = self._ask("publish", key, epoch, writer, dict(parts))
        return done

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """Return the parts of all writers in this epoch that have changed after this cursor."""
        found: Gathered = self._ask("gather", key, epoch, after)
        return found

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names, if the document has this epoch. The last 100,000 of each key are remembered."""
        own: frozenset[str] = self._ask("claim", key, epoch, claimant, list(names))
        return own

    def note(self, key: str, name: str, text: str) -> None:
        """Set a note."""
        self._ask("note", key, name, text)

    def noted(self, key: str, name: str) -> str | None:
        """Return a note."""
        text: str | None = self._ask("noted", key, name)
        return text

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """Return the records of all successful swaps, oldest first."""
        records: list[Mapping[str, Any]] = self._ask("history", key)
        return records

    def keys(self) -> list[str]:
        """Return the keys that have a document, sorted."""
        keys: list[str] = self._ask("keys")
        return keys

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until the actor reports a changed document, for at most `timeout_s`."""
        with self._reading():
            actor = self._found()
            if actor is None:
                # The first write starts it, and the next call finds it.
                sleep(timeout_s)
                return False
            before = self._seen
            self._seen = self._get(actor.wait.remote(before, timeout_s), timeout_s + self._patience_s)
            return before is not None and before != self._seen

    def close(self) -> None:
        """Stop using the actor, which keeps running."""
        self._closed, self._actor = True, None

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._reading():
            actor = self._found(start_s=_START_S if method in _WRITES else None)
            if actor is None:
                answer = Gathered(0, {}) if method == "gather" else EMPTY[method]
            else:
                answer = self._get(actor.ask.remote(method, *arguments), self._patience_s)
        if isinstance(answer, StoreError):
            raise answer
        return answer

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
        if self._closed:
            raise StoreError(f"{self!r} was used after it was closed. Open another.")
        if self._orphaned:
            raise StoreError(
                f"{self!r} is used in a forked child of a process that had joined a cluster. Ray does not work there. "
                "Start processes by spawn, or fork before ray.init."
            )
        if not ray.is_initialized():
            self._join()
        if self._actor is None:
            with suppress(ValueError):
                self._actor = ray.get_actor(self._name, namespace=_NAMESPACE)
            if self._actor is None and start_s is not None:
                self._actor = self._started(start_s)
        return self._actor

    def _join(self) -> None:
        if self._cluster is None:
            raise StoreError(
                f"{self!r} is on a Ray cluster, and this process has joined none. Call ray.init first, or name the cluster: "
                f"ray://auto/{self._name}."
            )
        ray.init(self._cluster, namespace=_NAMESPACE, log_to_driver=False, configure_logging=False, ignore_reinit_error=True)

    def _started(self, patience_s: float) -> Any:
        """Return the actor, started by this process or by another at the same time."""
        options = {
            "name": self._name,
            "namespace": _NAMESPACE,
            "get_if_exists": True,
            "lifetime": "detached",
            "num_cpus": 0,
            "max_restarts": -1,
            "max_concurrency": _MOST_WAITING,
        }
        actor = ray.remote(StoreActor).options(**options).remote(self._keep)
        self._get(actor.wait.remote(None, 0.0), patience_s)
        return actor

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        # Any exception: Ray raises its own, Python's if it cannot reach something, and the actor's.
        except Exception as error:
            if isinstance(error, ActorDiedError):
                # A dead actor does not return; the next write starts another.
                self._actor = None
            cause = f"{type(error).__name__}: {error}"[:_LONGEST_CAUSE].rstrip(".")
            raise StoreError(f"{self!r} failed: {cause}. {_cure_of(error)}") from error


def _cure_of(error: Exception) -> str:
    if isinstance(error, GetTimeoutError):
        return "Check the cluster: the actor's node is busy or unreachable; the store is tried again."
    if isinstance(error, ActorDiedError):
        return "The actor has ended; the next write starts another, and processes write back what they know."
    if isinstance(error, RayError | OSError):
        return "Check the cluster and its head; the store is tried again."
    return "Pass the arguments that StateStore names, and check the address of the cluster."
