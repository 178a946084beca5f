"""Pairs of answers, kept for people: those that do not match, and those drawn for people to compare.

Each process has a file for each rollout, beside the journal's own.

Which of the two answers is the control's follows from the decision's id and is not in the file, so that people label pairs
without knowing it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from rollout_sdk.comparators import Disagreements
from rollout_sdk.comparators.parts import fields_of, plain
from rollout_sdk.concurrency.clocks import time
from rollout_sdk.concurrency.threads import Lock

__all__ = ["AUDITS", "DISAGREEMENTS", "KeptPair", "KeptPairs", "control_is_first", "read_pairs"]

DISAGREEMENTS, AUDITS = "disagreements", "audits"
"""Folders, in the journal's: of pairs that do not match, and of pairs drawn for people, whatever their answers are."""

_PARTS = 4
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@frozen
class KeptPair:
    """A pair of answers to one call, which do not match.

    Attributes:
        id: Id of the decision, for `record(decision_id=)`.
        time_s: Time of the call, in seconds since 1970.
        candidate: Name of the candidate.
        reason: Why they differ.
        difference: How far they are apart, if the comparator says.
        arguments: Arguments of the call, redacted; None for the rows of a batch.
        a: One answer, redacted.
        b: The other.
    """

    id: str
    time_s: float
    candidate: str
    reason: str | None
    difference: float | None
    arguments: Any
    a: Any
    b: Any

    def as_dict(self, *, is_revealed: bool = False) -> dict[str, Any]:
        """JSON-compatible; revealed, it also says which answer is the control's."""
        table = asdict(self, recurse=False)
        return {**table, "control": "a" if control_is_first(self.id) else "b"} if is_revealed else table


def control_is_first(decision_id: str) -> bool:
    """Whether answer `a` of a pair is the control's: by the decision's id, the same in every process."""
    return bool(_drawn(decision_id, b"order") & 1)


def _drawn(decision_id: str, person: bytes) -> int:
    digest = blake2b(decision_id.encode(errors="surrogatepass"), digest_size=8, person=person).digest()
    return int.from_bytes(digest, "big")


def _stem(rollout: str) -> str:
    return blake2b(rollout.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _as_json(value: Any) -> Any:
    """Return what JSON has for an object: its fields, its items, or what it is called."""
    if (fields := fields_of(value)) is not None:
        return dict(fields)
    listed = plain(value)
    return repr(value) if listed is value else listed


class KeptPairs:
    """The pairs that this process keeps of a rollout: a uniform sample of all that it has seen (Vitter's algorithm R)."""

    def __init__(
        self, rollout: str, journal: str | os.PathLike[str], settings: Disagreements, folder: str = DISAGREEMENTS
    ) -> None:
        """Create no file yet."""
        self.settings = settings
        self._rollout = rollout
        self._folder = Path(journal) / folder
        self._adding = Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid, self._period = os.getpid(), self._now()
        self._path = self._folder / f"{_stem(self._rollout)}-{self._pid}-{os.urandom(4).hex()}.jsonl"
        self._lines: list[bytes] = []
        self._seen = self._written = 0

    def _now(self) -> int:
        """Return the number of the current period."""
        return int(time() // self.settings.period_s)

    def offer(
        self, pair: tuple[Any, Any], arguments: Mapping[str, Any] | None, about: Mapping[str, Any], decision_id: str
    ) -> None:
        """Keep a pair, or not: each that was seen has the same chance.

        Args:
            pair: The control's answer and the candidate's.
            arguments: Arguments of the call; None if they are unknown.
            about: "t", "variant", "reason" and "difference" of the comparison.
            decision_id: Id of the decision.

        Raises:
            OSError: It cannot be written.
            Exception: Whatever `redact` raises.
        """
        with self._adding:
            if self._pid != os.getpid() or self._period != self._now():
                self._begin()
            self._seen += 1
            place = self._seen - 1 if self._seen <= self.settings.most else _drawn(decision_id, b"keep") % self._seen
        if place >= self.settings.most:
            return
        a, b = pair if control_is_first(decision_id) else pair[::-1]
        parts = {
            "arguments": None if arguments is None else self._kept(dict(arguments)),
            "a": self._kept(a),
            "b": self._kept(b),
        }
        line = (
            json.dumps({"rollout": self._rollout, "id": decision_id, "place": place, **about, **parts}).encode("ascii") + b"\n"
        )
        with self._adding:
            self._put(place, line)

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
        for path in self._folder.glob(f"{_stem(self._rollout)}-*.jsonl"):
            with suppress(OSError):
                if path.stat().st_mtime < time() - self.settings.max_age_s:
                    path.unlink()


def read_pairs(
    journal: str | os.PathLike[str],
    rollout: str,
    *,
    folder: str = DISAGREEMENTS,
    max_age_s: float = 30 * 86_400.0,
    now_s: float | None = None,
) -> list[KeptPair]:
    """Return the pairs that are kept of a rollout, those that differ most first, then the latest.

    Args:
        journal: Folder of the journal.
        rollout: Key of the rollout.
        folder: `DISAGREEMENTS` or `AUDITS`.
        max_age_s: Seconds after which a pair is left out.
        now_s: Current time; by default that of the clock.
    """
    since_s = (time() if now_s is None else now_s) - max_age_s
    found = [
        pair
        for path in sorted(Path(journal, folder).glob(f"{_stem(rollout)}-*.jsonl"))
        for pair in _pairs_of(path, rollout)
        if pair.time_s >= since_s
    ]
    return sorted(found, key=lambda pair: (-(pair.difference or 0.0), -pair.time_s))


def _pairs_of(path: Path, rollout: str) -> Iterator[KeptPair]:
    """Return the pairs of a file: the last line of each place; damaged lines are left out."""
    by_place: dict[int, KeptPair] = {}
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
            if record["rollout"] == rollout:
                by_place[int(record["place"])] = KeptPair(
                    id=str(record["id"]),
                    time_s=float(record["t"]),
                    candidate=str(record["variant"]),
                    reason=record["reason"],
                    difference=None if record["difference"] is None else float(record["difference"]),
                    arguments=record["arguments"],
                    a=record["a"],
                    b=record["b"],
                )
        except (KeyError, TypeError, ValueError):
            continue
    yield from by_place.values()
