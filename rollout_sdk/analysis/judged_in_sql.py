"""Every rollout of a journal as its judge would have seen it, from sums by a database: the same as `judged`, without its lines.

Evidence is made of sums that do not depend on the order of lines, so it is enough to sum up what comes between two points at
which order matters: looks, first calls of phases, and lines of rollouts and transitions. Which lines a look has seen, the
database knows from the order in which the line-by-line reader takes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

from attrs import evolve

from rollout_sdk.analysis.bounded import shortened
from rollout_sdk.analysis.facts import set_of
from rollout_sdk.analysis.in_duckdb import InDuckDB
from rollout_sdk.analysis.judged import (
    FIRST_LOOK,
    LOOK_AGAIN,
    MOST_PHASES,
    MOST_PROCESSES,
    MOST_ROLLOUTS,
    Judged,
    judged,
)
from rollout_sdk.analysis.judged_batches import ROLLOUT, BatchEnd, Between, JudgedSet
from rollout_sdk.analysis.outcomes import Set
from rollout_sdk.analysis.relations import IrreducibleError
from rollout_sdk.analysis.sums_of_batches import ALL, FAILED, Batch
from rollout_sdk.journal import Journal
from rollout_sdk.journal.decoding import decoded, why_skipped
from rollout_sdk.journal.parts import part_of, writer_of
from rollout_sdk.journal.reader import part_in
from rollout_sdk.judging.metrics.slow_calls import UNTIMED
from rollout_sdk.judging.unit_sample import MOST_KEPT
from rollout_sdk.plan import ERROR_RATE, LATENCY, LATENCY_MEAN, Criterion, Guardrail, is_judged, is_measured

__all__ = ["judged_by_sums", "judged_of"]

_MEASURED = (ERROR_RATE, LATENCY, LATENCY_MEAN)
_MOST_ARMS = 100
_MOST_BEHIND_S = 60.0
_SLOTS = 20_000
_WITHOUT_LIMIT = 1e51
_CELL_OF = """
CREATE OR REPLACE TEMP MACRO cell_of(digest) AS CAST(((((xor(digest, digest >> 32) & 4294967295) * 2135587861) >> 32)
    + (((xor(digest, digest >> 32) & 4294967295) * 2654435769) & 4294967295)
    + (((digest >> 32) * 2135587861) & 4294967295)) & 4294967295 AS UINTEGER)
"""
_SOURCES = {"file": "STRING", "process": "SMALLINT", "part": "INTEGER"}
_THRESHOLDS = {"of_set": "INTEGER", "label": "INTEGER", "threshold_s": "DOUBLE"}
_RECORDED = {"of_set": "INTEGER", "of_metric": "INTEGER", "is_label": "INTEGER", "low": "DOUBLE", "high": "DOUBLE"}
_LEVELS = {"of_set": "INTEGER", "arm": "INTEGER", "label": "INTEGER", "batch": "INTEGER", "mask": "UINTEGER"}


def judged_of(
    journal: Journal, database: InDuckDB | None, progress: Callable[[int, int], None] | None = None
) -> dict[Set, Judged]:
    """The rollouts of a journal by key and fingerprint: by sums, where that is the same, and else line by line.

    Args:
        journal: The journal.
        database: Its lines in a database; None: there is none.
        progress: Called with the bytes read so far, and with how many there are.
    """
    if database is not None:
        import duckdb

        with suppress(IrreducibleError, duckdb.Error):
            by_sums = judged_by_sums(journal, database)
            if progress is not None:
                total = sum(map(journal.size, journal.files))
                progress(total, total)
            return by_sums
    found, _ = judged(journal, progress=progress)
    return found


def judged_by_sums(journal: Journal, database: InDuckDB) -> dict[Set, Judged]:
    """The rollouts of a journal by key and fingerprint.

    Args:
        journal: The journal.
        database: Its lines.

    Raises:
        IrreducibleError: Only the line-by-line reader can judge it.
        duckdb.Error: The database cannot read it.
    """
    try:
        return _Reading(journal, database).found()
    finally:
        for name in ("placed", "ordered", "batched"):
            database.drop(name)


class _Reading:
    def __init__(self, journal: Journal, database: InDuckDB) -> None:
        self._journal, self._database = journal, database
        self._processes: list[str] = []
        self._arms: dict[int, tuple[str, str]] = {}
        self._sets: dict[int, JudgedSet] = {}
        self._lines: dict[tuple[int, int], dict[str, Any]] = {}
        self._declared: dict[int, Judged] = {}

    def found(self) -> dict[Set, Judged]:
        database = self._database
        # What takes the least time is looked at first: what may refuse a journal must not cost as much as judging it.
        self._check_lines()
        self._read_declared()
        if database.prepare() or database.value("repeated_calls"):
            raise IrreducibleError("calls or outcomes are repeated")
        self._order()
        names = self._read_sets()
        self._criteria()
        self._add_calls()
        self._sample()
        self._add_outcomes()
        between = Between(self._arms, self._processes, self._lines)
        for one in self._sets.values():
            one.check_minutes()
            one.replay(between)
        return {names[number]: one.one for number, one in self._sets.items()}

    def _check_lines(self) -> None:
        """Refuse lines that are more than their columns, and files of several processes."""
        journal, database = self._journal, self._database
        if database.value("unusual"):
            raise IrreducibleError("the judge needs more than columns")
        for file, line in database.reduced("first_lines"):
            # Which process wrote a line says whether it was read before.
            record = decoded(line.encode())
            process = None if why_skipped(record) else part_in(record)
            named = part_of(Path(file).name)
            if process is not None and (named is None or evolve(process, number=0) != evolve(named, number=0)):
                raise IrreducibleError("a file has lines of another process than its name says")
        database.make("judged_sets")
        if database.value("how_many_sets") > MOST_ROLLOUTS:
            raise IrreducibleError("there are too many sets of arms")
        if len({writer_of(path) for path in journal.files}) > MOST_PROCESSES:
            raise IrreducibleError("there are too many processes")

    def _read_declared(self) -> None:
        """Read what every set of arms is judged by: it must stay, and its evidence must be sums."""
        said: dict[int, dict[str, Any]] = {}
        for number, file, line in self._database.reduced("declared"):
            record = self._record(file, line)
            first = said.setdefault(number, record)
            if any(record.get(name) != first.get(name) for name in ("plan", "control")):
                raise IrreducibleError("what is declared changes")
        for number, record in said.items():
            one = self._declared[number] = Judged.begun(record["rollout"])
            one.take({**record, "seen_s": 0.0})
            if one.course.criteria.max_calls_per_unit is not None:
                raise IrreducibleError("calls are capped")
            for each in (*one.course.criteria.all, *one.undeclared):
                _check(each)

    def _record(self, file: str, line: str) -> dict[str, Any]:
        """A line of a rollout or a transition."""
        records = list(self._journal.records_in([line.encode()], Path(file)))
        if len(records) != 1 or "replaced" in records[0]:
            raise IrreducibleError("rollouts are replaced, or lines are repeated")
        return records[0]

    def _order(self) -> None:
        """Put the lines in order, and in batches."""
        journal, database = self._journal, self._database
        processes: dict[str, list[Path]] = {}
        for path in journal.files:
            processes.setdefault(writer_of(path), []).append(path)
        self._processes = list(processes)
        compacted = journal.compacted
        database.keep(
            "sources",
            _SOURCES,
            [
                (path.name if path.name in compacted else str(path), number, part)
                for number, paths in enumerate(processes.values())
                for part, path in enumerate(paths)
            ],
        )
        database.database.execute(_CELL_OF)
        for name in ("judged_arms", "judged_metrics", "placed"):
            database.make(name)
        # Outcomes that are read before their calls wait for them.
        if database.value("unplaced") or database.value("early") or database.value("latest_behind") > _MOST_BEHIND_S:
            raise IrreducibleError("lines are not in order")
        looks, calls = [FIRST_LOOK], database.lines
        while looks[-1] < calls:
            looks.append(ceil(looks[-1] * LOOK_AGAIN))
        taken = " + ".join(f"CAST(calls >= {look} AS INTEGER)" for look in looks)
        database.database.execute(f"CREATE OR REPLACE TEMP MACRO looks_before(calls) AS ({taken})")
        ((first_s, last_s),) = database.reduced("times")
        since_s = float(first_s or 0.0)
        width_s = max((float(last_s or 0.0) - since_s) / _SLOTS, 1e-6)
        slot = f"CAST(greatest(floor((seen_s - {since_s!r}) / {width_s!r}), -1) AS INTEGER)"
        database.database.execute(f"CREATE OR REPLACE TEMP MACRO slot_of(seen_s) AS {slot}")
        for name in ("markers", "marked", "slots", "ordered", "batched"):
            database.make(name)
        database.drop("placed")

    def _read_sets(self) -> dict[int, Set]:
        names: dict[int, Set] = {}
        for number, key, fingerprint, calls, last_s in self._database.reduced("sets"):
            if shortened(key) != key or shortened(fingerprint) != fingerprint:
                raise IrreducibleError("names are too long")
            names[number] = key, fingerprint
            one = Judged.begun(key)
            one.fold_never()
            self._sets[number] = JudgedSet(one, calls, last_s)
        phases: dict[int, set[str]] = defaultdict(set)
        arms: dict[int, int] = defaultdict(int)
        for arm, phase, variant, of_set in self._database.reduced("each_arm"):
            self._arms[arm] = phase, variant
            phases[of_set].add(phase)
            arms[of_set] += 1
        if any(len(each) > MOST_PHASES for each in phases.values()) or any(many > _MOST_ARMS for many in arms.values()):
            raise IrreducibleError("there are too many arms")
        for number, batch, *end in self._database.reduced("ends_of_batches"):
            self._sets[number].ends[batch] = BatchEnd(*end)
        for number, process, first_s, last_s in self._database.reduced("processes"):
            self._sets[number].one.processes[self._processes[process]] = [first_s, last_s]
        return names

    def _criteria(self) -> None:
        """Read the lines between batches: what is declared must be declared before the first call."""
        changes: dict[str, Set] = {}
        for process, place, file, line in self._database.reduced("lines_between"):
            record = self._lines[process, place] = self._record(file, line)
            # The other reader takes the first line of a change, whatever rollout and fingerprint it names.
            if record["event"] == "transition" and (change := record.get("id")) is not None:
                which = set_of(record)
                if changes.setdefault(change, which) != which:
                    raise IrreducibleError("a change has lines of several sets of arms")
        thresholds, recorded = [], []
        metrics = {metric: number for number, metric in self._database.reduced("each_metric")}
        for number, one in self._sets.items():
            first = min(one.ends, default=0)
            if number not in self._declared or first != 1 or one.ends[first].kind != ROLLOUT:
                raise IrreducibleError("nothing is declared before the first line")
            asking = self._declared[number]
            one.control = asking.course.control
            one.declared = (*asking.course.criteria.all, *asking.undeclared)
            for each in one.declared:
                if isinstance(each, Guardrail) and each.threshold_s is not None:
                    one.labels[len(one.labels) + FAILED + 1] = each.label
                    thresholds.append((number, len(one.labels) + FAILED, each.threshold_s))
                elif not is_measured(each.metric) and each.metric in metrics:
                    low, high = each.clip or (-_WITHOUT_LIMIT, _WITHOUT_LIMIT)
                    recorded.append((number, metrics[each.metric], int(each.per == "outcome"), low, high))
        self._database.keep("thresholds", _THRESHOLDS, thresholds)
        self._database.keep("recorded", _RECORDED, recorded)
        self._database.make("occurred")

    def _rows(self, name: str) -> Iterator[tuple[JudgedSet, Batch, str, str, list[Any]]]:
        for number, batch, arm, *row in self._database.reduced(name):
            one = self._sets[number]
            yield one, one.batches[batch], *self._arms[arm], row

    def _add_calls(self) -> None:
        for _, batch, phase, _, (calls, last_s) in self._rows("calls_of_arms"):
            seen = batch.calls.setdefault(phase, [0, 0.0])
            seen[0] += calls
            seen[1] = max(seen[1], last_s)
        for _, batch, phase, arm, row in self._rows("calls_of_buckets"):
            batch.add_calls(phase, arm, *row)
        for one, batch, phase, arm, (label, bucket, calls) in self._rows("slow_of_buckets"):
            if label > 0:
                batch.add_events(phase, one.labels[label], arm, bucket, calls)
            elif -label == FAILED + 1:
                # Calls of unknown duration are those of all thresholds: they count once.
                batch.add_untimed(phase, arm, bucket, calls)
        for one, batch, phase, arm, (label, *row) in self._rows("minutes"):
            batch.add_minute(phase, arm, self._label(one, label), *row)

    @staticmethod
    def _label(one: JudgedSet, label: int) -> str:
        if label == ALL:
            return ""
        if label == FAILED:
            return ERROR_RATE
        return one.labels[label] if label > 0 else UNTIMED + one.labels[-label]

    def _sample(self) -> None:
        """Sample units as the judge does: a sample that is full is thinned, from then on."""
        new: dict[tuple[int, int, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * 33))
        for number, arm, label, batch, zeros, cells in self._database.reduced("new_cells"):
            new[number, arm, label][batch][zeros] += cells
        levels = []
        for (number, arm, label), by_batch in new.items():
            one, (phase, variant) = self._sets[number], self._arms[arm]
            name, seen, level = self._label(one, label), [0] * 33, 0
            for batch in range(max(one.ends, default=0) + 1):
                if (cells := by_batch.get(batch)) is not None:
                    seen = [a + b for a, b in zip(seen, cells, strict=True)]
                    while sum(seen[level:]) > MOST_KEPT:
                        level += 1
                    # A batch may thin the sample, and have no unit itself that is kept.
                    one.batches[batch].sample(phase, variant, name, level)
                levels.append((number, arm, label, batch, (1 << level) - 1))
        self._database.keep("levels", _LEVELS, levels)
        level_of = {each[:4]: each[4].bit_length() for each in levels}
        for number, batch, arm, label, cell, minute in self._database.reduced("sampled_cells"):
            one, (phase, variant) = self._sets[number], self._arms[arm]
            sample = one.batches[batch].sample(phase, variant, self._label(one, label), level_of[number, arm, label, batch])
            sample.first[cell] = minute

    def _add_outcomes(self) -> None:
        for number, batch, metric in self._database.reduced("first_outcomes"):
            self._sets[number].metrics[batch].append(metric)
        for number, batch, *row in self._database.reduced("outcomes_of_buckets"):
            one = self._sets[number]
            one.outcomes[batch].append(row)
            # There may be no calls in it.
            one.batches[batch]


def _check(criterion: Criterion) -> None:
    """Refuse a criterion whose evidence is more than sums of calls, and of outcomes whenever they come."""
    if is_measured(criterion.metric):
        is_known = criterion.metric in _MEASURED
    else:
        is_known = not (criterion.window or criterion.per == "list" or is_judged(criterion.metric))
    if not is_known:
        raise IrreducibleError(f"{criterion.metric!r} needs every line")
