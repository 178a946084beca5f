"""The sums of a journal by a database: what the SDK writes plainly is reduced by SQL, and the rest is read line by line.

Both add to the same sums: plain are calls with one run and without an interleaved list, their shadows, and outcomes of calls.
All else (batches, interleaved lists, calls that fell back, transitions, damaged lines) goes through the Python reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from rollout_sdk.analysis.arms import Arm
from rollout_sdk.analysis.gather import Aggregate, Gatherer, gather
from rollout_sdk.analysis.in_duckdb import InDuckDB, is_installed
from rollout_sdk.analysis.outcomes import MOST_METRICS, Outcomes, Set
from rollout_sdk.analysis.reduced_units import ReducedUnits
from rollout_sdk.analysis.relations import IrreducibleError, Relations
from rollout_sdk.analysis.segment_sums import Asked
from rollout_sdk.analysis.shadow_arms import ShadowArm
from rollout_sdk.journal import Journal

__all__ = ["IrreducibleError", "gather_reduced", "opened", "reduce", "sums_of"]

_LARGE = 16 << 20


@contextmanager
def opened(journal: Journal) -> Iterator[InDuckDB | None]:
    """A journal in the database, where that is installed and the journal is large; else None.

    Below 16 MiB, starting the database takes longer than it saves.

    Args:
        journal: The journal.
    """
    if sum(map(journal.size, journal.files)) < _LARGE or not journal.is_whole or not is_installed():
        yield None
        return
    import duckdb

    database = None
    # What it cannot read, or not in this memory, is read line by line.
    with suppress(duckdb.Error):
        database = InDuckDB(journal)
    if database is None:
        yield None
        return
    with database:
        yield database


def sums_of(
    journal: Journal,
    progress: Callable[[int, int], None] | None = None,
    asked: Mapping[Set, Asked] | None = None,
    *,
    database: InDuckDB | None = None,
) -> Aggregate:
    """The sums of every rollout in a journal, by the database where it has them.

    Args:
        journal: The journal; its counts are those of this reading.
        progress: Called with the bytes read so far, and with how many there are.
        asked: What is asked about segments, by rollout and fingerprint.
        database: Its lines in a database; None: they are read line by line.
    """
    if database is not None:
        import duckdb

        with suppress(IrreducibleError, duckdb.Error):
            journal.begin()
            found = reduce(journal, database, asked)
            if progress is not None:
                total = sum(map(journal.size, journal.files))
                progress(total, total)
            return found
    return gather(journal, progress, asked)


def gather_reduced(journal: Journal, asked: Mapping[Set, Asked] | None = None) -> Aggregate:
    """The sums of every rollout in a journal, but for their operation; the same as those of `gather`.

    Raises:
        IrreducibleError: Calls or shadows are there twice, which needs the Python reader.
        duckdb.Error: The database cannot read it.
    """
    journal.begin()
    with InDuckDB(journal) as relations:
        return reduce(journal, relations, asked)


def reduce(journal: Journal, relations: Relations, asked: Mapping[Set, Asked] | None = None) -> Aggregate:
    """The sums of every rollout in a journal whose lines are in a database; the same as those of `gather`.

    Args:
        journal: The journal, for what its files and folders say, and for its counts.
        relations: Its lines.
        asked: What is asked about segments, by rollout and fingerprint.

    Raises:
        IrreducibleError: Calls or shadows are there twice, which needs the Python reader.
    """
    return _Reduction(journal, relations, asked or {}).aggregate()


class _Reduction:
    def __init__(self, journal: Journal, relations: Relations, asked: Mapping[Set, Asked]) -> None:
        self._journal = journal
        self._relations = relations
        self._outcomes = Outcomes()
        self._asked = asked
        self._gatherer = Gatherer(journal, self._outcomes, asked)
        self._units = ReducedUnits(relations)

    def aggregate(self) -> Aggregate:
        relations, journal = self._relations, self._journal
        has_repeated = relations.prepare()
        self._check()
        if has_repeated:
            self._duplicates()
        self._specials()
        self._arms()
        self._ends()
        # What is left out is counted once.
        with self._gatherer.uncounted():
            self._units.count(self._gatherer)
            self._faults()
            self._shadows()
            self._shadow_latencies()
            self._values()
            self._segments()
        journal.lines = relations.lines
        if relations.damaged:
            journal.skipped["damaged"] += relations.damaged
        journal.bytes = sum(map(journal.size, journal.files))
        if journal.skipped["damaged"]:
            compacted = journal.compacted
            journal.cut = relations.cut + sum(journal.is_cut(path) for path in journal.files if path.name not in compacted)
        return self._gatherer.end()

    def _check(self) -> None:
        relations = self._relations
        if relations.value("repeated_calls") or relations.value("repeated_shadows"):
            raise IrreducibleError("calls are there twice")
        if relations.value("of_shadows"):
            raise IrreducibleError("outcomes are of shadows' answers")
        if relations.value("metrics") > MOST_METRICS:
            raise IrreducibleError("there are too many metrics")

    def _duplicates(self) -> None:
        for rollout, fingerprint, copies in self._relations.reduced("duplicates"):
            if fingerprint:
                self._gatherer.repeated(rollout, fingerprint, copies)
            else:
                self._outcomes.problem(rollout, "duplicate", copies)

    def _specials(self) -> None:
        """Read what is not plain, with the outcomes of such calls before it."""
        relations = self._relations
        for record in self._records(relations.reduced("special_outcomes")):
            self._gatherer.recorded(record)
        for row in relations.reduced("of_rows"):
            rollout, fingerprint, decision_id, metric, value, item, is_position, many, time_s = row
            named = int(item) if is_position else item
            self._outcomes.keep(rollout, fingerprint, decision_id, metric, value, named, many, time_s)
        self._visits()
        self._of_plain_calls()
        for record in self._records(relations.reduced("special_lines")):
            self._gatherer.take(record)

    def _records(self, rows: Iterable[tuple[Any, ...]]) -> Iterable[dict[str, Any]]:
        for file, of_file in groupby(rows, key=lambda row: row[0]):
            path = Path(file)
            self._gatherer.begin(path)
            yield from self._journal.records_in((line.encode() for _, line in of_file), path)

    def _visits(self) -> None:
        """The plain calls of units that have outcomes of their own."""
        units = self._outcomes.units()
        if not units:
            return
        self._relations.keep("waiting", {"rollout": "STRING", "unit": "STRING"}, units)
        for rollout, unit, *visit in self._relations.reduced("visits"):
            self._outcomes.visited(rollout, unit, (visit[0], visit[1], visit[2], visit[3], visit[4], visit[5], "", visit[6]))

    def _of_plain_calls(self) -> None:
        """Add the outcomes that the Python reader has read, and whose calls it will not."""
        if not (ids := self._outcomes.decisions()):
            return
        self._relations.keep("sought", {"id": "STRING"}, ((each,) for each in ids))
        for row in self._relations.reduced("of_plain_calls"):
            decision_id, rollout, fingerprint, phase, variant, cluster, bucket, many, excluded = row
            outcomes = self._outcomes.of(decision_id)
            gathered = self._gatherer.set_at(rollout, fingerprint)
            if gathered is not None and excluded:
                gathered.problems["of excluded calls"] += len(outcomes)
            elif (arm := self._arm(rollout, fingerprint, phase, variant)) is not None:
                if (rollout, fingerprint) in self._asked:
                    raise IrreducibleError("outcomes of one call are written in two ways")
                for metric, value, _, of_outcome, _ in outcomes:
                    arm.add_outcome(metric, cluster, bucket, value, max(many, of_outcome))

    def _arm(self, rollout: str, fingerprint: str, phase: str, variant: str) -> Arm | None:
        gathered = self._gatherer.set_at(rollout, fingerprint)
        return None if gathered is None else self._gatherer.arm_at(gathered.arms, phase, variant)

    def _arms(self) -> None:
        relations, gatherer = self._relations, self._gatherer
        for row in relations.reduced("arm_sums"):
            number, rollout, fingerprint, phase, variant, strategy, share, kept, closed, fell_back, first_s, last_s = row
            gathered = gatherer.set_at(rollout, fingerprint)
            arm = None if gathered is None else gatherer.arm_at(gathered.arms, phase, variant)
            if gathered is None or arm is None:
                gatherer.leave_out(kept - 1)
                continue
            if not self._units.add(number, arm):
                raise IrreducibleError("names of arms are too long to be kept apart")
            gathered.strategy = gathered.strategy or strategy
            arm.share = share if arm.share is None else arm.share
            arm.kept += kept
            arm.closed_early += int(closed)
            arm.fallbacks += int(fell_back)
            span = gathered.spans.setdefault(phase, [first_s, last_s])
            span[0], span[1] = min(span[0], first_s), max(span[1], last_s)
        for rollout, fingerprint, strategy, reason, kept, calls in relations.reduced("excluded"):
            if (gathered := gatherer.set_at(rollout, fingerprint)) is None:
                gatherer.leave_out(kept - 1)
                continue
            gathered.strategy = gathered.strategy or strategy
            gathered.excluded.add(reason, int(calls))

    def _faults(self) -> None:
        for rollout, fingerprint, phase, variant, kind, name, calls in self._relations.reduced("faults"):
            if (arm := self._arm(rollout, fingerprint, phase, variant)) is not None:
                (arm.errors if kind == "error" else arm.withheld).add(name, int(calls))

    def _shadow_arm(self, rollout: str, fingerprint: str, phase: str, variant: str) -> ShadowArm | None:
        gathered = self._gatherer.set_at(rollout, fingerprint)
        return None if gathered is None else self._gatherer.arm_at(gathered.shadows, phase, variant)

    def _ends(self) -> None:
        for *where, ended, error, reason, kept, runs in self._relations.reduced("ends"):
            if (arm := self._shadow_arm(*where)) is None:
                self._gatherer.leave_out(kept - 1)
                continue
            arm.ends.add(ended, int(runs))
            if error is not None:
                (arm.errors if ended == "error" else arm.not_copied).add(error, int(runs))
            if reason:
                arm.reasons.add(reason, int(runs))

    def _shadows(self) -> None:
        relations, shadow_arm = self._relations, self._shadow_arm
        for *where, calls in relations.reduced("planned"):
            if (arm := shadow_arm(*where)) is not None:
                arm.planned += int(calls)
        for *where, comparator, runs in relations.reduced("comparators"):
            if (arm := shadow_arm(*where)) is not None:
                arm.comparators.add(comparator, int(runs))
        for *where, cluster, matched, compared, difference, differences in relations.reduced("compared"):
            if (arm := shadow_arm(*where)) is not None:
                _add(arm.matches[cluster], matched, compared)
                if differences:
                    _add(arm.differences[cluster], difference, differences)

    def _shadow_latencies(self) -> None:
        for *where, many, theirs, controls in self._relations.reduced("shadow_latencies"):
            if (arm := self._shadow_arm(*where)) is not None:
                arm.latency_s.extend(theirs * many)
                arm.control_latency_s.extend((controls or []) * many)

    def _values(self) -> None:
        relations, gatherer = self._relations, self._gatherer
        for rollout, fingerprint, excluded, outcomes in relations.reduced("strays"):
            if (gathered := gatherer.set_at(rollout, fingerprint)) is not None:
                gathered.problems["of excluded calls" if excluded else "unknown decision"] += int(outcomes)
        for number, bucket, many, values in relations.reduced("latencies"):
            if (found := self._units.named(number)) is not None:
                # A run of another variant is not plain, or not measured.
                arm, variant = found
                arm.latency_s[variant].extend(values, bucket, many)
        for number, metric, bucket, many, values in relations.reduced("graded"):
            if (found := self._units.named(number)) is not None:
                found[0].values[metric].extend(values, bucket, many)

    def _segments(self) -> None:
        if not self._asked:
            return
        relations, gatherer = self._relations, self._gatherer
        relations.ask(self._asked, gatherer.unsplit)
        for rollout, fingerprint, segment, *row in relations.reduced("segments"):
            asked, gathered = self._asked[rollout, fingerprint], gatherer.set_at(rollout, fingerprint)
            if gathered is not None:
                for each in asked.known(dict([segment.split("=", 1)])):
                    gathered.segments.reduced(each, *row)
        for rollout, fingerprint, variant, cluster, *segments in relations.reduced("segment_units"):
            asked, gathered = self._asked[rollout, fingerprint], gatherer.set_at(rollout, fingerprint)
            if gathered is not None:
                for each in asked.known(dict(segment.split("=", 1) for segment in segments if segment is not None)):
                    gathered.segments.units[each, variant].add(cluster)


def _add(pair: list[float], value: float, count: float) -> None:
    pair[0] += float(value)
    pair[1] += float(count)
