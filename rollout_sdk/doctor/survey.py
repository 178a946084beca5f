"""One pass over a journal, in bounded memory: what is in its files, and what it says of every rollout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import Factory, define

from rollout_sdk.doctor.bounded_counts import add, at, few
from rollout_sdk.doctor.sums import FingerprintSums, RolloutSums, clamped
from rollout_sdk.doctor.units import Room, UnitSums
from rollout_sdk.doctor.writers import Process, Source, sources
from rollout_sdk.journal import Journal

__all__ = ["Survey", "survey"]

_MOST_ROLLOUTS = 1_000
_TOLERANCE_S = 60.0
_TELL_EVERY = 4_096


@define
class Survey:
    """What is in a journal.

    Attributes:
        folder: Where it is.
        files: Its files.
        lines: Lines read.
        bytes: Bytes read.
        skipped: Lines passed over, by why.
        missing: Names of parts that were there and are not any more, as far as the numbers of the others tell.
        repeated: Lines that are there twice, and count once.
        cut: Of those passed over, lines without an end that nobody will go on with.
        lost: Facts that writers say are not here.
        sampled: How many of these were of calls that were not drawn under overload.
        lost_in: Files of which writers say so.
        last_lost_s: When that was last said.
        first_s: Time of the oldest record, of those with a time that can be.
        newest_s: Time of the newest record, likewise.
        future: Records from the future: more than a minute ahead.
        furthest_s: Seconds that the furthest of them is ahead.
        past: Records from before their process began to record, by more than a minute.
        versions: Files by version of the SDK that wrote them.
        rollouts: By key, in order.
    """

    folder: str
    files: list[Source] = Factory(list)
    lines: int = 0
    bytes: int = 0
    skipped: dict[str, int] = Factory(dict)
    missing: tuple[str, ...] = ()
    repeated: int = 0
    cut: int = 0
    lost: int = 0
    sampled: int = 0
    lost_in: int = 0
    last_lost_s: float | None = None
    first_s: float | None = None
    newest_s: float | None = None
    future: int = 0
    furthest_s: float = 0.0
    past: int = 0
    versions: dict[str, int] = Factory(dict)
    rollouts: dict[str, RolloutSums] = Factory(dict)


@define
class _OfProcess:
    """What must be known of a process until its last file is read.

    Attributes:
        process: Which it is.
        active: Whether it may still be there.
        stands: Last status and phase, by rollout.
        fingerprints: Last fingerprint, by rollout.
        open_since: When a breaker opened that has not closed, by rollout and variant.
        newest_s: Time of its newest record.
    """

    process: Process | None = None
    active: bool = False
    stands: dict[str, tuple[str, str]] = Factory(dict)
    fingerprints: dict[str, str] = Factory(dict)
    open_since: dict[tuple[str, str], float] = Factory(dict)
    newest_s: float | None = None


class _Surveyor:
    def __init__(self, found: Survey, now: float) -> None:
        self.found = found
        self._now = now
        self._file = Source(None)  # type: ignore[arg-type]  # replaced with the first file
        self._writer = _OfProcess()
        self._says_lost = False
        self._room = Room()

    def begin(self, source: Source) -> None:
        """Go on with another file."""
        if source.process is None or source.process != self._writer.process:
            self.end()
            self._writer = _OfProcess(source.process)
        # Files of one process follow each other in the order in which it wrote them.
        self._writer.active = source.active
        self._file = source
        self._says_lost = False

    def end(self) -> None:
        """The last file of a process is read: say where it stands, if it still does."""
        writer = self._writer
        for (key, variant), since in writer.open_since.items():
            breaker = self.found.rollouts[key].breaker(variant)
            breaker.open_now += writer.active
            until = self._now if writer.active else writer.newest_s
            breaker.open_s += max(0.0, (until or since) - since)
        if writer.active:
            for key, local_state in writer.stands.items():
                standings = self.found.rollouts[key].standings
                standings[local_state] = standings.get(local_state, 0) + 1
            for key, fingerprint in writer.fingerprints.items():
                at(self.found.rollouts[key].fingerprints, fingerprint, FingerprintSums).processes += 1
        self._writer = _OfProcess()

    def take(self, record: Mapping[str, Any]) -> None:
        """Take in one record."""
        event = record["event"]
        time_s = self._time(event, record.get("t"))
        if "rollout" in record:
            key = record["rollout"]
            sums = self.found.rollouts.get(key)
            if sums is None:
                sums = at(self.found.rollouts, key, self._begin, _MOST_ROLLOUTS)
            if event == "decision":
                sums.decided(record, time_s)
            elif event == "shadow":
                sums.shadowed(record)
            elif event == "outcome":
                sums.outcomes += 1
            else:
                self._rare(event, record, sums, time_s)
        elif event == "journal":
            add(self.found.versions, record.get("sdk", "unknown"))
        elif event == "lost":
            self._lost(record, time_s)

    def _begin(self) -> RolloutSums:
        return RolloutSums(units=UnitSums(self._room))

    def _rare(self, event: str, record: Mapping[str, Any], sums: RolloutSums, time_s: float | None) -> None:
        # Under the name by which it is kept, which is not the record's when there are too many or it is too long.
        key = few(self.found.rollouts, record["rollout"], _MOST_ROLLOUTS)
        if event == "rollout":
            sums.described(record, time_s)
            if "fingerprint" in record:
                self._writer.fingerprints[key] = record["fingerprint"][:200]
            self._stands(key, record.get("status"), record["phase"])
        elif event == "transition":
            # A process may hear of a transition later than it was made.
            sums.moved(record, time_s, None if time_s is None else self._writer.newest_s)
            self._stands(key, record.get("status"), record["to_phase"])
        elif event == "breaker":
            sums.tripped(record, time_s)
            self._breaker(key, record, sums, time_s)

    def _stands(self, key: str, status: str | None, phase: str) -> None:
        self._writer.stands[key] = ((status or "running")[:200], phase[:200])

    def _breaker(self, key: str, record: Mapping[str, Any], sums: RolloutSums, time_s: float | None) -> None:
        if time_s is None:
            return
        where = key, few(sums.variants, record["variant"])
        since = self._writer.open_since
        if record["action"] == "open":
            if len(since) < _MOST_ROLLOUTS:
                since.setdefault(where, time_s)
        elif (began := since.pop(where, None)) is not None:
            sums.breaker(where[1]).open_s += max(0.0, time_s - began)

    def _lost(self, record: Mapping[str, Any], time_s: float | None) -> None:
        count = int(clamped(record["count"]) or 0)
        if count <= 0:
            return
        self.found.lost += count
        self.found.sampled += min(max(0, int(clamped(record.get("sampled", 0)) or 0)), count)
        self.found.lost_in += not self._says_lost
        self._says_lost = True
        if time_s is not None:
            self.found.last_lost_s = max(time_s, self.found.last_lost_s or time_s)

    def _time(self, event: str, time_s: float | None) -> float | None:
        """The time of a record; None when there is none, or it cannot be."""
        if time_s is None or time_s <= 0:
            return None
        found, file, writer = self.found, self._file, self._writer
        if time_s > self._now + _TOLERANCE_S:
            # An outcome's time is the application's own.
            if event != "outcome":
                found.future += 1
                found.furthest_s = max(found.furthest_s, time_s - self._now)
            return None
        if file.newest_s is None or time_s > file.newest_s:
            file.newest_s = time_s
        if event == "outcome":
            return time_s
        if writer.newest_s is None or time_s > writer.newest_s:
            writer.newest_s = time_s
        # A transition may have been made by another process, with another clock, and be heard of late.
        if event != "transition" and writer.process is not None and time_s < writer.process.began_s - _TOLERANCE_S:
            found.past += 1
        if found.first_s is None or time_s < found.first_s:
            found.first_s = time_s
        if found.newest_s is None or time_s > found.newest_s:
            found.newest_s = time_s
        return time_s


def survey(folder: str, *, now: float, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Read a journal once.

    Args:
        folder: Where it is.
        now: The time, in seconds since 1970.
        progress: Told now and then of the bytes read so far and the bytes of all files.

    Raises:
        ConfigurationError: It is no folder.
    """
    journal = Journal(folder)
    found = Survey(folder, sources(journal.files, now))
    total = sum(source.bytes for source in found.files)
    surveyor = _Surveyor(found, now)
    journal.begin()
    for source in found.files:
        lines, cut, damaged = journal.lines, journal.cut, journal.skipped["damaged"]
        surveyor.begin(source)
        for number, record in enumerate(journal.records_of(source.path)):
            surveyor.take(record)
            if progress is not None and not number % _TELL_EVERY:
                progress(min(journal.bytes, total), total)
        source.lines = journal.lines - lines
        is_cut = journal.cut > cut
        source.damaged = journal.skipped["damaged"] - damaged - is_cut
        # Half a line at the end of a file that is being written is no damage yet.
        if is_cut and source.active:
            journal.skipped["damaged"] -= 1
        elif is_cut:
            source.cut = True
            found.cut += 1
    surveyor.end()
    found.lines, found.bytes = journal.lines, journal.bytes
    found.missing, found.repeated = journal.missing, journal.repeated
    found.skipped = {why: count for why, count in sorted(journal.skipped.items()) if count}
    found.rollouts = dict(sorted(found.rollouts.items()))
    if progress is not None:
        progress(total, total)
    return found
