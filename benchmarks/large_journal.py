"""Writes a compacted journal of an A/B test, as large as one likes: the Parquet that `rollout compact` would write.

    python benchmarks/large_journal.py DIR [--calls 10000000] [--units 1200000] [--without-lines]

Half as many outcomes as calls, Pareto-distributed activity. DuckDB writes the rows by itself, a compaction for each million
calls, because a hundred million lines of JSON take an hour to write, and another to be compacted. Reports do not read the text
of lines whose columns say everything, as all of these; `--without-lines` leaves it out, which takes a fifth of the time.
`--check` compacts the lines of a small journal, and compares every column.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import duckdb

from rollout_sdk.analysis.compact import compact
from rollout_sdk.analysis.in_duckdb import KEY_OF

AT_ONCE = 1_000_000

_COMMON = '"rollout":"shop.search","strategy":"ab","phase":"0:50%","fingerprint":"3f2a8c11"'
_BEGIN = (
    f'{{"event":"journal","v":1,"t":1.0,"sdk":"0.1","pid":1,"host":"h","began":"1f","part":0}}\n{{"event":"rollout","v":1,"t":2.0,{_COMMON},'
    '"control":"control","status":"running","shares":{"control":0.5,"v2":0.5}}\n'
)
# A number in [0, 1) for each call and purpose, the same in every run.
_UNIFORM = "CREATE TEMP MACRO uniform(number, purpose) AS (hash(number, purpose) >> 11) / 9007199254740992.0"
_CALLS = """
CREATE TEMP MACRO calls(first, after, units) AS TABLE
SELECT *, CAST('0x' || substr(unit, 14) AS BIGINT) & 511 AS bucket,
    CASE WHEN substr(unit, 1, 1) >= '8' THEN 'control' ELSE 'v2' END AS variant
FROM (
    SELECT number, round(1.7e9 + number * 0.00625, 6) AS t, round(-ln(1 - uniform(number, 4)) / 100, 9) AS run_s,
        'MR9zaG9wLnNlYXJjaB8wOjUwJR9jb250cm9sHzM5HzFhMjI2ZmQ5YjYzH2RkNTVmZWUw' || printf('%010x', number) || 'HxU' AS name,
        printf('%016x', hash(CASE WHEN uniform(number, 1) < 0.3
            THEN CAST(least(pow(1 - uniform(number, 2), -1 / 1.2) * 50, 1e15) AS BIGINT) % units
            ELSE CAST(floor(uniform(number, 3) * units) AS BIGINT) END)) AS unit,
        uniform(number, 5) < 0.5 AS has_outcome, CASE WHEN uniform(number, 6) < 0.8 THEN 'click' ELSE 'amount' END AS metric,
        CASE WHEN uniform(number, 6) < 0.8 THEN floor(uniform(number, 7) * 2)
            ELSE round(-10 * ln(1 - uniform(number, 7)), 2) END AS value
    FROM range(first, after) each(number)
)
"""
_ROWS = """
CREATE TEMP MACRO rows(first, after, units) AS TABLE
SELECT 'decision' AS event, t, key_of(name) AS call, unit, unit AS cluster, bucket, 0.5 AS share, 'split' AS reason, variant,
    variant AS ran, run_s, CAST(NULL AS VARCHAR) AS id, CAST(NULL AS VARCHAR) AS metric, CAST(NULL AS DOUBLE) AS value,
    {call} AS line
FROM calls(first, after, units)
UNION ALL BY NAME
SELECT 'outcome' AS event, round(t + 60, 6) AS t, key_of(name) AS call, name AS cluster, bucket, variant, name AS id, metric,
    value, {outcome} AS line
FROM calls(first, after, units)
WHERE has_outcome
"""
# The line that a row would come from.
_CALL_LINE = (
    f"""format('{{{{"event":"decision","v":1,"t":{{:.6f}},{_COMMON},"id":"{{}}","variant":"{{}}","served":"{{}}","reason":"split","""
    """"propensity":0.5,"share":0.5,"bucket":{},"unit":"{}","runs":[["{}",{:.9f},null,null]]}}', """
    "t, name, variant, variant, bucket, unit, variant, run_s)"
)
_OUTCOME_LINE = (
    f"""format('{{{{"event":"outcome","v":1,"t":{{:.6f}},{_COMMON},"metric":"{{}}","value":{{:.2f}},"id":"{{}}","variant":"{{}}","""
    """"bucket":{},"decided":{:.6f}}}', round(t + 60, 6), metric, value, name, variant, bucket, t)"""
)
_COPY = """
COPY (
    SELECT * FROM (SELECT * FROM '{like}' LIMIT 0)
    UNION ALL BY NAME
    SELECT *, '{name}' AS file, 'shop.search' AS rollout, '3f2a8c11' AS fingerprint, '0:50%' AS phase, 'ab' AS strategy,
        1 AS many, false AS excluded, 0 AS fell_back, 0 AS closed, 0 AS failed, false AS is_position,
        'default' AS comparator, true AS is_plain, row_number() OVER () AS number, 'shop.search' AS rollout_key,
        strftime(make_timestamp(CAST(t * 1e6 AS BIGINT)), '%Y-%m-%d') AS day
    FROM rows({first}, {after}, {units})
) TO '{to}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (rollout_key, day), ROW_GROUP_SIZE 122880)
"""


def write(folder: Path, calls: int, units: int, *, has_lines: bool = True) -> None:
    """Write the journal: its first lines are compacted, the others are written in the same columns."""
    folder.mkdir(parents=True)
    (folder / "events-h-1-1f-0.jsonl").write_text(_BEGIN, encoding="utf-8")
    compact(folder, idle_s=-1)
    ((like, *_),) = [sorted(folder.glob("compacted/1/lines/rollout_key=shop.search/*/*.parquet"))]
    lines = (_CALL_LINE, _OUTCOME_LINE) if has_lines else ("NULL", "NULL")
    rows = _ROWS.format(call=lines[0], outcome=lines[1])
    with duckdb.connect() as database:
        for statement in ("SET enable_progress_bar = false", KEY_OF, _UNIFORM, _CALLS, rows):
            database.execute(statement)
        for place, first in enumerate(range(0, calls, AT_ONCE)):
            name, to = f"events-h-{place + 2}-1f-0.jsonl", folder / "compacted" / str(place + 2)
            to.mkdir()
            after = min(first + AT_ONCE, calls)
            database.execute(_COPY.format(like=like, name=name, first=first, after=after, units=units, to=to / "lines"))
            parts = [{"name": name, "bytes": 450 * (after - first), "damaged": 0, "cut": False}]
            (to / "parts.json").write_text(json.dumps({"parts": parts}), encoding="utf-8")


def check() -> None:
    """Compare a small journal with what `rollout compact` makes of its lines."""
    with tempfile.TemporaryDirectory() as aside, duckdb.connect() as database:
        ours, theirs = Path(aside) / "ours", Path(aside) / "theirs"
        write(ours, 20_000, 2_000)
        theirs.mkdir()
        files = "read_parquet('{}/compacted/*/lines/**/*.parquet', hive_partitioning = false)"
        rows = database.execute(f"SELECT file, line FROM {files.format(ours)} ORDER BY file, number").fetchall()
        for file, line in rows:
            with (theirs / file).open("a", encoding="utf-8") as to:
                to.write(f"{line}\n")
        compact(theirs, idle_s=-1)
        one, other = (f"SELECT * EXCLUDE number FROM {files.format(folder)}" for folder in (ours, theirs))
        for left, right in ((one, other), (other, one)):
            found = database.execute(f"{left} EXCEPT {right} LIMIT 2").fetchall()
            if found:
                sys.exit(f"These rows are not alike: {found}")
        print(f"{len(rows)} rows are alike.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where to write it")
    parser.add_argument("--calls", type=int, default=10_000_000, help="calls (10 million); half as many outcomes")
    parser.add_argument("--units", type=int, default=1_200_000, help="units (1.2 million)")
    parser.add_argument("--without-lines", action="store_true", help="leave out the text of lines")
    parser.add_argument("--check", action="store_true", help="compare a small one with what `rollout compact` writes")
    options = parser.parse_args()
    if options.check:
        check()
    elif options.folder is None:
        parser.error("a folder is needed")
    else:
        write(options.folder, options.calls, options.units, has_lines=not options.without_lines)


if __name__ == "__main__":
    main()
