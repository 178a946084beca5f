"""The contract of a store of shared state: a document per rollout, changed by compare-and-set, and sums from all writers.

A rollout's *document* (phase, status, shares) changes by compare-and-set on its revision: if several processes try, one
succeeds. Its *parts* are running sums: each writer publishes its own absolute sums, so that a repeated write, after one whose
result is unknown, counts once. An *epoch* fences them: once the document has a new epoch, the old parts are deleted, and late
sums for them are refused.

What several processes may receive, but must count once (an outcome that is sent again), is *claimed*: each name has exactly one
claimant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

__all__ = ["Gathered", "NotifyingStore", "StateStore", "Stored"]


@frozen
class Stored:
    """A stored document.

    Attributes:
        revision: Its revision, which the next swap expects.
        document: The document: plain JSON, the caller's own copy.
    """

    revision: int
    document: Mapping[str, Any]


@frozen
class Gathered:
    """The parts of all writers.

    Attributes:
        cursor: For the next `gather`, which then returns only later changes; valid in all epochs.
        parts: Text by (writer, part): the absolute sums of that writer.
    """

    cursor: int
    parts: Mapping[tuple[str, str], str]


class StateStore(Protocol):
    """Shared state of rollouts. Every method is thread-safe and atomic.

    Keys, writers, claimants, and the names of parts, claims and notes are texts of 1 to 200 characters. Documents and records
    are plain JSON: they come back equal, as independent copies. Revisions and epochs are whole numbers from 0 to 2**53 - 1. A
    text, a document or a record has at most 4 MiB.

    Every method raises `StoreError` if the store fails, within its own bounded time, and if an argument is not of this form.
    After a failure, a write may or may not have happened: publishing again is harmless, and after a swap, `load` shows the
    result.

    A store can have one more method, `wait_for_change(timeout_s: float) -> bool`: see `NotifyingStore`.
    """

    def load(self, key: str) -> Stored | None:
        """Return the document of this key; None if there is none."""
        ...

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document, if its revision is still the expected one (None: if there is no document yet).

        In the same step, `record` is appended to the history, and parts of epochs other than the document's are deleted.

        Args:
            key: Key of the rollout.
            expected: The loaded revision; None for the first document.
            document: The new document, with a `revision` above the expected one, and an `epoch` not below the stored one.
            record: The action, its actor and its reason.

        Returns:
            False, without any change, if another swap came first.
        """
        ...

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer; its other parts stay. Repeating it changes nothing.

        Returns:
            False, without any change, if the document has another epoch, or does not exist.
        """
        ...

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """Return the parts of all writers in this epoch that have changed after this cursor; 0 returns all."""
        ...

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names for this claimant; return those that it owns now, because no other claimant had claimed them.

        Repeating a claim returns the same names, as long as they are kept: at least the last 100,000 of all keys, in the
        document's epoch. In another epoch, or without a document, nothing is claimed, and the result is empty.
        """
        ...

    def note(self, key: str, name: str, text: str) -> None:
        """Set a note, such as the latest verdict, replacing the previous one."""
        ...

    def noted(self, key: str, name: str) -> str | None:
        """Return a note; None if there is none."""
        ...

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """Return the records of all swaps, oldest first."""
        ...

    def keys(self) -> list[str]:
        """Return the keys that have a document, sorted."""
        ...

    def close(self) -> None:
        """Close files and connections. Closing twice is allowed; any other use afterwards raises `StoreError`."""
        ...


class NotifyingStore(StateStore, Protocol):
    """A store that can report changes of documents, so that other processes see them before their next look."""

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until a document may have changed, for at most `timeout_s` seconds.

        This is only a hint: each process also loads every document twice a second, so lost or superfluous messages are
        harmless. It is called repeatedly in its own thread; after an error, the process waits for the rest of the time without
        it.

        Returns:
            True if a document may have changed since the last call; False after the timeout.

        Raises:
            StoreError: The store cannot report changes now.
        """
        ...
