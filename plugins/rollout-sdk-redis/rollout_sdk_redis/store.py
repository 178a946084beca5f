"""A store in Redis, for processes on many machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from json import dumps, loads
from time import monotonic, monotonic_ns
from typing import Any

from redis.exceptions import RedisError, ResponseError

from rollout_sdk import StoreError
from rollout_sdk.control.stores import (
    Gathered,
    Stored,
    checked_document,
    checked_name,
    checked_number,
    checked_text,
    parsed,
    plain,
)
from rollout_sdk.extending import renew_after_fork
from rollout_sdk_redis.addresses import Address
from rollout_sdk_redis.failures import cure_of
from rollout_sdk_redis.scripts import (
    CHECK,
    CLAIM,
    GATHER,
    HISTORY,
    KEYS,
    LAYOUT,
    LOAD,
    NOTE,
    NOTED,
    PUBLISH,
    SWAP,
    TOO_NEW,
)

__all__ = ["RedisStore"]

_MOST_CLAIMS = 100_000
_LONGEST_CAUSE = 200


class RedisStore:
    """Keeps everything in Redis. See `rollout_sdk.control.stores.StateStore` for what the methods promise.

    A method that cannot reach the server fails within its time-out, without retries. A forked child opens its own connections;
    a store is pickled as its settings. Whether data survive a restart depends on the settings of Redis: see the README.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0, namespace: str = "rollout") -> None:
        """Create a store; it connects at its first use.

        Args:
            url: `redis://[user:password@]host[:6379][/database]`; `rediss://` for TLS; `redis+sentinel://host,host/master`;
                `redis+cluster://host,host`. Options behind a question mark: `timeout_s`, `namespace`, those of redis-py
                (`ssl_ca_certs`, ...), and for Sentinels `sentinel_username` and `sentinel_password`.
            timeout_s: Seconds that a method may wait for one server.
            namespace: Prefix of all keys, in braces.

        Raises:
            ConfigurationError: `url` is not an address of Redis.
        """
        self._url = url
        self._address = Address.parse(url, timeout_s=timeout_s, namespace=namespace)
        self._closed = False
        self._inherited: list[Any] = []
        self._client: Any = None
        self._listening: Any = None
        self._channel = self._name("changes")
        renew_after_fork(self)

    @property
    def timeout_s(self) -> float:
        """Seconds that a method may wait for one server."""
        return self._address.timeout_s

    def __repr__(self) -> str:
        """Show the address without login and options."""
        return f"RedisStore({self._address.shown!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings."""
        address = self._address
        return (partial(RedisStore, timeout_s=address.timeout_s, namespace=address.namespace), (self._url,))

    def renew(self) -> None:
        """Start without connections in a forked child. The parent's are kept: closing them here would close them there."""
        self._inherited += [self._client, self._listening]
        self._client = self._listening = None

    def load(self, key: str) -> Stored | None:
        """Return the document of this key."""
        revision, text = self._run(LOAD, self._names(key, "state"))
        with self._reading():
            return None if revision is None else Stored(int(revision), parsed(text.decode()))

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document if it has the expected revision, and add the record to the history."""
        revision, epoch, text = checked_document(expected, document)
        line = plain("record", record)
        names = self._names(key, "state", "history", "parts", "cursors", "claims", "claimed")
        values = ["" if expected is None else expected, revision, epoch, text, line, key, self._channel]
        done = self._run(SWAP, [self._name("keys"), *names], values)
        if isinstance(done, bytes):
            checked_number("epoch", epoch, above=int(done) - 1)
        return bool(done == 1)

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer, if the document has this epoch."""
        checked_number("epoch", epoch)
        checked_name("writer", writer)
        # A writer belongs to one process, whose clock orders what it sends; in microseconds, Lua's numbers are exact.
        values: list[str | int] = [epoch, monotonic_ns() // 1000]
        for part, text in parts.items():
            values += [dumps([writer, checked_name("part", part)]), checked_text("part", text)]
        return bool(self._run(PUBLISH, self._names(key, "state", "parts", "cursors"), values))

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """Return the parts of all writers in this epoch that have changed after this cursor."""
        values = [checked_number("epoch", epoch), checked_number("cursor", after)]
        cursor, *found = self._run(GATHER, self._names(key, "state", "parts", "cursors"), values)
        with self._reading():
            pairs = zip(found[::2], found[1::2], strict=True)
            parts = {tuple(loads(name)): text.partition(b" ")[2].decode() for name, text in pairs}
            return Gathered(int(cursor), {(writer, part): text for (writer, part), text in parts.items()})

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names, if the document has this epoch. The last 100,000 of each key are remembered."""
        values = [checked_number("epoch", epoch), checked_name("claimant", claimant), _MOST_CLAIMS]
        values += [checked_name("claim", name) for name in names]
        own = self._run(CLAIM, self._names(key, "state", "claims", "claimed"), values)
        return frozenset(name.decode() for name in own)

    def note(self, key: str, name: str, text: str) -> None:
        """Set a note."""
        checked_name("note", name)
        checked_text("note", text)
        self._run(NOTE, self._names(key, "notes"), [name, text])

    def noted(self, key: str, name: str) -> str | None:
        """Return a note."""
        checked_name("note", name)
        text = self._run(NOTED, self._names(key, "notes"), [name])
        with self._reading():
            return None if text is None else str(text.decode())

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """Return the records of all successful swaps, oldest first."""
        lines = self._run(HISTORY, self._names(key, "history"))
        with self._reading():
            return [parsed(line.decode()) for line in lines]

    def keys(self) -> list[str]:
        """Return the keys that have a document, sorted."""
        keys = self._run(KEYS, [self._name("keys")])
        with self._reading():
            return sorted(key.decode() for key in keys)

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until the server reports a changed document, for at most `timeout_s`."""
        deadline, has_changed = monotonic() + timeout_s, False
        try:
            with self._asking() as client:
                if self._listening is None:
                    self._listening = self._listener(client)
                while True:
                    left_s = 0.0 if has_changed else max(0.0, deadline - monotonic())
                    message = self._listening.get_message(ignore_subscribe_messages=True, timeout=left_s)
                    has_changed = has_changed or message is not None
                    if message is None and (has_changed or monotonic() >= deadline):
                        return has_changed
        except StoreError:
            listening, self._listening = self._listening, None
            if listening is not None:
                with suppress(Exception):
                    listening.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        client, listening = self._client, self._listening
        self._client = self._listening = None
        with suppress(Exception):
            if listening is not None:
                listening.close()
        with suppress(Exception):
            if client is not None:
                client.close()
                # A client does not close its pool, which other clients may share.
                getattr(client, "connection_pool", client).disconnect()

    def _name(self, kind: str) -> str:
        return f"{{{self._address.namespace}}}:{kind}"

    def _names(self, key: str, *kinds: str) -> list[str]:
        """Return the names of a rollout's keys in Redis."""
        return [f"{self._name(kind)}:{checked_name('key', key)}" for kind in kinds]

    def _listener(self, client: Any) -> Any:
        """Subscribe to changes, and wait until the server has confirmed it: from then on, no change is missed."""
        listening = client.pubsub()
        listening.subscribe(self._channel)
        if listening.get_message(timeout=self._address.timeout_s) is None:
            raise TimeoutError("the server has not confirmed the subscription")
        return listening

    def _run(self, script: str, names: Sequence[str], values: Sequence[object] = ()) -> Any:
        """Run a script. Its text is sent each time, because a restarted server has forgotten it."""
        with self._asking() as client:
            try:
                return client.eval(CHECK + script, 1 + len(names), self._name("layout"), *names, *values)
            except ResponseError as error:
                if not str(error).startswith(TOO_NEW):
                    raise
                raise StoreError(
                    f"The keys of the namespace {self._address.namespace!r} in the store {self._address.shown!r} have the "
                    f"layout {str(error).removeprefix(TOO_NEW)!r:.20}, and this process knows {LAYOUT}. A later "
                    "rollout-sdk-redis has written them. Install that version here, too."
                ) from error

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """Provide the client of this process; its errors become `StoreError`."""
        if self._closed:
            raise StoreError(f"The store {self._address.shown!r} was used after it was closed. Open another.")
        with self._reading():
            try:
                if self._client is None:
                    self._client = self._address.connect()
                yield self._client
            except (RedisError, OSError):
                # The next use connects again: another server may have the address now, or be the master. Other threads may
                # be using this client; its connections are closed when they have finished.
                self._client = None
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        # Any exception: the answer may come from another kind of server, or from a damaged store.
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"[:_LONGEST_CAUSE].rstrip(".")
            raise StoreError(f"The store {self._address.shown!r} failed: {cause}. {cure_of(error)}") from error
