"""What a store of shared state promises: a document that one writer at a time moves on, and sums that everybody adds to.

A rollout's *document* (phase, status, shares) changes by compare-and-set on its revision: of many processes that want to move
it on, one does. Its *parts* are running sums: each writer publishes its own absolute sums and nobody else's, so that a write
that is repeated, because nobody knows whether it arrived, counts once. An *epoch* fences them: when the document has gone on
to another, late sums of the last are refused, and its parts are gone.

What may come to two processes and must count once (an outcome that is sent again) is *claimed*: of all who claim a name, one
has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

__all__ = ["Gathered", "NotifyingStore", "StateStore", "Stored"]


@frozen
class Stored:
    """A document as it is in the store.

    Attributes:
        revision: Its revision, to be expected by the next swap.
        document: The document itself: plain JSON, the caller's own copy.
    """

    revision: int
    document: Mapping[str, Any]


@frozen
class Gathered:
    """What all writers published.

    Attributes:
        cursor: For the next gather, to get only what has changed since. It means nothing else, and holds for every epoch.
        parts: Text by (writer, part): the absolute sums of that writer.
    """

    cursor: int
    parts: Mapping[tuple[str, str], str]


class StateStore(Protocol):
    """Shared state of rollouts. Every method is safe in many threads, and is done wholly or not at all.

    Keys, writers, claimants, and the names of parts, claims and notes are texts of 1 to 200 characters. Documents and records
    are plain JSON: what comes back is equal to what went in, and shares nothing with it. Revisions and epochs are whole numbers
    from 0 to 2**53 - 1. A text, a document or a record has 4 MiB at the most.

    Every method raises `StoreError` when the store cannot do it, after its own bounded time, and when what it is given is not
    of this form. After an error of the first kind nobody knows whether a write was done: publishing again does no harm, and
    after a swap, load tells.

    A store can have one more method, `wait_for_change(timeout_s: float) -> bool`: see `NotifyingStore`.
    """

    def load(self, key: str) -> Stored | None:
        """The document of this key; None when there is none."""
        ...

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        """Replace the document, if its revision is still the expected one (None: if there is no document yet).

        Together with it, `record` becomes the last of the history, and parts of other epochs than the document's are deleted.

        Args:
            key: Key of the rollout.
            expected: The revision that was loaded; None to begin.
            document: The new document, with a `revision` larger than the expected, and an `epoch` not below the stored.
            record: What happened, by whom and why.

        Returns:
            False, and nothing is changed, when somebody was faster.
        """
        ...

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        """Replace these parts of this writer; its other parts stay as they are. Doing so twice changes nothing.

        Returns:
            False, and nothing is written, when the document is of another epoch, or there is none.
        """
        ...

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        """The parts of all writers in this epoch that have changed after this cursor. 0: all."""
        ...

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        """Claim names for this claimant; those of them that are its own from now on, because nobody has claimed them before.

        Claiming the same again as the same claimant gives the same answer, as long as the names are remembered: at least the
        last 100,000 of all keys, in the document's epoch. In another epoch, or where there is no document, nothing is claimed,
        and the answer is empty.
        """
        ...

    def note(self, key: str, name: str, text: str) -> None:
        """Leave the last word on something, such as the newest verdict, in place of the one before."""
        ...

    def noted(self, key: str, name: str) -> str | None:
        """The last word on something; None when nothing was said."""
        ...

    def history(self, key: str) -> list[Mapping[str, Any]]:
        """The records of all swaps that were done, oldest first."""
        ...

    def keys(self) -> list[str]:
        """The keys that have a document, sorted."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Closing twice is well; any other use afterwards is a `StoreError`."""
        ...


class NotifyingStore(StateStore, Protocol):
    """A store that can report that a document has changed, so that the other processes see it before their next look."""

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until a document may have changed, for `timeout_s` seconds at the most.

        A hint that saves time: each process also loads every document twice a second, so a lost message does no harm, and
        neither does one too many. It is called in a thread of its own, again and again; after an error, the process waits for
        the rest of the time without it.

        Returns:
            True when a document may have changed since the last call; False when the time is over.

        Raises:
            StoreError: The store cannot report changes now.
        """
        ...
