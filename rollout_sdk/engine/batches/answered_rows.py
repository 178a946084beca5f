"""The rows of an answered batch as one fact: what rows have in common once, and a column for each thing that is a row's own.

A batch of 100,000 rows is one fact of some 2 MB for the recorder, and not 100,000 facts for a queue that takes 10,000.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING

from rollout_sdk.engine.call import Call
from rollout_sdk.records import RoutedRows

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout

__all__ = ["AnsweredRows"]


def _kind(row: Call) -> Hashable:
    """What a row has in common with others; decision and runs by identity, because rows of one fate have the same objects."""
    return (
        id(row.decision),
        row.served,
        id(row.runs),
        row.measured,
        row.withheld,
        row.error,
        row.has_unit,
        row.excluded,
        row.no_evidence,
        row.answered,
        row.closed_early,
    )


class AnsweredRows:
    """Rows that were answered. Iterating gives each as a call; it is made for the purpose, and may be changed."""

    __slots__ = ("_covariates", "_decided", "_digests", "_kind", "_kinds", "_sequences")

    _kinds: Sequence[Call]
    _kind: array[int]
    _digests: array[int]
    _sequences: array[int]
    _covariates: array[float] | None
    _decided: array[float] | None

    @classmethod
    def of(cls, rows: Sequence[Call]) -> AnsweredRows:
        """The rows as columns; there is at least one."""
        made = cls()
        known: dict[Hashable, int] = {}
        kinds: list[Call] = []
        made._kind = array("L")
        for row in rows:
            kind = _kind(row)
            number = known.get(kind)
            if number is None:
                number = known[kind] = len(kinds)
                kinds.append(row)
            made._kind.append(number)
        made._kinds = kinds
        made._digests = array("Q", [row.digest for row in rows])
        made._sequences = array("Q", [row.sequence for row in rows])
        covariates, decided = [row.covariate for row in rows], [row.decided_s for row in rows]
        made._covariates = _numbers(covariates)
        made._decided = _numbers(decided)
        return made

    @property
    def rollout(self) -> Rollout:
        """The rollout, which all rows have in common."""
        return self._kinds[0].rollout

    @property
    def time_ns(self) -> int:
        """When the batch was decided."""
        return self._kinds[0].time_ns

    @property
    def weight(self) -> int:
        """How many facts it stands for."""
        return len(self._kind)

    def part(self, start: int, stop: int) -> AnsweredRows:
        """Those of the rows that stand at these positions."""
        made = AnsweredRows()
        used = dict.fromkeys(self._kind[start:stop])
        numbers = {old: new for new, old in enumerate(used)}
        made._kinds = [self._kinds[old] for old in used]
        made._kind = array("L", [numbers[old] for old in self._kind[start:stop]])
        made._digests, made._sequences = self._digests[start:stop], self._sequences[start:stop]
        made._covariates = None if self._covariates is None else self._covariates[start:stop]
        made._decided = None if self._decided is None else self._decided[start:stop]
        return made

    def kinds(self) -> Sequence[Call]:
        """One row of each kind, with the numbers of the first."""
        return self._kinds

    def __iter__(self) -> Iterator[Call]:
        """Each row as the call that it was."""
        new, kinds = Call.__new__, [vars(each) for each in self._kinds]
        covariates, decided = self._covariates, self._decided
        columns = zip(self._kind, self._digests, self._sequences, strict=True)
        for index, (kind, digest, sequence) in enumerate(columns):
            call = new(Call)
            own = vars(call)
            own.update(kinds[kind])
            own["digest"], own["sequence"], own["_full"] = digest, sequence, None
            if covariates is not None:
                own["covariate"] = _number(covariates[index])
            if decided is not None:
                own["decided_s"] = _number(decided[index])
            yield call

    def as_event(self) -> RoutedRows:
        """The rows as the fact that the journal keeps."""
        ids, buckets, units, covariates = [], [], [], []
        for call in self:
            ids.append(call.decision_id)
            buckets.append(call.bucket)
            units.append(call.unit)
            covariates.append(call.covariate)
        return RoutedRows(
            like=tuple(kind.as_event() for kind in self._kinds),
            kind=tuple(self._kind),
            ids=tuple(ids),
            buckets=tuple(buckets),
            units=tuple(units),
            covariates=() if self._covariates is None else tuple(covariates),
        )


def _numbers(values: Sequence[float | None]) -> array[float] | None:
    """A column of finite numbers; None where no row has one."""
    if all(value is None for value in values):
        return None
    return array("d", [nan if value is None else value for value in values])


def _number(value: float) -> float | None:
    return None if isnan(value) else value
