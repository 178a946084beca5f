"""One reading of a journal: what is in its files, and, by the analysis, what it says of every rollout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import Factory, define

from rollout_sdk.analysis.bounded import Counts
from rollout_sdk.analysis.gather import Gatherer
from rollout_sdk.analysis.judged import judged
from rollout_sdk.analysis.operations import Operations
from rollout_sdk.analysis.report import Report
from rollout_sdk.analysis.summary import concluded, report_of
from rollout_sdk.doctor.operated import Operated, operated
from rollout_sdk.doctor.writers import Source, sources
from rollout_sdk.journal import Journal

__all__ = ["Survey", "survey"]

_TOLERANCE_S = 60.0
_TELL_EVERY = 4_096
_MOST_JUDGED = 100
"""Of more rollouts, a screen cannot show the headlines, and memory would hold the evidence."""


@define
class Survey:
    """What is in a journal.

    Attributes:
        report: Its report: what it says of every rollout.
        operations: Each rollout in operation, by its key.
        files: Its files.
        bytes: Bytes read.
        skipped: Lines passed over, by why; a cut one that may still be being written is not among them.
        cut: Of those passed over, lines without an end that no process will continue.
        lost_in: Files whose writers say that facts are missing.
        last_lost_s: When that was last said.
        first_s: Time of the oldest record, of those with a time that can be.
        newest_s: Time of the newest record, likewise.
        future: Records from the future: more than a minute ahead.
        furthest_s: Seconds that the furthest of them is ahead.
        past: Records from before their process began to record, by more than a minute.
        versions: Files by version of the SDK that wrote them.
    """

    report: Report
    operations: Mapping[str, Operations]
    files: list[Source] = Factory(list)
    bytes: int = 0
    skipped: dict[str, int] = Factory(dict)
    cut: int = 0
    lost_in: int = 0
    last_lost_s: float | None = None
    first_s: float | None = None
    newest_s: float | None = None
    future: int = 0
    furthest_s: float = 0.0
    past: int = 0
    versions: Counts = Factory(Counts)

    def operated(self, now: float) -> dict[str, Operated]:
        """The rollouts as they run now, by key."""
        return operated(self.operations, self.report.rollouts, self.files, now)


class _Surveyor:
    """What the lines say of the journal itself: its times, its writers, what they lost."""

    def __init__(self, now: float) -> None:
        self.versions = Counts()
        self.lost_in = self.future = self.past = 0
        self.last_lost_s: float | None = None
        self.first_s: float | None = None
        self.newest_s: float | None = None
        self.furthest_s = 0.0
        self._now = now
        self._file = Source(None)  # type: ignore[arg-type]  # replaced with the first file
        self._says_lost = False

    def begin(self, source: Source) -> None:
        """Go on with another file."""
        self._file = source
        self._says_lost = False

    def take(self, record: Mapping[str, Any]) -> None:
        """Take in one record."""
        event = record["event"]
        time_s = self._time(event, record.get("t"))
        if event == "journal":
            self.versions.add(record.get("sdk", "unknown"))
        elif event == "lost" and record["count"] > 0:
            self.lost_in += not self._says_lost
            self._says_lost = True
            if time_s is not None:
                self.last_lost_s = max(time_s, self.last_lost_s or time_s)

    def _time(self, event: str, time_s: float | None) -> float | None:
        """The time of a record; None when there is none, or it cannot be."""
        if time_s is None or time_s <= 0:
            return None
        if time_s > self._now + _TOLERANCE_S:
            # An outcome's time is the application's own.
            if event != "outcome":
                self.future += 1
                self.furthest_s = max(self.furthest_s, time_s - self._now)
            return None
        file, process = self._file, self._file.process
        if file.newest_s is None or time_s > file.newest_s:
            file.newest_s = time_s
        if event == "outcome":
            return time_s
        # A transition may have been made by another process, with another clock, and be heard of late.
        if event != "transition" and process is not None and time_s < process.began_s - _TOLERANCE_S:
            self.past += 1
        if self.first_s is None or time_s < self.first_s:
            self.first_s = time_s
        if self.newest_s is None or time_s > self.newest_s:
            self.newest_s = time_s
        return time_s


def survey(folder: str, *, now: float, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Read a journal.

    Args:
        folder: Where it is.
        now: The time, in seconds since 1970.
        progress: Called now and then with the bytes read so far and the bytes of all files.

    Raises:
        ConfigurationError: It is not a folder.
    """
    journal = Journal(folder)
    files = sources(journal.files, now)
    total = sum(source.bytes for source in files)
    report, operations, surveyor, cut = _read(journal, files, now, progress)
    # Read again for what the judge saw, in order of time, when the sums of all units are forgotten.
    if len(report.rollouts) <= _MOST_JUDGED:
        second = None if progress is None else (lambda done, of: progress((of + done) // 2, of))
        found, _ = judged(Journal(folder), progress=second)
        report = concluded(report, found)
    skipped = {why: count for why, count in sorted(report.skipped.items()) if count}
    if being_written := report.cut - cut:
        skipped["damaged"] -= being_written
    if progress is not None:
        progress(total, total)
    return Survey(
        report=report,
        operations=operations,
        files=files,
        bytes=journal.bytes,
        skipped={why: count for why, count in skipped.items() if count},
        cut=cut,
        lost_in=surveyor.lost_in,
        last_lost_s=surveyor.last_lost_s,
        first_s=surveyor.first_s,
        newest_s=surveyor.newest_s,
        future=surveyor.future,
        furthest_s=surveyor.furthest_s,
        past=surveyor.past,
        versions=surveyor.versions,
    )


def _read(
    journal: Journal, files: Sequence[Source], now: float, progress: Callable[[int, int], None] | None
) -> tuple[Report, dict[str, Operations], _Surveyor, int]:
    """Read every file once, and complete what is known of it; also how many last lines are cut."""
    total, cut, surveyor, gatherer = sum(source.bytes for source in files), 0, _Surveyor(now), Gatherer(journal)
    journal.begin()
    for source in files:
        lines, cuts, damaged = journal.lines, journal.cut, journal.skipped["damaged"]
        surveyor.begin(source)
        gatherer.begin(source.path)
        for number, record in enumerate(journal.records_of(source.path)):
            surveyor.take(record)
            gatherer.take(record)
            if progress is not None and not number % _TELL_EVERY:
                progress(min(journal.bytes, total) // 2, total)
        source.lines = journal.lines - lines
        is_cut = journal.cut > cuts
        source.damaged = journal.skipped["damaged"] - damaged - is_cut
        # Half a line at the end of a file that is being written is not damage yet.
        source.cut = is_cut and not source.active
        cut += source.cut
    aggregate = gatherer.end()
    return report_of(journal, aggregate), aggregate.operations, surveyor, cut
