"""Pairs of answers that were kept for people: what they are, and how many of them people are asked about."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from rollout_sdk.concurrency.clocks import time
from rollout_sdk.records.sampling import lot_of

__all__ = [
    "AUDITS",
    "DISAGREEMENTS",
    "MAX_AGE_S",
    "Budget",
    "KeptPair",
    "by_budget",
    "control_is_first",
    "keeping_lot",
    "read_pairs",
    "stem",
]

DISAGREEMENTS, AUDITS = "disagreements", "audits"
"""Folders, in the journal's: of pairs that do not match, and of pairs drawn for people, whatever their answers are."""

MAX_AGE_S = 30 * 86_400.0
"""Seconds for which pairs are shown."""


@frozen
class Budget:
    """How many pairs all processes together keep, and people label.

    Attributes:
        most: The number.
        period_s: Length of the period that it is for, in seconds; None: as long as pairs are kept.
        fingerprint: Fingerprint of the decisions that it is for: labels of others say nothing about these.
    """

    most: int = sys.maxsize
    period_s: float | None = None
    fingerprint: str = ""

    def period_of(self, time_s: float) -> tuple[str, int]:
        """Return which period of which decisions a time is in."""
        return self.fingerprint, int(time_s // self.period_s) if self.period_s else 0


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
        budget: The budget that it is kept in.
    """

    id: str
    time_s: float
    candidate: str
    reason: str | None
    difference: float | None
    arguments: Any
    a: Any
    b: Any
    budget: Budget = Budget()

    def as_dict(self, *, is_revealed: bool = False) -> dict[str, Any]:
        """JSON-compatible; revealed, it also says which answer is the control's."""
        table = asdict(self, recurse=False, filter=lambda field, _: field.name != "budget")
        return {**table, "control": "a" if control_is_first(self.id) else "b"} if is_revealed else table


def control_is_first(decision_id: str) -> bool:
    """Whether answer `a` of a pair is the control's: by the decision's id, the same in every process."""
    digest = blake2b(decision_id.encode(errors="surrogatepass"), digest_size=8, person=b"order").digest()
    return bool(digest[-1] & 1)


def keeping_lot(decision_id: str) -> float:
    """Return the lot of a decision's pairs: those with the smallest ones are kept."""
    return lot_of(decision_id, "keep")


def stem(rollout: str) -> str:
    """Return how the names of a rollout's files begin."""
    return blake2b(rollout.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def read_pairs(
    journal: str | os.PathLike[str],
    rollout: str,
    *,
    folder: str = DISAGREEMENTS,
    max_age_s: float = MAX_AGE_S,
    now_s: float | None = None,
) -> list[KeptPair]:
    """Return the pairs that are kept of a rollout, those that differ most first, then the latest.

    Of each period, these are as many as the budget allows: a random sample of what all processes have seen.

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
        for path in sorted(Path(journal, folder).glob(f"{stem(rollout)}-*.jsonl"))
        for pair in _pairs_of(path, rollout)
        if pair.time_s >= since_s
    ]
    return sorted(_within_budget(found), key=lambda pair: (-(pair.difference or 0.0), -pair.time_s))


def by_budget(pairs: Iterable[KeptPair]) -> Iterator[tuple[Budget, tuple[str, int], list[KeptPair]]]:
    """Group pairs by the period of their budget; return the latest budget, the period, and the pairs in the order of lots."""

    def period(pair: KeptPair) -> tuple[str, int]:
        return pair.budget.period_of(pair.time_s)

    for each, group in groupby(sorted(pairs, key=period), period):
        these = sorted(group, key=lambda pair: keeping_lot(pair.id))
        yield max(these, key=lambda pair: pair.time_s).budget, each, these


def _within_budget(pairs: Iterable[KeptPair]) -> Iterator[KeptPair]:
    for budget, _, these in by_budget(pairs):
        yield from these[: budget.most]


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
                    budget=_budget_in(record),
                )
        except (KeyError, TypeError, ValueError):
            continue
    yield from by_place.values()


def _budget_in(record: Mapping[str, Any]) -> Budget:
    period_s = record["period_s"]
    return Budget(int(record["most"]), None if period_s is None else float(period_s), str(record["fingerprint"]))
