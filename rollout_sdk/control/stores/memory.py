"""A store in the memory of one process: for tests, and for a rollout that one process serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import Factory, define

from rollout_sdk.control.stores.turns import Turns
from rollout_sdk.control.stores.validation import checked_document, checked_name, checked_number, checked_text, parsed, plain
from rollout_sdk.exceptions import StoreError
from rollout_sdk.plugins.store_protocol import Gathered, Stored

__all__ = ["MemoryStore"]

_LONGEST_TURN_S = 1.0


@define
class _Kept:
    """What is kept of one key; values are texts, so that nobody can change them from outside."""

    revision: int | None = None
    epoch: int = 0
    document: str = ""
    history: list[str] = Factory(list)
    parts: dict[tuple[str, str], tuple[int, str]] = Factory(dict)
    notes: dict[str, str] = Factory(dict)


class MemoryStore:
    """Keeps everything in this process, and forgets it with the process. See `StateStore` for what the methods promise.

    A forked child has a copy of its own from then on; a pickled store is a new and empty one where it is unpickled.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._turns = Turns(_LONGEST_TURN_S, self._renew)
        self._kept: dict[str, _Kept] = {}
        self._cursor = 0
        self._closed = False

    def __repr__(self) -> str:
        """What it is."""
        return "MemoryStore()"

    def __reduce__(self) -> tuple[Any, ...]:
        """Memory stays where it is."""
        return (type(self), ())

    def load(self, key: str) -> Stored | None:
        """The document of this key."""
        with self._turn(key) as kept:
            return None if kept.revision is None else Stored(kept.revision, parsed(kept.document))

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document if it is the expected one, and note why."""
        revision, epoch, text = checked_document(expected, document)
        told = plain("record", record)
        with self._turn(key) as kept:
            if kept.revision != expected:
                return False
            checked_number("epoch", epoch, above=kept.epoch - 1)
            if kept.epoch != epoch:
                kept.parts.clear()
            kept.revision, kept.epoch, kept.document = revision, epoch, text
            kept.history.append(told)
            return True

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer, if the document is of this epoch."""
        checked_number("epoch", epoch)
        checked_name("writer", writer)
        texts = {(writer, checked_name("part", part)): checked_text("part", text) for part, text in parts.items()}
        with self._turn(key) as kept:
            if kept.revision is None or kept.epoch != epoch:
                return False
            changed = {name: text for name, text in texts.items() if kept.parts.get(name, (0, None))[1] != text}
            self._cursor += 1
            kept.parts.update({name: (self._cursor, text) for name, text in changed.items()})
            return True

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """The parts of all writers in this epoch that have changed after this cursor."""
        checked_number("epoch", epoch)
        checked_number("cursor", after)
        with self._turn(key) as kept:
            # A cursor from the future is another store's: it is better to hear something twice than never.
            after = after if after <= self._cursor else 0
            found = kept.parts if kept.epoch == epoch else {}
            return Gathered(self._cursor, {name: text for name, (cursor, text) in found.items() if cursor > after})

    def note(self, key: str, name: str, text: str) -> None:
        """Leave the last word on something."""
        checked_name("note", name)
        checked_text("note", text)
        with self._turn(key) as kept:
            kept.notes[name] = text

    def noted(self, key: str, name: str) -> str | None:
        """The last word on something."""
        checked_name("note", name)
        with self._turn(key) as kept:
            return kept.notes.get(name)

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """The records of all swaps that were done, oldest first."""
        with self._turn(key) as kept:
            return [parsed(text) for text in kept.history]

    def keys(self) -> list[str]:
        """The keys that have a document, sorted."""
        with self._all() as everything:
            return sorted(key for key, kept in everything.items() if kept.revision is not None)

    def close(self) -> None:
        """Forget everything."""
        with self._turns.taken(_LONGEST_TURN_S):
            self._closed = True
            self._kept = {}

    @contextmanager
    def _turn(self, key: str) -> Iterator[_Kept]:
        checked_name("key", key)
        with self._all() as everything:
            kept = everything.get(key) or _Kept()
            yield kept
            # What is only asked for is not kept: anybody may ask for any key.
            if kept.revision is not None or kept.notes:
                everything[key] = kept

    @contextmanager
    def _all(self) -> Iterator[dict[str, _Kept]]:
        with self._turns.taken(_LONGEST_TURN_S) as is_ours:
            if self._closed:
                raise StoreError("The store in memory was used after it was closed. A closed store is empty. Open another.")
            if not is_ours:
                raise StoreError(
                    f"The store in memory was busy for {_LONGEST_TURN_S} s. One thread at a time has its turn. Try again."
                )
            yield self._kept

    def _renew(self) -> None:
        """Nothing here belongs to a process."""
