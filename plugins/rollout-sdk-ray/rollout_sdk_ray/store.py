"""A store on a Ray cluster: a named, detached actor, for all processes that are connected to the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import ray

from rollout_sdk import ConfigurationError, StoreError
from rollout_sdk.control.stores import Gathered, Stored, checked_timeout
from rollout_sdk.extending import renew_after_fork
from rollout_sdk_ray.actor import Version
from rollout_sdk_ray.helper import Elsewhere, ElsewhereError
from rollout_sdk_ray.joined import START_S, Joined, cause_of, cure_of

__all__ = ["RayStore"]

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
            cluster: Address of the cluster that is joined if this process has not joined one: "auto" (`RAY_ADDRESS`, or the one
                on this machine) or "host:6379". Another process joins it, because Ray ends those that lose the cluster's head.
                None: the process calls `ray.init` itself, as every replica does.
            keep: Address of the store in which the actor keeps everything ("redis://..."), so that it outlives the cluster. By
                default, it keeps everything in memory.
            timeout_s: Seconds that a method may wait for the actor.

        Raises:
            ConfigurationError: `timeout_s` is not above 0 and at most 10.
        """
        self._name, self._cluster, self._keep = name, cluster, keep
        self._patience_s = checked_timeout(f"ray://{cluster or ''}/{name}", timeout_s)
        self._closed = self._orphaned = False
        self._joined = Joined(name, keep, self._patience_s)
        self._elsewhere = Elsewhere(cluster, name, keep, self._patience_s, START_S) if cluster else None
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
        return self._patience_s + START_S

    def __repr__(self) -> str:
        """Show the address without options."""
        return f"RayStore('ray://{self._cluster or ''}/{self._name}')"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings."""
        return (partial(RayStore, cluster=self._cluster, keep=self._keep, timeout_s=self._patience_s), (self._name,))

    def renew(self) -> None:
        """Stop working in a forked child, which does not have the threads of Ray."""
        self._orphaned = self._orphaned or ray.is_initialized()
        self._seen = None

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the actor now, unless it runs; otherwise the first write does. For a driver, before its deployments need it.

        Args:
            timeout_s: Seconds to wait for it; a busy cluster may need many.

        Raises:
            StoreError: It has not started by then.
        """
        with self._reading() as actor:
            actor.start(timeout_s)

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
        with self._reading() as actor:
            before, after = self._seen, actor.wait(self._seen, timeout_s)
            self._seen = after or before
            return None not in (before, after) and before != after

    def close(self) -> None:
        """Stop using the actor, which keeps running."""
        self._closed = True
        if self._elsewhere is not None:
            self._elsewhere.close()

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._reading() as actor:
            answer = actor.ask(method, arguments, START_S if method in _WRITES else None)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def _asked(self) -> Joined | Elsewhere:
        """Return what asks the actor: this process if it has joined a cluster, otherwise another that joins it."""
        if self._closed:
            raise StoreError(f"{self!r} was used after it was closed. Open another.")
        if ray.is_initialized() and not self._orphaned:
            return self._joined
        if self._elsewhere is not None:
            return self._elsewhere
        if self._orphaned:
            raise StoreError(
                f"{self!r} is used in a forked child of a process that had joined a cluster. Ray does not work there. "
                f"Start processes by spawn, fork before ray.init, or name the cluster: ray://auto/{self._name}."
            )
        raise StoreError(
            f"{self!r} is on a Ray cluster, and this process has joined none. Call ray.init first, or name the cluster: "
            f"ray://auto/{self._name}."
        )

    @contextmanager
    def _reading(self) -> Iterator[Joined | Elsewhere]:
        try:
            yield self._asked()
        except StoreError:
            raise
        except ElsewhereError as error:
            raise StoreError(f"{self!r} failed: {error}. {error.cure}") from error
        # Any exception: Ray raises its own, Python's if it cannot reach something, and the actor's.
        except Exception as error:
            raise StoreError(f"{self!r} failed: {cause_of(error)}. {cure_of(error)}") from error
