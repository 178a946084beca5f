"""The recorder's sink that keeps the journal: events become lines, and a file says what its lines are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rollout_sdk.concurrency.clocks import time
from rollout_sdk.journal.lines import as_line, line
from rollout_sdk.journal.writer import JournalWriter
from rollout_sdk.plugins.manager import Failed
from rollout_sdk.records import TransitionedEvent
from rollout_sdk.tally import rollout_of

__all__ = ["JournalSink", "Lines", "key_of"]

_MOST_OWED = 1000
"""Lines of replaced rollouts that are kept for calls that may still come."""


class Lines:
    """Facts of one rollout that are written as a line each, and know how."""

    @property
    def journal_key(self) -> str:
        """Key of the rollout."""
        raise NotImplementedError

    @property
    def journal_fingerprint(self) -> str:
        """Their fingerprint."""
        raise NotImplementedError

    def lines(self) -> Sequence[bytes]:
        """Return the lines."""
        raise NotImplementedError


class JournalSink:
    """Writes events, each rollout's own line before its first, and how many facts are missing. Used by one thread."""

    def __init__(self, writer: JournalWriter, *, describe: Callable[[str], Mapping[str, Any] | None], failed: Failed) -> None:
        """Write nothing yet.

        Args:
            writer: Where lines go.
            describe: The fields of a rollout's own line, by its key; None for a rollout that is not known here.
            failed: Notified of an event that cannot be written.
        """
        self._writer = writer
        self._describe = describe
        self._failed = failed
        self._headed: set[str] = set()
        self._moved: dict[str, TransitionedEvent] = {}
        self._owed: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._unwritten = 0
        self._noted = self._noted_drawn_out = 0

    def __call__(self, events: Sequence[Any], dropped: int, drawn_out: int = 0) -> None:
        """Write what is an event of a rollout.

        Args:
            events: The events.
            dropped: How many facts never came here, so far.
            drawn_out: How many of these were of calls that were not drawn under overload.

        Raises:
            OSError: Some could not be written. They are counted, and noted in the journal once writing succeeds again.
        """
        lines = [
            (key, self._replaced(key, event) if self._owed else None, texts, _weight(event))
            for event in events
            if (key := key_of(event)) is not None and (texts := self._lines(event))
        ]
        if not lines and not self.is_owed(dropped) and not self._writer.was_moved:
            return
        data: list[bytes] = []
        weights: list[int] = []
        headed: dict[str, Mapping[str, Any]] = {}
        settled = set()
        try:
            if self._writer.begin():
                self._headed.clear()
            for key, replaced, texts, weight in lines:
                about = None
                if replaced:
                    if replaced not in settled:
                        settled.add(replaced)
                        about = self._owed.get(replaced)
                elif key not in self._headed and key not in headed and (described := self._describe(key)) is not None:
                    headed[key] = described
                    about = self._as_it_stands(key, described)
                if about is not None:
                    data.append(line("rollout", time(), **about))
                    weights.append(0)
                data += texts
                # Of several lines, each is one fact.
                weights += [weight] if len(texts) == 1 else [1] * len(texts)
            if (missing := self._missing(dropped)) > 0:
                sampled = drawn_out - self._noted_drawn_out
                data.append(line("lost", time(), count=missing, sampled=sampled or None))
            self._writer.write(data)
        except BaseException:
            self._unwritten += sum(weight for *_, weight in lines) - sum(weights[: self._writer.kept])
            raise
        finally:
            self._moved.update({event.rollout: event for event in events if isinstance(event, TransitionedEvent)})
        for each in settled:
            self._owed.pop(each, None)
        # Unless it was described anew in the meantime.
        self._headed |= {key for key, described in headed.items() if self._describe(key) is described}
        if missing > 0:
            self._noted, self._noted_drawn_out = self._noted + missing, drawn_out

    def _as_it_stands(self, key: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a rollout's line for a new file: its state after the last transition, which may be in an earlier file."""
        moved = self._moved.get(key)
        if moved is None or moved.fingerprint != about.get("fingerprint"):
            return about
        stands = {"phase": moved.to_phase, "status": moved.status, "shares": dict(moved.shares), "revision": moved.revision}
        return {**about, **stands, "shadow": moved.shadow or None}

    @property
    def unwritten(self) -> int:
        """The number of facts that could not be written so far."""
        return self._unwritten

    @property
    def has_file(self) -> bool:
        """Whether a file is open, which may be moved away."""
        return self._writer.has_file

    def is_owed(self, dropped: int) -> bool:
        """Whether facts are missing that the journal does not yet note as missing."""
        return self._missing(dropped) > 0

    def _missing(self, dropped: int) -> int:
        """Return the number of facts that are neither written nor noted as missing."""
        return dropped + self._unwritten - self._noted

    def _lines(self, event: object) -> Sequence[bytes]:
        try:
            return event.lines() if isinstance(event, Lines) else [as_line(event)]
        # One event that cannot be written must not take the others with it.
        except Exception as error:
            self._unwritten += _weight(event)
            self._failed("journal.line", error)
            return ()

    def _replaced(self, key: str, event: object) -> tuple[str, str] | None:
        """Return what the line of a replaced rollout is owed under, if the event is one of its calls."""
        about = key, event.journal_fingerprint if isinstance(event, Lines) else _fingerprint_of(event)
        return about if about in self._owed else None

    def begin_again(self, key: str, replaced: Mapping[str, Any] | None = None) -> None:
        """A rollout is described anew: its own line is due again.

        Called by any thread.

        Args:
            key: Its key.
            replaced: How it was described before. Calls from then may still be on their way here.
        """
        before, now = ((about or {}).get("fingerprint", "") for about in (replaced, self._describe(key)))
        # Of the same fingerprint, one line is enough.
        if replaced is not None and before != now and key not in self._headed:
            # The oldest have the fewest calls on their way.
            while len(self._owed) >= _MOST_OWED:
                self._owed.pop(next(iter(self._owed)), None)
            self._owed[key, before] = replaced
        self._headed.discard(key)
        self._moved.pop(key, None)

    def renew(self) -> None:
        """In a forked child: another file, and nothing missing."""
        self._writer.renew()
        self._headed = set()
        self._moved = {}
        self._owed = {}
        self._unwritten = self._noted = self._noted_drawn_out = 0

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def key_of(event: object) -> str | None:
    """Key of the rollout that a fact for the journal belongs to; None for what is not for the journal."""
    return event.journal_key if isinstance(event, Lines) else rollout_of(event)


def _fingerprint_of(event: object) -> str:
    return str(getattr(getattr(event, "decision", event), "fingerprint", ""))


def _weight(event: object) -> int:
    """How many facts an event stands for."""
    return int(getattr(event, "weight", 1))
