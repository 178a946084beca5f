"""Compaction of a journal: JSON lines become Parquet, by rollout and day, while processes go on writing.

Only finished parts are taken, which no process writes any more. All of them are written aside, counted, and put on the disk;
then one rename says that they are there, and only after that are their files removed. A compaction that is killed has changed
nothing, or has left files that the next one removes; a reader takes a part from one of the two, never from both.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from attrs import frozen

from rollout_sdk.analysis.destination import Destination, destination, on_disk
from rollout_sdk.analysis.in_duckdb import KEY_OF, events_of
from rollout_sdk.concurrency.clocks import time
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal import Journal
from rollout_sdk.journal.compacted import COMPACTED
from rollout_sdk.journal.parts import part_of, writer_is_alive
from rollout_sdk.journal.writer import host_name

__all__ = ["Compaction", "compact"]

_IDLE_S = 86_400.0
_SENDING = "sending.json"
_AT_ONCE = 1 << 29
_MOST_ROLLOUTS = 1_000
_MOST_FOLDERS = 20_000
_MEMORY = "1GB"
_BYTES_HELD = 1 << 26
_BYTES_OF_COLUMNS = 512
_MOST_HELD = 122_880
_COPY = """
COPY (
    SELECT *,
        CASE WHEN rollout IS NULL THEN '(journal)' WHEN length(rollout) > 80 OR $many THEN '(others)' ELSE rollout END
            AS rollout_key,
        CASE WHEN t BETWEEN 1 AND 99999999999 AND NOT $many THEN strftime(make_timestamp(CAST(t * 1e6 AS BIGINT)), '%Y-%m-%d')
            ELSE '(unknown)' END AS day
    FROM parts
) TO '{}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (rollout_key, day), ROW_GROUP_SIZE 122880)
"""

_NAMED = "SELECT * REPLACE (regexp_replace(parse_filename(file), '\\.gz$', '') AS file), row_number() OVER () AS number FROM"


@frozen
class Compaction:
    """What a compaction did.

    Attributes:
        parts: Parts that are in Parquet now, and were not before.
        lines: Their lines.
        bytes_before: Bytes of their files.
        bytes_after: Bytes of the Parquet files.
        left: Parts that may still be written, and were left as they are.
        removed: Files of parts that an earlier compaction had taken, and had not come to remove.
    """

    parts: int = 0
    lines: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    left: int = 0
    removed: int = 0


def compact(
    folder: str | os.PathLike[str],
    *,
    to: str | None = None,
    idle_s: float = _IDLE_S,
    now: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Compaction:
    """Turn the finished parts of a journal into Parquet, by rollout and day.

    A part is taken when a later one of its process is there, when its process has ended on this machine, when it is compressed,
    or when it was not changed for `idle_s`.

    Args:
        folder: Folder of the journal.
        to: Where the Parquet files are moved: another folder, or an address such as "s3://bucket/journal", which needs the
            extra [s3]. By default they stay in the folder.
        idle_s: Seconds after which a part of a process elsewhere is taken to be finished.
        now: The time, in seconds since 1970; the clock's by default.
        progress: Called with the bytes compacted so far, and with how many there are.

    Raises:
        ConfigurationError: There is no such folder, another compaction is at work on it, DuckDB is not installed, or
            `to` cannot be written: then nothing was removed.
    """
    try:
        import duckdb  # noqa: F401  # asked for before anything is changed
    except ModuleNotFoundError:
        raise ConfigurationError(
            "DuckDB is not installed. A journal is compacted with it. Run: pip install 'rollout-sdk[analysis]'."
        ) from None
    journal = Journal(folder)
    with _alone(journal.folder):
        place = journal.folder / COMPACTED
        for unfinished in place.glob("new-*"):
            shutil.rmtree(unfinished)
        removed = _remove(journal.folder, journal.compacted) + _settled(journal.folder)
        elsewhere = None if to is None else destination(to)
        taken, left = _finished(journal, idle_s, time() if now is None else now)
        total, done = sum(path.stat().st_size for path in taken), 0
        lines = after = 0
        for batch in _batches(taken):
            aside, written = _compacted(journal.folder, batch)
            lines, after = lines + written, after + sum(path.stat().st_size for path in aside.rglob("*.parquet"))
            done += sum(path.stat().st_size for path in batch)
            if elsewhere is None or to is None:
                aside.rename(place / aside.name.removeprefix("new-"))
                on_disk(place)
            else:
                _send(place, aside, elsewhere, to)
            for path in batch:
                path.unlink()
            # Only now: until then, the next compaction would have to remove them.
            (place / _SENDING).unlink(missing_ok=True)
            if progress is not None:
                progress(done, total)
    return Compaction(len(taken), lines, total, after, left, removed)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One compaction at a time; a lock that goes with its process."""
    place = folder / COMPACTED
    place.mkdir(mode=0o700, exist_ok=True)
    with (place / "lock").open("w") as file:
        # Windows has none: there, compactions must be scheduled one at a time.
        with suppress(ModuleNotFoundError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigurationError(
                    f"Another process compacts {str(folder)!r}. One compaction works on a journal at a time. Wait for it."
                ) from None
        yield


def _remove(folder: Path, names: Iterable[str]) -> int:
    """Remove the files of parts that were compacted by a process that was killed before it came to that."""
    removed = 0
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            with suppress(FileNotFoundError):
                path.unlink()
                removed += 1
    return removed


def _send(place: Path, aside: Path, elsewhere: Destination, to: str) -> None:
    """Move what was written to another place; should this process be killed, the next one knows what it was about."""
    text = (aside / "parts.json").read_bytes()
    # The names of parts are those of one machine and process: no other has this number.
    number = str(int.from_bytes(blake2b(text, digest_size=8).digest()))
    (place / _SENDING).write_text(json.dumps({"to": to, "number": number}), encoding="utf-8")
    on_disk(place / _SENDING)
    on_disk(place)
    with _reached(to):
        elsewhere.take(aside, number)
    shutil.rmtree(aside)


def _settled(folder: Path) -> int:
    """Settle what a process was moving when it was killed: it is there as a whole, or not at all; returns removed files."""
    path = folder / COMPACTED / _SENDING
    if not path.exists():
        return 0
    # One that was cut off was so before anything was moved.
    with suppress(json.JSONDecodeError):
        sending = json.loads(path.read_text(encoding="utf-8"))
        elsewhere = destination(sending["to"])
        with _reached(sending["to"]):
            listed = elsewhere.listed(sending["number"])
            if listed is None:
                elsewhere.remove(sending["number"])
        removed = 0 if listed is None else _remove(folder, [part["name"] for part in json.loads(listed)["parts"]])
        path.unlink()
        return removed
    path.unlink()
    return 0


@contextmanager
def _reached(to: str) -> Iterator[None]:
    """Say what is not removed when a place cannot be reached."""
    try:
        yield
    # Whatever the library for the address raises.
    except Exception as error:
        raise ConfigurationError(
            f"Compacted parts cannot be written to {to!r}: {error}. Files stay in the journal until they are there. "
            "See whether the place is there and may be written, and compact again."
        ) from error


def _finished(journal: Journal, idle_s: float, now: float) -> tuple[list[Path], int]:
    """The parts that no process writes any more, in order, and how many others there are."""
    compacted = journal.compacted
    found = [(path, part_of(path.name)) for path in journal.files if path.name not in compacted]
    latest: dict[tuple[str, int, str], int] = {}
    for _, part in found:
        if part is not None:
            writer = part.host, part.pid, part.began
            latest[writer] = max(latest.get(writer, -1), part.number)
    here, taken, left = host_name(), [], 0
    for path, part in found:
        # Other users' files in a shared folder, and files that are not parts of a process, are left alone.
        if part is None or path.parent != journal.folder:
            left += 1
            continue
        is_followed = part.number < latest[part.host, part.pid, part.began]
        has_ended = part.host == here and not writer_is_alive(part.pid)
        if is_followed or has_ended or path.suffix == ".gz" or now - path.stat().st_mtime > idle_s:
            taken.append(path)
        else:
            left += 1
    return taken, left


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in paths:
        batch.append(path)
        size += path.stat().st_size
        if size >= _AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _compacted(folder: Path, paths: Sequence[Path]) -> tuple[Path, int]:
    """Write some parts aside, and put them on the disk; returns the folder, and how many lines they have."""
    import duckdb

    place = folder / COMPACTED
    numbers = [int(path.name) for path in place.iterdir() if path.name.isdigit()]
    number = max(numbers, default=0) + 1
    aside = place / f"new-{number}"
    aside.mkdir(mode=0o700)
    (aside / "spill").mkdir()
    with duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(aside / "spill")}) as database:
        database.execute("SET enable_progress_bar = false")
        database.execute(KEY_OF)
        filled = [str(path) for path in paths if path.stat().st_size]
        events = events_of(files=bool(filled))
        database.execute(f"CREATE TEMP TABLE parts AS {_NAMED} ({events})", {"paths": filled} if filled else None)
        counts = dict(database.execute("SELECT file, count(*) - count(line) FROM parts GROUP BY file").fetchall())
        database.execute("DELETE FROM parts WHERE line IS NULL")
        lines, length, rollouts, folders = database.execute(
            "SELECT count(*), sum(strlen(line)), count(DISTINCT rollout), count(DISTINCT (rollout, floor(t / 86400))) "
            "FROM parts"
        ).fetchall()[0]
        if lines:
            # Rows that each thread holds before it writes them; DuckDB's own number, of rows as long as these, is too much.
            held = int(_BYTES_HELD / (length / lines + _BYTES_OF_COLUMNS))
            database.execute(f"SET partitioned_write_flush_threshold = {min(max(held, 1), _MOST_HELD)}")
            many = rollouts > _MOST_ROLLOUTS or folders > _MOST_FOLDERS
            database.execute(_COPY.format(str(aside / "lines").replace("'", "''")), {"many": many})
            kept = database.execute(
                "SELECT count(*) FROM read_parquet($1, hive_partitioning = false)", [f"{aside / 'lines'}/**/*.parquet"]
            ).fetchall()[0][0]
            if kept != lines:
                raise ConfigurationError(
                    f"Of {lines} lines, {kept} came back from Parquet. Nothing was removed. See whether the disk is full."
                )
    shutil.rmtree(aside / "spill")
    reader = Journal(folder)
    parts = [
        {
            "name": path.name.removesuffix(".gz"),
            "bytes": path.stat().st_size,
            "damaged": counts.get(path.name.removesuffix(".gz"), 0),
            "cut": bool(counts.get(path.name.removesuffix(".gz"))) and reader.is_cut(path),
        }
        for path in paths
    ]
    (aside / "parts.json").write_text(json.dumps({"parts": parts}, indent=1), encoding="utf-8")
    written = [path for path in aside.rglob("*") if path.is_file()]
    for path in [*written, *(each for each in aside.rglob("*") if each.is_dir()), aside]:
        on_disk(path)
    return aside, lines
