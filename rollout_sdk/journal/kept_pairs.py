"""Pairs of answers, kept for people: those that do not match, and those drawn for people to compare.

Each process has a file for each rollout, beside the journal's own.

Which of the two answers is the control's follows from the decision's id and is not in the file, so that people label pairs
without knowing it. Which pairs are kept follows from their decisions' lots, so that the pairs of several files together are a
random sample, too, and processes need not agree on who keeps how many.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Any

from rollout_sdk.comparators import Disagreements
from rollout_sdk.comparators.parts import fields_of, plain
from rollout_sdk.concurrency.clocks import time
from rollout_sdk.concurrency.threads import Lock
from rollout_sdk.journal.pairs import DISAGREEMENTS, Budget, control_is_first, keeping_lot, stem

__all__ = ["KeptPairs"]

_PARTS = 4
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def _as_json(value: Any) -> Any:
    """Return what JSON has for an object: its fields, its items, or what it is called."""
    if (fields := fields_of(value)) is not None:
        return dict(fields)
    listed = plain(value)
    return repr(value) if listed is value else listed


class KeptPairs:
    """The pairs that this process keeps of a rollout: those with the smallest lots of all that it has seen.

    They are a uniform sample, and so are those with the smallest lots of several processes (the bottom-k sketch of Cohen and
    Kaplan, 2007).
    """

    def __init__(
        self, rollout: str, journal: str | os.PathLike[str], settings: Disagreements, folder: str = DISAGREEMENTS
    ) -> None:
        """Create no file yet."""
        self.settings = settings
        self._budget = Budget(settings.most, settings.period_s)
        self._rollout = rollout
        self._folder = Path(journal) / folder
        self._adding = Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid, self._period = os.getpid(), self._now()
        self._path = self._folder / f"{stem(self._rollout)}-{self._pid}-{os.urandom(4).hex()}.jsonl"
        self._lines: list[bytes] = []
        # The lots of those that are kept, negative so that the largest comes first, and their places.
        self._lots: list[tuple[float, int]] = []
        self._written = 0

    def _now(self) -> int:
        """Return the number of the current period."""
        return self._budget.period_of(time())[1]

    def offer(
        self, pair: tuple[Any, Any], arguments: Mapping[str, Any] | None, about: Mapping[str, Any], decision_id: str
    ) -> None:
        """Keep a pair, or not: each that was seen has the same chance.

        Args:
            pair: The control's answer and the candidate's.
            arguments: Arguments of the call; None if they are unknown.
            about: "t", "variant", "fingerprint", "reason" and "difference" of the comparison.
            decision_id: Id of the decision.

        Raises:
            OSError: It cannot be written.
            Exception: Whatever `redact` raises.
        """
        with self._adding:
            if self._pid != os.getpid() or self._period != self._now():
                self._begin()
            if (place := self._place(keeping_lot(decision_id))) is None:
                return
        a, b = pair if control_is_first(decision_id) else pair[::-1]
        parts = {
            "arguments": None if arguments is None else self._kept(dict(arguments)),
            "a": self._kept(a),
            "b": self._kept(b),
        }
        budget = {"most": self._budget.most, "period_s": self._budget.period_s}
        record = {"rollout": self._rollout, "id": decision_id, "place": place, **budget, **about, **parts}
        with self._adding:
            self._put(place, json.dumps(record).encode("ascii") + b"\n")

    def _place(self, lot: float) -> int | None:
        """Return the place of a pair with this lot: a new one, or that of the largest lot; None if it is not kept."""
        if len(self._lots) < self.settings.most:
            heappush(self._lots, (-lot, len(self._lots)))
            return len(self._lots) - 1
        largest, place = self._lots[0]
        if lot >= -largest:
            return None
        heapreplace(self._lots, (-lot, place))
        return place

    def _kept(self, value: Any) -> Any:
        """Return what may be kept of a value, as JSON has it, and not more than its share of the file."""
        redact, room = self.settings.redact, self.settings.max_bytes // (_PARTS * self.settings.most)
        kept = value if redact is None else redact(value)
        try:
            text = json.dumps(kept, default=_as_json)
        # Keys that are not text, or an answer that contains itself.
        except (TypeError, ValueError, RecursionError):
            text = json.dumps(repr(kept))
        return json.loads(text) if len(text) <= room else f"{text[:room]}... ({len(text):,} characters)"

    def _put(self, place: int, line: bytes) -> None:
        if place < len(self._lines):
            self._lines[place] = line
        else:
            self._lines.append(line)
        if not self._written:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._delete_old()
        if self._written + len(line) > self.settings.max_bytes:
            # Replaced ones make room.
            rest = self._path.with_suffix(".tmp")
            self._write(rest, b"".join(self._lines), os.O_TRUNC)
            rest.replace(self._path)
            self._written = sum(map(len, self._lines))
        else:
            self._write(self._path, line, os.O_APPEND)
            self._written += len(line)

    @staticmethod
    def _write(path: Path, content: bytes, how: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _NO_LINK | how, 0o600)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)

    def _delete_old(self) -> None:
        """Delete the files of processes that have written nothing for as long as a pair may be kept."""
        for path in self._folder.glob(f"{stem(self._rollout)}-*.jsonl"):
            with suppress(OSError):
                if path.stat().st_mtime < time() - self.settings.max_age_s:
                    path.unlink()
