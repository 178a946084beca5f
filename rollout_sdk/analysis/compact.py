"""Compaction of a journal: JSON lines become Parquet, by rollout and day, while processes go on writing.

Only finished parts are taken, which no process writes any more. All of them are written aside, counted, and put on the disk;
then one rename says that they are there, and only after that are their files removed. A compaction that is killed has changed
nothing, or has left files that the next one removes; a reader takes a part from one of the two, never from both.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

from rollout_sdk.analysis.relations import KEY_OF, events_of
from rollout_sdk.concurrency.clocks import time
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.journal import Journal
from rollout_sdk.journal.compacted import COMPACTED
from rollout_sdk.journal.parts import part_of, writer_is_alive
from rollout_sdk.journal.writer import host_name

__all__ = ["Compaction", "compact"]

_IDLE_S = 86_400.0
_AT_ONCE = 1 << 29
_MOST_ROLLOUTS = 1_000
_MOST_FOLDERS = 20_000
_MEMORY = "1GB"
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
    idle_s: float = _IDLE_S,
    now: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Compaction:
    """Turn the finished parts of a journal into Parquet, by rollout and day.

    A part is taken when a later one of its process is there, when its process has ended on this machine, when it is compressed,
    or when it was not changed for `idle_s`.

    Args:
        folder: Folder of the journal.
        idle_s: Seconds after which a part of a process elsewhere is taken to be finished.
        now: The time, in seconds since 1970; the clock's by default.
        progress: Called with the bytes compacted so far, and with how many there are.

    Raises:
        ConfigurationError: There is no such folder, another compaction is at work on it, or DuckDB is not installed.
    """
    try:
        import duckdb  # noqa: F401  # asked for before anything is changed
    except ModuleNotFoundError:
        raise ConfigurationError(
            "DuckDB is not installed. A journal is compacted with it. Run: pip install 'rollout-sdk[analysis]'."
        ) from None
    journal = Journal(folder)
    with _alone(journal.folder):
        for unfinished in journal.folder.glob(f"{COMPACTED}/new-*"):
            shutil.rmtree(unfinished)
        removed = _remove_taken(journal)
        taken, left = _finished(journal, idle_s, time() if now is None else now)
        total, done = sum(path.stat().st_size for path in taken), 0
        lines = after = 0
        for batch in _batches(taken):
            written = _compact(journal.folder, batch)
            lines, after = lines + written[0], after + written[1]
            done += sum(path.stat().st_size for path in batch)
            for path in batch:
                path.unlink()
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


def _remove_taken(journal: Journal) -> int:
    """Remove the files of parts that were compacted by a process that was killed before it came to that."""
    removed = 0
    for name in journal.compacted:
        for path in (journal.folder / name, journal.folder / f"{name}.gz"):
            with suppress(FileNotFoundError):
                path.unlink()
                removed += 1
    return removed


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


def _compact(folder: Path, paths: Sequence[Path]) -> tuple[int, int]:
    """Write some parts; returns how many lines they have, and the bytes that were written."""
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
        lines, rollouts, folders = database.execute(
            "SELECT count(*), count(DISTINCT rollout), count(DISTINCT (rollout, floor(t / 86400))) FROM parts"
        ).fetchall()[0]
        if lines:
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
        _on_disk(path)
    aside.rename(place / str(number))
    _on_disk(place)
    return lines, sum(path.stat().st_size for path in (place / str(number)).rglob("*.parquet"))


def _on_disk(path: Path) -> None:
    with suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
