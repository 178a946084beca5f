"""A store in the memory of one process, for tests and for rollouts that a single process serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import Factory, define

from rollout_sdk.control.stores.transaction_lock import TransactionLock
from rollout_sdk.control.stores.validation import checked_document, checked_name, checked_number, checked_text, parsed, plain
from rollout_sdk.exceptions import StoreError
from rollout_sdk.plugins.store_protocol import Gathered, Stored

__all__ = ["MemoryStore"]

_TIMEOUT_S = 1.0
_MOST_CLAIMS = 100_000


@define
class _Kept:
    """The content of one key; values are strings, so that callers cannot mutate them."""

    revision: int | None = None
    epoch: int = 0
    document: str = ""
    history: list[str] = Factory(list)
    parts: dict[tuple[str, str], tuple[int, str]] = Factory(dict)
    notes: dict[str, str] = Factory(dict)
    claims: dict[str, str] = Factory(dict)


class MemoryStore:
    """Keeps everything in the memory of this process. See `StateStore` for the contract of the methods.

    A forked child has its own copy from then on; a pickled store is empty when it is unpickled.
    """

    def __init__(self) -> None:
        """Create the store, empty."""
        self._lock = TransactionLock(_TIMEOUT_S, self._renew)
        self._kept: dict[str, _Kept] = {}
        self._cursor = 0
        self._closed = False

    def __repr__(self) -> str:
        """Show the class."""
        return "MemoryStore()"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle no content."""
        return (type(self), ())

    def load(self, key: str) -> Stored | None:
        """Return the document of this key."""
        with self._locked(key) as kept:
            return None if kept.revision is None else Stored(kept.revision, parsed(kept.document))

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document if it has the expected revision, and add the record to the history."""
        revision, epoch, text = checked_document(expected, document)
        line = plain("record", record)
        with self._locked(key) as kept:
            if kept.revision != expected:
                return False
            checked_number("epoch", epoch, above=kept.epoch - 1)
            if kept.epoch != epoch:
                kept.parts.clear()
                kept.claims.clear()
            kept.revision, kept.epoch, kept.document = revision, epoch, text
            kept.history.append(line)
            return True

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer, if the document has this epoch."""
        checked_number("epoch", epoch)
        checked_name("writer", writer)
        texts = {(writer, checked_name("part", part)): checked_text("part", text) for part, text in parts.items()}
        with self._locked(key) as kept:
            if kept.revision is None or kept.epoch != epoch:
                return False
            changed = {name: text for name, text in texts.items() if kept.parts.get(name, (0, None))[1] != text}
            self._cursor += 1
            kept.parts.update({name: (self._cursor, text) for name, text in changed.items()})
            return True

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """Return the parts of all writers in this epoch that have changed after this cursor."""
        checked_number("epoch", epoch)
        checked_number("cursor", after)
        with self._locked(key) as kept:
            # A cursor from the future belongs to another store: parts may be returned twice, but must not be missed.
            after = after if after <= self._cursor else 0
            found = kept.parts if kept.epoch == epoch else {}
            return Gathered(self._cursor, {name: text for name, (cursor, text) in found.items() if cursor > after})

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names, if the document has this epoch; return those that belong to this claimant."""
        checked_number("epoch", epoch)
        checked_name("claimant", claimant)
        wanted = [checked_name("claim", name) for name in names]
        with self._locked(key) as kept:
            if kept.revision is None or kept.epoch != epoch:
                return frozenset()
            own = frozenset(name for name in wanted if kept.claims.setdefault(name, claimant) == claimant)
            for name in list(kept.claims)[: max(0, len(kept.claims) - _MOST_CLAIMS)]:
                del kept.claims[name]
            return own

    def note(self, key: str, name: str, text: str) -> None:
        """Set a note."""
        checked_name("note", name)
        checked_text("note", text)
        with self._locked(key) as kept:
            kept.notes[name] = text

    def noted(self, key: str, name: str) -> str | None:
        """Return a note."""
        checked_name("note", name)
        with self._locked(key) as kept:
            return kept.notes.get(name)

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """Return the records of all swaps, oldest first."""
        with self._locked(key) as kept:
            return [parsed(text) for text in kept.history]

    def keys(self) -> list[str]:
        """Return the keys that have a document, sorted."""
        with self._locked_all() as everything:
            return sorted(key for key, kept in everything.items() if kept.revision is not None)

    def close(self) -> None:
        """Close the store and drop its content."""
        with self._lock.acquired(_TIMEOUT_S):
            self._closed = True
            self._kept = {}

    @contextmanager
    def _locked(self, key: str) -> Iterator[_Kept]:
        checked_name("key", key)
        with self._locked_all() as everything:
            kept = everything.get(key) or _Kept()
            yield kept
            # Reading adds no key: any key may be asked for.
            if kept.revision is not None or kept.notes:
                everything[key] = kept

    @contextmanager
    def _locked_all(self) -> Iterator[dict[str, _Kept]]:
        with self._lock.acquired(_TIMEOUT_S) as is_ours:
            if self._closed:
                raise StoreError("The store in memory was used after it was closed. A closed store is empty. Open another.")
            if not is_ours:
                raise StoreError(
                    f"The store in memory was busy for {_TIMEOUT_S} s. One thread at a time can use it. Try again."
                )
            yield self._kept

    def _renew(self) -> None:
        """Do nothing: nothing here belongs to one process."""
