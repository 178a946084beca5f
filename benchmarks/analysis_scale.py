"""Time and memory of a report of a large journal, compared with a bare DuckDB query over the same files, in one run.

    python benchmarks/analysis_scale.py [--calls 10000000] [--units 1200000] [--python] [--spark] [--direct] [--keep DIR]

Writes a journal of an A/B test (half as many outcomes as calls, Pareto-distributed activity), and summarises it: the JSON lines
in the database, and the same after compaction; `bare` is a GROUP BY in DuckDB with the same join of outcomes to calls, which
returns only calls and sums by arm and metric. Ratios are of processor time; memory is the peak of a separate process. With
`--python`, the Python reader reads it, too, and with `--spark`, Spark on the processors of this machine. With `--direct`, there
are no JSON lines: `large_journal.py` writes what compaction would. These figures do not include the verdict, which is computed
line by line.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PARTS = 8
BARE = {
    "json": "(SELECT json->>'event' AS event, json->>'id' AS id, json->>'variant' AS variant, json->>'metric' AS metric, "
    "(json->>'value')::DOUBLE AS value FROM read_json_objects('{0}/*.jsonl', format = 'newline_delimited'))",
    "parquet": "(SELECT event, call AS id, variant, metric, value FROM "
    "read_parquet('{0}/compacted/*/lines/**/*.parquet', hive_partitioning = false))",
}
QUERY = """
WITH events AS MATERIALIZED {0}
SELECT variant, '' AS metric, count(*), 0 FROM events WHERE event = 'decision' GROUP BY variant
UNION ALL
SELECT d.variant, o.metric, count(*), sum(o.value) FROM events o JOIN events d ON o.id = d.id
WHERE o.event = 'outcome' AND d.event = 'decision' GROUP BY d.variant, o.metric
"""


def write(folder: Path, calls: int, units: int) -> None:
    """The journal."""
    rng = random.Random(1)
    folder.mkdir(parents=True)
    common = '"rollout":"shop.search","strategy":"ab","phase":"0:50%","fingerprint":"3f2a8c11"'
    for part in range(PARTS):
        with (folder / f"events-h-{part + 1}-1f-0.jsonl").open("w") as file:
            file.write(
                f'{{"event":"journal","v":1,"t":1.0,"sdk":"0.1","pid":{part + 1},"host":"h","began":"1f","part":0}}\n'
                f'{{"event":"rollout","v":1,"t":2.0,{common},"control":'
                '"control","status":"running","shares":{"control":0.5,"v2":0.5}}\n'
            )
            for number in range(calls // PARTS):
                unit = int(rng.paretovariate(1.2) * 50) % units if rng.random() < 0.3 else rng.randrange(units)
                hashed = unit * 11400714819323198485 & (1 << 64) - 1
                variant = "control" if hashed >> 63 else "v2"
                moment = 1.7e9 + number * 0.05
                name = f"MR9zaG9wLnNlYXJjaB8wOjUwJR9jb250cm9sHzM5HzFhMjI2ZmQ5YjYzH2RkNTVmZWUw{part:02x}{number:08x}HxU"
                file.write(
                    f'{{"event":"decision","v":1,"t":{moment:.6f},{common},"id":"{name}","variant":"{variant}","served":'
                    f'"{variant}","reason":"split","propensity":0.5,"share":0.5,"bucket":{hashed & 511},"unit":"{hashed:016x}",'
                    f'"runs":[["{variant}",{rng.expovariate(100):.9f},null,null]]}}\n'
                )
                if rng.random() < 0.5:
                    metric, value = (
                        ("click", rng.randrange(2)) if rng.random() < 0.8 else ("amount", round(rng.expovariate(0.1), 2))
                    )
                    file.write(
                        f'{{"event":"outcome","v":1,"t":{moment + 60:.6f},{common},"metric":"{metric}","value":{value},'
                        f'"id":"{name}","variant":"{variant}","bucket":{hashed & 511},"decided":{moment:.6f}}}\n'
                    )


def measure(what: str, folder: str) -> dict[str, float]:
    """Seconds and peak memory of one reading, in this process."""
    began, spent = time.perf_counter(), time.process_time()
    _READINGS[what](folder)
    # Spark's Java is a child, and has ended.
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() - spent + children.ru_utime + children.ru_stime
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": spent,
        "peak_mb": max(own.ru_maxrss, children.ru_maxrss) / 1024,
    }


def _ours(folder: str) -> None:
    from rollout_sdk.analysis.reduced import gather_reduced
    from rollout_sdk.analysis.summary import report_of
    from rollout_sdk.journal import Journal

    journal = Journal(folder)
    report_of(journal, gather_reduced(journal))


def _python(folder: str) -> None:
    from rollout_sdk.analysis.gather import gather
    from rollout_sdk.analysis.summary import report_of
    from rollout_sdk.journal import Journal

    journal = Journal(folder)
    report_of(journal, gather(journal))


def _spark(folder: str) -> None:
    from pyspark.sql import SparkSession

    from rollout_sdk_spark import report

    settings = {"spark.driver.memory": "4g", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    session = SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()
    report(folder, spark=session)
    gateway = session.sparkContext._gateway  # There is no other way to its process
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _bare(form: str) -> Callable[[str], None]:
    def bare(folder: str) -> None:
        import duckdb

        with duckdb.connect(config={"memory_limit": "1GB"}) as database:
            database.execute(QUERY.format(BARE[form].format(folder))).fetchall()

    return bare


def _compact(folder: str) -> None:
    from rollout_sdk.analysis.compact import compact

    compact(folder, idle_s=-1)


_READINGS = {
    "bare DuckDB, JSON lines": _bare("json"),
    "report, JSON lines": _ours,
    "report, Spark, JSON lines": _spark,
    "report in Python": _python,
    "compact": _compact,
    "bare DuckDB, Parquet": _bare("parquet"),
    "report, Parquet": _ours,
    "report, Spark, Parquet": _spark,
}
_OPTIONAL = {"report in Python": "python", "report, Spark, JSON lines": "spark", "report, Spark, Parquet": "spark"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000_000, help="calls (10 million); half as many outcomes")
    parser.add_argument("--units", type=int, default=1_200_000, help="units (1.2 million)")
    parser.add_argument("--python", action="store_true", help="read with the Python reader, too")
    parser.add_argument("--spark", action="store_true", help="read with rollout-sdk-spark, too")
    parser.add_argument(
        "--direct", action="store_true", help="write Parquet without the text of lines, for the largest journals"
    )
    parser.add_argument("--keep", type=Path, help="folder for the journal, which stays")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    with tempfile.TemporaryDirectory() as aside:
        folder = (options.keep or Path(aside)) / "journal"
        if options.direct:
            size = ["--calls", str(options.calls), "--units", str(options.units)]
            writer = Path(__file__).with_name("large_journal.py")
            # Another process, because a child begins with its parent's peak of memory.
            subprocess.run([sys.executable, str(writer), str(folder), *size, "--without-lines"], check=True)
        else:
            write(folder, options.calls, options.units)
        found = {}
        print(f"{'':28}{'wall s':>9}{'cpu s':>9}{'peak MB':>9}")
        for what in _READINGS:
            if what in _OPTIONAL and not getattr(options, _OPTIONAL[what]):
                continue
            if options.direct and "Parquet" not in what:
                continue
            # A separate process, because the peak of memory never decreases.
            done = subprocess.run(
                [sys.executable, __file__, "--one", what, str(folder)], capture_output=True, text=True, check=True
            )
            found[what] = json.loads(done.stdout.splitlines()[-1])
            print(f"{what:28}" + "".join(f"{found[what][each]:>9.1f}" for each in ("wall_s", "cpu_s", "peak_mb")), flush=True)
        for form in ("Parquet",) if options.direct else ("JSON lines", "Parquet"):
            ratio = found[f"report, {form}"]["cpu_s"] / found[f"bare DuckDB, {form}"]["cpu_s"]
            print(f"report over bare DuckDB, {form}: {ratio:.1f}x")


if __name__ == "__main__":
    main()
