"""The sums of a journal by a database: what the SDK writes plainly is reduced by SQL, and the rest is read line by line.

Both add to the same sums: plain are calls with one run and without an interleaved list, their shadows, and outcomes of calls.
All else (batches, interleaved lists, calls that fell back, transitions, damaged lines) goes through the Python reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import groupby
from typing import Any

from rollout_sdk.analysis.arms import Arm
from rollout_sdk.analysis.gather import Aggregate, Gatherer, gather
from rollout_sdk.analysis.outcomes import MOST_METRICS, Outcomes, Set
from rollout_sdk.analysis.relations import Relations, is_installed
from rollout_sdk.analysis.segment_sums import Asked
from rollout_sdk.analysis.shadow_arms import ShadowArm
from rollout_sdk.journal import Journal

__all__ = ["IrreducibleError", "gather_reduced", "sums_of"]

_LARGE = 16 << 20


class IrreducibleError(Exception):
    """A journal that only the Python reader can sum up: calls are there twice, or outcomes are about shadows' answers,
    or segments are asked for and outcomes of one call are written in two ways.
    """


def sums_of(
    journal: Journal,
    progress: Callable[[int, int], None] | None = None,
    asked: Mapping[Set, Asked] | None = None,
) -> Aggregate:
    """The sums of every rollout in a journal, by the database where that is installed and the journal is large.

    Below 16 MiB, starting the database takes longer than it saves.

    Args:
        journal: The journal; its counts are those of this reading.
        progress: Called with the bytes read so far, and with how many there are.
        asked: What is asked about segments, by rollout and fingerprint.
    """
    total = sum(map(journal.size, journal.files))
    if total >= _LARGE and journal.is_whole and is_installed():
        import duckdb

        # What it cannot read, or not in this memory, is read line by line.
        with suppress(IrreducibleError, duckdb.Error):
            found = gather_reduced(journal, asked)
            if progress is not None:
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
    with Relations(journal) as relations:
        return _Reduction(journal, relations, asked or {}).aggregate()


class _Reduction:
    def __init__(self, journal: Journal, relations: Relations, asked: Mapping[Set, Asked]) -> None:
        self._journal = journal
        self._relations = relations
        self._outcomes = Outcomes()
        self._asked = asked
        self._gatherer = Gatherer(journal, self._outcomes, asked)

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
            self._units()
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
        calls = (
            "SELECT count(*) - count(DISTINCT call) FROM ("
            "SELECT call FROM events WHERE event = 'decision' AND is_plain UNION ALL SELECT call FROM special)"
        )
        shadows = (
            "SELECT count(*) - count(DISTINCT hash(call, variant)) FROM events WHERE event = 'shadow' AND call IS NOT NULL"
        )
        for query in (calls, shadows):
            if relations.value(query):
                raise IrreducibleError("calls are there twice")
        of_shadows = "SELECT count(*) FROM events WHERE event = 'outcome' AND NOT is_plain AND contains(line, '\"shadow\"')"
        if relations.value(of_shadows):
            raise IrreducibleError("outcomes are of shadows' answers")
        if relations.value("SELECT count(DISTINCT metric) FROM events") > MOST_METRICS:
            raise IrreducibleError("there are too many metrics")

    def _duplicates(self) -> None:
        query = "SELECT rollout, fingerprint, count(*) FROM numbered WHERE copy > 1 AND happening IS NOT NULL GROUP BY ALL"
        for rollout, fingerprint, copies in self._relations.rows(query):
            if fingerprint:
                self._gatherer.repeated(rollout, fingerprint, copies)
            else:
                self._outcomes.problem(rollout, "duplicate", copies)

    def _specials(self) -> None:
        """Read what is not plain, with the outcomes of such calls before it."""
        relations = self._relations
        lines = "SELECT file, line FROM {} WHERE NOT is_plain AND line IS NOT NULL AND {}"
        of_units = lines.format("numbered", "(copy = 1 OR happening IS NULL)")
        for record in self._records(relations.rows(of_units)):
            self._gatherer.recorded(record)
        of_rows = "SELECT {} FROM outcomes WHERE is_of_rows"
        for row in relations.rows(of_rows.format("rollout, fingerprint, id, metric, value, item, is_position, many, t")):
            rollout, fingerprint, decision_id, metric, value, item, is_position, many, time_s = row
            named = int(item) if is_position else item
            self._outcomes.keep(rollout, fingerprint, decision_id, metric, value, named, many, time_s)
        self._visits()
        self._of_plain_calls()
        for record in self._records(relations.rows(lines.format("events", "event IS DISTINCT FROM 'outcome'"))):
            self._gatherer.take(record)

    def _records(self, rows: Iterable[tuple[Any, ...]]) -> Iterable[dict[str, Any]]:
        for file, of_file in groupby(rows, key=lambda row: row[0]):
            path = self._relations.file(file)
            self._gatherer.begin(path)
            yield from self._journal.records_in((line.encode() for _, line in of_file), path)

    def _visits(self) -> None:
        """The plain calls of units that have outcomes of their own."""
        units = self._outcomes.units()
        if not units:
            return
        rollouts, names = zip(*units, strict=True)
        self._relations.database.execute(
            "CREATE TEMP TABLE waiting AS SELECT unnest($rollouts) AS rollout, unnest($units) AS unit",
            {"rollouts": list(rollouts), "units": list(names)},
        )
        query = (
            "SELECT rollout, unit, t, fingerprint, phase, variant, excluded FROM events JOIN waiting USING (rollout, unit) "
            "WHERE event = 'decision' AND is_plain"
        )
        for rollout, unit, *visit in self._relations.rows(query):
            self._outcomes.visited(rollout, unit, (visit[0], visit[1], visit[2], visit[3], visit[4]))

    def _of_plain_calls(self) -> None:
        """Add the outcomes that the Python reader has read, and whose calls it will not."""
        if not (ids := self._outcomes.decisions()):
            return
        query = (
            "SELECT id, d.rollout, d.fingerprint, d.phase, d.variant, cluster, many, excluded "
            "FROM (SELECT id, key_of(id) AS call FROM (SELECT unnest($ids) AS id)) JOIN "
            "(SELECT * EXCLUDE id FROM events WHERE event = 'decision' AND is_plain) d USING (call)"
        )
        for decision_id, rollout, fingerprint, phase, variant, cluster, many, excluded in self._relations.rows(
            query, {"ids": ids}
        ):
            outcomes = self._outcomes.of(decision_id)
            gathered = self._gatherer.set_at(rollout, fingerprint)
            if gathered is not None and excluded:
                gathered.problems["of excluded calls"] += len(outcomes)
            elif (arm := self._arm(rollout, fingerprint, phase, variant)) is not None:
                if (rollout, fingerprint) in self._asked:
                    raise IrreducibleError("outcomes of one call are written in two ways")
                for metric, value, _, of_outcome, _ in outcomes:
                    arm.add_outcome(metric, cluster, value, max(many, of_outcome))

    def _arm(self, rollout: str, fingerprint: str, phase: str, variant: str) -> Arm | None:
        gathered = self._gatherer.set_at(rollout, fingerprint)
        return None if gathered is None else self._gatherer.arm_at(gathered.arms, phase, variant)

    def _arms(self) -> None:
        relations, gatherer = self._relations, self._gatherer
        for row in relations.reduced("arms"):
            rollout, fingerprint, phase, variant, strategy, share, kept, closed, fell_back, first_s, last_s = row
            gathered = gatherer.set_at(rollout, fingerprint)
            arm = None if gathered is None else gatherer.arm_at(gathered.arms, phase, variant)
            if gathered is None or arm is None:
                gatherer.leave_out(kept - 1)
                continue
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

    def _units(self) -> None:
        relations, gatherer = self._relations, self._gatherer
        for rollout, fingerprint, phase, variant, cluster, calls, first_s in relations.reduced("units"):
            gathered = gatherer.set_at(rollout, fingerprint)
            arm = None if gathered is None else gatherer.arm_at(gathered.arms, phase, variant)
            if gathered is not None and arm is not None:
                arm.units[cluster] += int(calls)
                gathered.arrivals.add(cluster, first_s, phase, variant)
        for rollout, fingerprint, phase, variant, kind, name, calls in relations.reduced("faults"):
            if (arm := self._arm(rollout, fingerprint, phase, variant)) is not None:
                (arm.errors if kind == "error" else arm.withheld).add(name, int(calls))
        durations = (
            "SELECT rollout, fingerprint, phase, variant, ran, many, list(run_s), list(bucket % 512) FROM events "
            "WHERE event = 'decision' AND is_plain AND NOT excluded AND run_s IS NOT NULL GROUP BY ALL"
        )
        for rollout, fingerprint, phase, variant, ran, many, values, buckets in relations.rows(durations):
            if (arm := self._arm(rollout, fingerprint, phase, variant)) is not None:
                arm.latency_s[ran].extend(values * many)
                arm.latency_buckets.extend(buckets * many)

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
                arm.errors.add(error, int(runs))
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
        durations = (
            "SELECT rollout, fingerprint, phase, variant, many, list(duration_s), "
            "list(control_duration_s) FILTER (control_duration_s IS NOT NULL) FROM events WHERE event = 'shadow' AND is_plain "
            "AND NOT excluded AND ended IN ('ok', 'error') AND duration_s IS NOT NULL GROUP BY ALL"
        )
        for *where, many, theirs, controls in self._relations.rows(durations):
            if (arm := self._shadow_arm(*where)) is not None:
                arm.latency_s.extend(theirs * many)
                arm.control_latency_s.extend((controls or []) * many)

    def _values(self) -> None:
        relations, gatherer = self._relations, self._gatherer
        for *where, metric, cluster, total, outcomes, low, high in relations.reduced("values"):
            if (arm := self._arm(*where)) is not None:
                _add(arm.outcomes[metric][cluster], total, outcomes)
                known = arm.ranges.get(metric, (low, high))
                arm.ranges[metric] = min(low, known[0]), max(high, known[1])
        for why, statement in (("of excluded calls", "of_excluded"), ("unknown decision", "unknown")):
            for rollout, fingerprint, outcomes in relations.reduced(statement):
                if (gathered := gatherer.set_at(rollout, fingerprint)) is not None:
                    gathered.problems[why] += outcomes

    def _segments(self) -> None:
        if not self._asked:
            return
        relations, gatherer = self._relations, self._gatherer
        relations.ask(self._asked)
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
