"""The rows of a batch as columns, from their decision to their record: what rows share is stored, and changed, once for all.

Rows that have been treated alike so far are of one *kind*: a `Call` with everything that they have in common. What differs from
row to row (unit, covariate) is a column of numbers. So a batch of 100,000 rows is one fact of about 2 MB, instead of 100,000
calls of 1 KB each, and most of what is done for rows is done for their kinds.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from math import isnan, nan
from typing import TYPE_CHECKING, Any, overload

from rollout_sdk.assignment import BUCKETS, INTERVAL, pseudonyms_of
from rollout_sdk.assignment.ids import IdTemplate
from rollout_sdk.engine.batches.rows import Places
from rollout_sdk.engine.call import Call, Runs
from rollout_sdk.records import RoutedRows
from rollout_sdk.records.sampling import is_drawn

if TYPE_CHECKING:
    from rollout_sdk.engine.rollout import Rollout
    from rollout_sdk.judging import Evidence
    from rollout_sdk.tally import Tally

__all__ = ["MOST_IN_A_BYTE", "DecidedRows", "column"]

MOST_IN_A_BYTE = 256
"""Kinds that a column of bytes can tell apart."""


class DecidedRows(Sequence[Call]):
    """The rows of a batch. Reading one builds a new `Call`, which the reader may change; the rows are changed by `apart`.

    Attributes:
        kinds: A row of each kind, in the order of their first rows.
        covariates: For each row, its covariate, or NaN; None if no row has one.
        decided: For each row, the seconds that its decision took; None if that is not measured.
        points: For each row, its unit's point; None if it follows from the digest alone.
        said_units: For each row, its unit as it was given; None if it is not kept.
    """

    __slots__ = (
        "_codes",
        "_digests",
        "_groups",
        "_kind",
        "_measured",
        "_places",
        "_rate",
        "_sequences",
        "covariates",
        "decided",
        "kinds",
        "points",
        "said_units",
    )

    def __init__(
        self,
        kinds: list[Call],
        kind: array[int] | bytearray,
        digests: array[int],
        sequences: Sequence[int],
        codes: Sequence[int] | None = None,
        places: Sequence[int] | None = None,
    ) -> None:
        """Take rows.

        Args:
            kinds: A row of each kind.
            kind: For each row, the position of its kind; a byte a row while there are few kinds.
            digests: The digests of the units.
            sequences: For each row of the batch, the number in its id.
            codes: For each row, the position of its unit's digest; by default, each row has its own.
            places: For each row, its position in the batch; all of it by default.
        """
        self.kinds = kinds
        self._kind = kind
        self._digests = digests
        self._sequences = sequences
        self._codes = range(len(kind)) if codes is None else codes
        self._places = range(len(kind)) if places is None else places
        self._groups: list[tuple[Sequence[int], list[Call]]] = []
        self._measured: dict[int, Runs] = {}
        self._rate = 1.0
        self.covariates: array[float] | None = None
        self.decided: array[float] | None = None
        self.points: array[float] | None = None
        self.said_units: list[Any] | None = None

    # As a sequence of calls ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._kind)

    @overload
    def __getitem__(self, index: int) -> Call: ...

    @overload
    def __getitem__(self, index: slice) -> DecidedRows: ...

    def __getitem__(self, index: int | slice) -> Call | DecidedRows:
        """Build the call of one row; of a slice, return the rows."""
        if isinstance(index, slice):
            return self.at(range(*index.indices(len(self))))
        (call,) = self._calls((range(len(self))[index],))
        return call

    def __iter__(self) -> Iterator[Call]:
        """Build the call of each row."""
        return self._calls(range(len(self)))

    def _calls(self, indices: Iterable[int]) -> Iterator[Call]:
        new, kinds = Call.__new__, [vars(each) for each in self.kinds]
        for index in indices:
            call = new(Call)
            own = vars(call)
            own.update(kinds[self._kind[index]])
            digest, place = self._digests[self._codes[index]], self._places[index]
            own["digest"], own["sequence"], own["index"], own["_full"] = digest, self._sequences[place], place, None
            own["point"] = (digest >> 32) / INTERVAL if self.points is None else self.points[index]
            if place in self._measured:
                own["measured"] = self._measured[place]
            if self.covariates is not None:
                own["covariate"] = _number(self.covariates[index])
            if self.decided is not None:
                own["decided_s"] = self.decided[index]
            if self.said_units is not None:
                own["said_unit"] = self.said_units[index]
            yield call

    def at(self, indices: Sequence[int]) -> DecidedRows:
        """Return the rows at these positions, as they are now."""
        kind, codes, places = (_some(column, indices) for column in (self._kind, self._codes, self._places))
        made = DecidedRows(self.kinds, kind, self._digests, self._sequences, codes, places)
        made._measured, made._rate = self._measured, self._rate
        made.covariates = None if self.covariates is None else _some(self.covariates, indices)
        made.decided = None if self.decided is None else _some(self.decided, indices)
        made.points = None if self.points is None else _some(self.points, indices)
        made.said_units = None if self.said_units is None else [self.said_units[index] for index in indices]
        return made

    # While they are answered --------------------------------------------------------------------------------------------

    def sizes(self) -> Iterator[tuple[Call, int]]:
        """Return a row of each kind that has rows, with their number."""
        return ((self.kinds[number], size) for number, size in Counter(self._kind).items())

    def of_variants(self, first: str) -> dict[str, Sequence[int]]:
        """Return the positions of each variant's rows; those of `first`, if it has any, come first."""
        kinds: dict[str, list[Call]] = {first: []}
        for kind in self.kinds:
            kinds.setdefault(kind.decision.variant, []).append(kind)
        groups: dict[str, Sequence[int]]
        if isinstance(self._kind, bytearray):
            # A column of bytes is compared as a whole, in a hundredth of the time of a row at a time.
            groups = {}
            for variant in kinds:
                is_its = bytes(kind.decision.variant == variant for kind in self.kinds).ljust(MOST_IN_A_BYTE, b"\0")
                groups[variant] = Places(bytes(self._kind.translate(is_its)))
        else:
            numbers: dict[str, list[int]] = {variant: [] for variant in kinds}
            add = [numbers[kind.decision.variant].append for kind in self.kinds]
            for index, number in enumerate(self._kind):
                add[number](index)
            groups = {**numbers}
        self._groups = [(indices, kinds[variant]) for variant, indices in groups.items()]
        return {variant: indices for variant, indices in groups.items() if indices}

    def shadowed(self, noise: float, control: str) -> dict[str, list[int]]:
        """Return the positions of the rows that each shadow runs on.

        Args:
            noise: Share of the shadowed rows on which the control runs again.
            control: Its name.
        """
        groups: dict[str, list[int]] = {}
        has_shadows = bytes(bool(kind.decision.shadows) for kind in self.kinds)
        if not any(has_shadows):
            return groups
        for index in compress(range(len(self)), map(has_shadows.__getitem__, self._kind)):
            for variant in self.kinds[self._kind[index]].decision.shadows:
                groups.setdefault(variant, []).append(index)
            if noise and is_drawn(self[index].decision_id, noise):
                groups.setdefault(control, []).append(index)
        return groups

    def apart(self, indices: Sequence[int]) -> list[Call]:
        """Return the kinds of exactly these rows, to be changed; rows whose kind has others too get one of their own."""
        if len(indices) == len(self):
            return self.kinds
        for known, kinds in self._groups:
            if known is indices:
                return kinds
        sizes = Counter(self._kind)
        found: list[Call] = []
        renumbered: dict[int, int] = {}
        for number, size in Counter(map(self._kind.__getitem__, indices)).items():
            kind = self.kinds[number]
            if size < sizes[number]:
                renumbered[number] = len(self.kinds)
                whole, kind = kind, Call.__new__(Call)
                vars(kind).update(vars(whole))
                self.kinds.append(kind)
            found.append(kind)
        if renumbered:
            self._groups = []
            if len(self.kinds) > MOST_IN_A_BYTE:
                self._kind = array("I", list(self._kind))
            for index in indices:
                number = self._kind[index]
                self._kind[index] = renumbered.get(number, number)
        return found

    def split(self, segments: Sequence[tuple[tuple[str, str], ...]]) -> None:
        """Take the segments of each row."""
        indices: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for index, found in enumerate(segments):
            indices.setdefault(found, []).append(index)
        for found, own in indices.items():
            for kind in self.apart(own):
                kind.segments = found

    def measure(self, index: int, run: tuple[str, float, str | None, float | None]) -> None:
        """Have a row report the duration of a run, which was one for many rows."""
        self._measured[index] = (*self._measured.get(index, ()), run)

    # As a fact of the recorder ------------------------------------------------------------------------------------------

    @property
    def rollout(self) -> Rollout:
        """The rollout of all rows."""
        return self.kinds[0].rollout

    @property
    def time_ns(self) -> int:
        """Time of the batch's decisions."""
        return self.kinds[0].time_ns

    @property
    def weight(self) -> int:
        """Number of facts it stands for."""
        return len(self)

    @property
    def level(self) -> int:
        """The level of the recorder's queue at which the batch began."""
        return self.kinds[0].level

    def drawn(self, rate: float) -> DecidedRows:
        """All of them; `thinned` gives those that are kept at this rate, because on the caller's path that would take long."""
        self._rate = rate
        return self

    def thinned(self) -> DecidedRows | None:
        """Those of the rows that are drawn; None when there is none."""
        if self._rate >= 1.0 and not self.level:
            return self
        for kind in self.kinds:
            kind.rate = min(kind.rate, self._rate)
        kept = [index for index, row in enumerate(self) if is_drawn(row.decision_id, row.rate)]
        return self.at(kept) if kept else None

    def part(self, start: int, stop: int) -> DecidedRows:
        """Return the rows in this range of positions."""
        return self.at(range(start, min(stop, len(self))))

    def timed(self) -> Iterator[Call]:
        """Return the rows that report a duration."""
        if self.decided is not None:
            return iter(self)
        measured = self._measured
        return self._calls([index for index, place in enumerate(self._places) if place in measured] if measured else ())

    def count_in(self, tally: Tally) -> None:
        """Add the rows to the process's counts."""
        for kind, size in self.sizes():
            kind.count_in(tally, size)

    def add_to_evidence(self, evidence: Evidence) -> None:
        """Add the rows to the evidence; as `Call.add_to_evidence` for each of them."""
        for number in dict.fromkeys(self._kind):
            kind = self.kinds[number]
            if kind.is_excluded or kind.no_evidence or kind.phase.is_shadow:
                continue
            own = map(number.__eq__, self._kind)
            if evidence.most_calls is None and self.covariates is None and _has_succeeded(kind):
                digests = map(self._digests.__getitem__, compress(self._codes, own))
                answered = zip(digests, repeat(kind.time_ns), repeat(kind.runs[0][1]))
                evidence.add_answered(kind.phase.name, kind.decision.variant, kind.phase.exposure, answered)
                continue
            for call in self._calls(compress(range(len(self)), own)):
                call.add_to_evidence(evidence)

    def as_event(self) -> RoutedRows:
        """Build the event that the journal stores."""
        numbers = {old: new for new, old in enumerate(dict.fromkeys(self._kind))}
        kinds = [self.kinds[old] for old in numbers]
        kind = tuple(map(numbers.__getitem__, self._kind))
        like = []
        for number in range(len(kinds)):
            # Of each kind its first row, with its own id.
            first = self[kind.index(number)]
            # Only observers and log handlers run in it.
            first.context = None
            like.append(first.as_event())
        mask, digests = BUCKETS - 1, array("Q", map(self._digests.__getitem__, self._codes))
        buckets = [digest & mask for digest in digests]
        sequences = list(map(self._sequences.__getitem__, self._places))
        has_unit = [each.has_unit for each in kinds]
        found = pseudonyms_of(digests)
        units: Iterable[str | None] = found
        if not all(has_unit):
            units = [unit if has_unit[number] else None for number, unit in zip(kind, found, strict=True)]
        rows_of: list[list[int]] = [[] for _ in kinds]
        for place, number in enumerate(kind):
            rows_of[number].append(place)
        ids = [""] * len(kind)
        for each, own in zip(kinds, rows_of, strict=True):
            columns = map(buckets.__getitem__, own), repeat(self.time_ns), map(sequences.__getitem__, own)
            for place, id_ in zip(own, _ids_of(each).each(*columns, origin=each.origin, end=each.nonce_end), strict=True):
                ids[place] = id_
        return RoutedRows(
            like=tuple(like),
            kind=kind,
            ids=tuple(ids),
            buckets=tuple(buckets),
            units=tuple(units),
            covariates=() if self.covariates is None else tuple(map(_number, self.covariates)),
        )


def _has_succeeded(kind: Call) -> bool:
    """Whether the assigned variant has answered such rows, to the end."""
    runs = kind.runs
    return kind.withheld is None and len(runs) == 1 and runs[0][2] is None and runs[0][3] is None and not kind.closed_early


def _ids_of(kind: Call) -> IdTemplate:
    rollout, phase = kind.rollout, kind.phase
    return IdTemplate(rollout.key, phase.name, kind.decision.variant, rollout.secret, fingerprint=phase.fingerprint)


def _some(column: Any, indices: Sequence[int]) -> Any:
    """What a column has at these positions."""
    if isinstance(indices, range) and indices.step == 1:
        return column[indices.start : indices.stop]
    found = map(column.__getitem__, indices)
    if isinstance(column, bytearray):
        return bytearray(found)
    return array(column.typecode, found) if isinstance(column, array) else list(found)


def column(values: Iterable[float | None]) -> array[float] | None:
    """Return a column of finite numbers, or None if no row has one."""
    found = array("d", [nan if value is None else value for value in values])
    return None if all(map(isnan, found)) else found


def _number(value: float) -> float | None:
    return None if isnan(value) else value
