"""The rows of an answered batch as one fact: shared values are stored once, and values of a single row in columns.

A batch of 100,000 rows is one fact of about 2 MB, instead of 100,000 facts for the recorder's queue, which holds 10,000.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from rollout_sdk.engine.call import Call
from rollout_sdk.records import RoutedRows
from rollout_sdk.sampling import is_drawn

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout

__all__ = ["AnsweredRows"]


def _kind(row: Call) -> Hashable:
    """Key of what rows share; compares decision and runs by identity, because rows treated alike hold the same objects."""
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
        row.level,
        row.segments,
    )


class AnsweredRows:
    """Answered rows. Iteration builds a new `Call` for each row, which the consumer may change."""

    __slots__ = ("_covariates", "_decided", "_digests", "_kind", "_kinds", "_rate", "_sequences")

    _kinds: Sequence[Call]
    _kind: array[int]
    _digests: array[int]
    _sequences: array[int]
    _covariates: array[float] | None
    _decided: array[float] | None
    _rate: float

    @classmethod
    def of(cls, rows: Sequence[Call]) -> AnsweredRows:
        """Store the rows, of which there is at least one, as columns."""
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
        made._rate = 1.0
        return made

    @property
    def rollout(self) -> Rollout:
        """The rollout of all rows."""
        return self._kinds[0].rollout

    @property
    def time_ns(self) -> int:
        """Time of the batch's decisions."""
        return self._kinds[0].time_ns

    @property
    def weight(self) -> int:
        """Number of facts it stands for."""
        return len(self._kind)

    @property
    def level(self) -> int:
        """The highest level of the recorder's queue at which one of them began."""
        return max(kind.level for kind in self._kinds)

    def drawn(self, rate: float) -> AnsweredRows:
        """All of them; `thinned` gives those that are kept at this rate, because on the caller's path that would take long."""
        self._rate = rate
        return self

    def thinned(self) -> AnsweredRows | None:
        """Those of the rows that are drawn; None when there is none."""
        if self._rate >= 1.0 and not self.level:
            return self
        for kind in self._kinds:
            kind.rate = min(kind.rate, self._rate)
        kept = [index for index, row in enumerate(self) if is_drawn(row.decision_id, row.rate)]
        return self._at(kept) if kept else None

    def part(self, start: int, stop: int) -> AnsweredRows:
        """Return the rows in this range of positions."""
        return self._at(range(start, min(stop, len(self._kind))))

    def _at(self, positions: Sequence[int]) -> AnsweredRows:
        made = AnsweredRows()
        kind = [self._kind[position] for position in positions]
        numbers = {old: new for new, old in enumerate(dict.fromkeys(kind))}
        made._kinds = [self._kinds[old] for old in numbers]
        made._kind = array("L", [numbers[old] for old in kind])
        made._digests, made._sequences = _some(self._digests, positions), _some(self._sequences, positions)
        made._covariates = None if self._covariates is None else _some(self._covariates, positions)
        made._decided = None if self._decided is None else _some(self._decided, positions)
        made._rate = self._rate
        return made

    def kinds(self) -> Sequence[Call]:
        """Return one row of each kind, with the ids and numbers of its first."""
        return self._kinds

    def __iter__(self) -> Iterator[Call]:
        """Rebuild each row as a call."""
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
        """Build the event that the journal stores."""
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


def _some(column: array[Any], positions: Sequence[int]) -> array[Any]:
    """What a column has at these positions."""
    if isinstance(positions, range):
        return column[positions.start : positions.stop]
    return array(column.typecode, [column[position] for position in positions])


def _numbers(values: Sequence[float | None]) -> array[float] | None:
    """Return a column of finite numbers, or None if no row has one."""
    if all(value is None for value in values):
        return None
    return array("d", [nan if value is None else value for value in values])


def _number(value: float) -> float | None:
    return None if isnan(value) else value
