"""The database and the Python reader sum a journal up alike; compaction changes nothing of it, whenever it is killed."""

import json
import math
import random
import re
import signal
import subprocess
import sys
import time
from itertools import zip_longest
from pathlib import Path

import duckdb
import pytest
from attrs import asdict

from rollout_sdk import ABTest, ConfigurationError, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.compact import compact
from rollout_sdk.analysis.gather import gather
from rollout_sdk.analysis.in_duckdb import InDuckDB
from rollout_sdk.analysis.reduced import IrreducibleError, gather_reduced, reduce, sums_of
from rollout_sdk.analysis.relations import statements
from rollout_sdk.analysis.replay import replay
from rollout_sdk.analysis.summary import report_of
from rollout_sdk.doctor import examine
from rollout_sdk.journal import Journal
from rollout_sdk.plan import Criteria
from tests.analysis.random_journals import random_journal

NOW = -1.0
"""Seconds that a part must not have changed: all are taken."""


def flat(value, path=""):
    if isinstance(value, dict):
        for key in value:
            yield from flat(value[key], f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from flat(each, f"{path}[{index}]")
    else:
        yield path, value


def differing(one, other):
    """Every number of two reports that differs by more than 1e-9."""
    return different(one.as_dict(), other.as_dict())


def different(one, other):
    """Every number of two reports as dictionaries that differs by more than 1e-9."""
    one, other = dict(flat(one)), dict(flat(other))
    return [
        (path, one.get(path), other.get(path))
        for path in sorted(one.keys() | other.keys())
        if not _alike(one.get(path), other.get(path))
    ]


def _alike(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def read(folder):
    journal = Journal(folder)
    return report_of(journal, gather(journal))


def reduced(folder):
    journal = Journal(folder)
    return report_of(journal, gather_reduced(journal))


def held(folder, seed):
    """The report of a random journal by both readers, before, amid and after compaction."""
    random_journal(folder, seed)
    expected = read(folder)
    assert [] == differing(expected, reduced(folder))
    # Only what is compressed is known to be finished.
    compact(folder)
    assert [] == differing(expected, read(folder))
    assert [] == differing(expected, reduced(folder))
    compact(folder, idle_s=NOW)
    assert [] == [path.name for path in folder.glob("events-*")]
    assert [] == differing(expected, read(folder))
    assert [] == differing(expected, reduced(folder))


@pytest.mark.parametrize("seed", range(12))
def test_the_database_and_the_reader_report_the_same_of_random_journals(tmp_path, seed):
    held(tmp_path / "journal", seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 212))
def test_the_database_and_the_reader_report_the_same_of_200_random_journals(tmp_path, seed):
    held(tmp_path / "journal", seed)


def test_what_the_sdk_writes_is_reduced_by_the_database(tmp_path):
    runtime = Runtime(journal=tmp_path)

    @rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="plain", runtime=runtime)
    def model(user):
        return 0

    for number in range(200):
        routed = model.rollout.route(f"u-{number % 50}")
        model.rollout.record("click", number % 2, decision_id=routed.decision.id)
    runtime.close(10.0)
    with InDuckDB(Journal(tmp_path)) as relations:
        counted = relations.database.execute("SELECT event, count(*) FROM events WHERE is_plain GROUP BY event ORDER BY 1")
        assert [("decision", 200), ("outcome", 200)] == counted.fetchall()
    assert [] == differing(read(tmp_path), reduced(tmp_path))


@pytest.mark.parametrize("seed", range(4))
def test_units_in_several_arms_phases_and_sets_are_counted_alike(tmp_path, seed):
    rng = random.Random(seed)
    decision = {"event": "decision", "v": 1, "rollout": "r", "strategy": "canary", "reason": "split"}
    outcome = {"event": "outcome", "v": 1, "rollout": "r"}
    lines, units = [], (60, 900)[seed % 2]
    for number in range(3_000):
        # Many come at once, as far as clocks can tell: then buckets say who came first.
        at = {
            "t": float(1_000 + number // 50),
            "phase": f"{number // 1_500}:x",
            "fingerprint": "f1" if number < 2_000 else "f2",
        }
        unit = int(rng.paretovariate(1.0)) % units if rng.random() < 0.3 else rng.randrange(units)
        variant = "v2" if random.Random(unit).random() < 0.4 or rng.random() < 0.02 else "control"
        who = {"unit": f"{unit:016x}"} if rng.random() < 0.9 else {}
        call = {**decision, **at, "id": f"d{number}", "variant": variant, "served": variant, "bucket": unit % 512, **who}
        # Some are read line by line: those of one unit are counted together.
        runs = [[variant, rng.expovariate(10), None, None]] + [["control", 0.1, None, None]] * (rng.random() < 0.2)
        lines.append({**call, "runs": runs})
        for metric, value in (("click", 1), ("amount", rng.lognormvariate(1, 2)), ("share", rng.random()), ("same", 0.1)):
            if rng.random() < 0.4:
                where = {"id": f"d{number}"} if rng.random() < 0.9 or not who else who
                for _ in range(rng.choice([1, 1, 3])):
                    said = {"t": 2_000 + rng.random() if "id" in where else at["t"], "fingerprint": at["fingerprint"]}
                    lines.append({**outcome, **said, "metric": metric, "value": value, **where})
    rng.shuffle(lines)
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (tmp_path / "events-h-1-1f-0.jsonl").write_text(text)
    by_reader, by_database = read(tmp_path), reduced(tmp_path)
    assert [] == differing(by_reader, by_database)
    last = by_reader.rollouts[-1]
    assert min(last.crossed.units, last.others[0].shared, last.others[0].switched) > 0
    compact(tmp_path, idle_s=NOW)
    assert [] == differing(by_reader, reduced(tmp_path))


def test_sums_by_bucket_add_up_to_those_of_the_arms(tmp_path):
    random_journal(tmp_path / "journal", 3)
    with InDuckDB(Journal(tmp_path / "journal")) as relations:
        relations.prepare()
        calls = sum(row[6] for row in relations.reduced("buckets"))
        total = math.fsum(row[8] for row in relations.reduced("buckets"))
        ((of_arms,),) = relations.rows("SELECT SUM(many) FROM calls WHERE NOT excluded")
        assert calls == of_arms
        ((of_arms, others),) = relations.rows(
            "SELECT SUM(CASE WHEN NOT excluded THEN value * many END), SUM(CASE WHEN NOT excluded THEN 0 ELSE 1 END) "
            "FROM paired"
        )
        assert total == pytest.approx(of_arms)
        assert others > 0
    assert calls > 100


def test_a_journal_whose_calls_are_there_twice_is_left_to_the_reader(tmp_path):
    folder = tmp_path / "journal"
    random_journal(folder, 1)
    copy = (folder / "events-h-1-1f-0.jsonl").read_bytes()
    (folder / "events-h-1-1f-1.jsonl").write_bytes(copy)
    with pytest.raises(IrreducibleError):
        gather_reduced(Journal(folder))
    twice = Journal(folder)
    with InDuckDB(twice) as database:
        assert [] == differing(read(folder), report_of(twice, sums_of(twice, database=database)))


def test_a_large_journal_is_summed_up_by_the_database_and_one_of_a_selection_is_not(tmp_path, monkeypatch):
    random_journal(tmp_path / "journal", 1)
    expected = summarise(tmp_path / "journal")
    selected = summarise(tmp_path / "journal", phase="0")
    asked = []
    monkeypatch.setattr("rollout_sdk.analysis.reduced._LARGE", 0)
    monkeypatch.setattr(
        "rollout_sdk.analysis.reduced.reduce", lambda journal, *rest: asked.append(journal) or reduce(journal, *rest)
    )
    assert [] == differing(expected, summarise(tmp_path / "journal"))
    assert 1 == len(asked)
    assert asdict(selected) == asdict(summarise(tmp_path / "journal", phase="0"))
    assert 1 == len(asked)


def test_rollouts_without_number_are_left_out_alike(tmp_path):
    line = (
        '{{"event":"decision","v":1,"t":1.0,"rollout":"r{0}","id":"d{0}","strategy":"ab","phase":"0","variant":"c","served":"c"'
    )
    rest = ',"reason":"split","bucket":1}}\n'
    (tmp_path / "events-h-1-1f-0.jsonl").write_text("".join((line + rest).format(number) for number in range(3_000)))
    by_reader, by_database = read(tmp_path), reduced(tmp_path)
    assert (2_000, 1_000) == (by_reader.skipped["over the limit"], len(by_reader.rollouts))
    assert (2_000, 1_000) == (by_database.skipped["over the limit"], len(by_database.rollouts))


def test_values_near_the_largest_stop_no_report(tmp_path):
    decision = {
        "event": "decision", "v": 1, "t": 1.0, "rollout": "r", "id": "d", "strategy": "ab", "phase": "0", "variant": "c",
        "served": "c", "reason": "split", "bucket": 1,
    }  # fmt: skip
    lines = [{**decision, "id": f"d{number}", "unit": f"u{number}"} for number in range(4)]
    outcome = {"event": "outcome", "v": 1, "t": 2.0, "rollout": "r", "metric": "m"}
    lines += [{**outcome, "id": f"d{number}", "value": value} for number, value in enumerate([1e308, 1e308, -1e308, 5.0])]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (tmp_path / "events-h-1-1f-0.jsonl").write_text(text)
    for report in (read(tmp_path), reduced(tmp_path), summarise(tmp_path)):
        (metric,) = report.rollouts[0].phases[0].variants[0].metrics
        assert 4 == metric.outcomes
        json.dumps(report.as_dict(), allow_nan=False)


def test_a_time_that_no_clock_shows_stops_neither_report_nor_replay(tmp_path):
    line = '{{"event":"decision","v":1,"t":{1},"rollout":"r","id":"d{0}","strategy":"ab","phase":"0","variant":"c","served":"c"'
    rest = ',"reason":"split","bucket":1}}\n'
    times = [10.0, 1e300, 1.7e12, 1.5e300]
    (tmp_path / "events-h-1-1f-0.jsonl").write_text("".join((line + rest).format(*each) for each in enumerate(times)))
    assert 4 == summarise(tmp_path).rollouts[0].phases[0].variants[0].calls
    assert [] == differing(read(tmp_path), reduced(tmp_path))
    assert [] == list(replay(tmp_path, Criteria(), rollout="r").phases)


# Compaction ---------------------------------------------------------------------------------------------------------------


def test_a_compaction_holds_few_rows_where_lines_are_long(tmp_path, monkeypatch):
    monkeypatch.setattr("rollout_sdk.analysis.compact._BYTES_HELD", 1 << 20)
    line = (
        '{{"event":"decision","v":1,"t":1.0,"rollout":"r","id":"d{0}","strategy":"ab","phase":"0","variant":"c","served":"c"'
        ',"reason":"split","bucket":1,"error":"{1}"}}\n'
    )
    (tmp_path / "events-h-1-1f-0.jsonl").write_text("".join(line.format(number, "x" * 1_000) for number in range(20_000)))
    assert 20_000 == compact(tmp_path, idle_s=NOW).lines
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    groups = duckdb.execute(
        "SELECT max(row_group_num_rows), sum(num_values) FROM parquet_metadata($1) WHERE path_in_schema = 'event'",
        [f"{tmp_path}/compacted/**/*.parquet"],
    ).fetchall()[0]
    assert groups[0] < 5_000
    assert 20_000 == groups[1]


COMPACT = (
    "import sys; from rollout_sdk.analysis.compact import compact; print('begun', flush=True); compact(sys.argv[1], idle_s=-1)"
)


def test_a_compaction_that_is_killed_at_any_time_loses_and_doubles_nothing(tmp_path):
    folder, rng = tmp_path / "journal", random.Random(1)
    random_journal(folder, 5)
    expected, killed = read(folder), 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", COMPACT, str(folder)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert [] == differing(expected, read(folder))
    assert killed
    compact(folder, idle_s=NOW)
    assert ([], []) == (differing(expected, read(folder)), [*folder.glob("events-*"), *folder.glob("compacted/new-*")])


def test_a_kill_between_the_rename_and_the_removal_is_made_good(tmp_path):
    folder = tmp_path / "journal"
    random_journal(folder, 6)
    kept = {path.name: path.read_bytes() for path in folder.glob("events-*")}
    expected = read(folder)
    compact(folder, idle_s=NOW)
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    assert ([], []) == (differing(expected, read(folder)), differing(expected, reduced(folder)))
    assert (3, 0) == ((done := compact(folder, idle_s=NOW)).removed, done.parts)
    assert [] == differing(expected, read(folder))


def test_a_process_that_writes_keeps_its_file_and_nothing_is_lost(tmp_path):
    runtime = Runtime(journal=tmp_path)

    @rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="written", runtime=runtime)
    def model(user):
        return 0

    for turn in range(4):
        for number in range(50):
            model(f"u-{turn}-{number}")
        assert runtime.flush(10.0)
        assert (0, 1) == ((done := compact(tmp_path)).parts, done.left)
    runtime.close(10.0)
    expected = read(tmp_path)
    assert 1 == compact(tmp_path, idle_s=NOW).parts
    assert [] == differing(expected, read(tmp_path))
    assert 200 == sum(arm.calls for arm in read(tmp_path).rollouts[0].phases[0].variants)


def test_two_compactions_at_once_are_refused(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    random_journal(tmp_path / "journal", 1)
    place = tmp_path / "journal" / "compacted"
    place.mkdir()
    with (place / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="Another process compacts"):
            compact(tmp_path / "journal")


def test_lines_are_in_parquet_by_rollout_and_day(tmp_path):
    random_journal(tmp_path / "journal", 1)
    done = compact(tmp_path / "journal", idle_s=NOW)
    folders = {
        str(path.parent.relative_to(tmp_path / "journal/compacted/1/lines")) for path in Path(tmp_path).rglob("*.parquet")
    }
    assert {"rollout_key=a/day=1970-01-01", "rollout_key=list/day=1970-01-01"} <= folders
    assert done.lines + 10 > sum(len(list(path.open("rb"))) for path in tmp_path.glob("*.jsonl"))


def test_a_part_that_is_missing_is_still_missed_after_compaction(tmp_path):
    folder = tmp_path / "journal"
    random_journal(folder, 1)
    (folder / "events-h-1-1f-0.jsonl").rename(folder / "events-h-1-1f-2.jsonl")
    missing = read(folder).missing
    compact(folder, idle_s=NOW)
    assert ("events-h-1-1f-0.jsonl", "events-h-1-1f-1.jsonl") == missing == read(folder).missing == reduced(folder).missing


def test_the_doctor_reads_what_is_compacted(tmp_path):
    folder = tmp_path / "journal"
    random_journal(folder, 1)
    before = examine(str(folder), environment={}, now=5_000.0).journal
    compact(folder, idle_s=NOW)
    after = examine(str(folder), environment={}, now=5_000.0).journal
    assert (before.report.lines, before.operations) == (after.report.lines, after.operations)


def test_compacted_parts_are_read_by_turns_on_one_connection(tmp_path, monkeypatch):
    random_journal(tmp_path, 1)
    expected = [list(Journal(tmp_path).records_of(path)) for path in Journal(tmp_path).files]
    compact(tmp_path, idle_s=NOW)
    opened, connect = [], duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *args, **named: opened.append(1) or connect(*args, **named))
    journal = Journal(tmp_path)
    parts = [[] for _ in journal.files]
    for rows in zip_longest(*map(journal.records_of, journal.files)):
        for part, row in zip(parts, rows, strict=True):
            part.extend([] if row is None else [row])
    assert (expected, 1) == (parts, len(opened))
    assert 3 == len(journal.compacted)


def test_without_duckdb_a_compacted_journal_says_what_to_install(tmp_path, monkeypatch):
    random_journal(tmp_path / "journal", 1)
    compact(tmp_path / "journal", idle_s=NOW)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationError, match=r"rollout-sdk\[analysis\]"):
        read(tmp_path / "journal")
    with pytest.raises(ConfigurationError, match=r"rollout-sdk\[analysis\]"):
        compact(tmp_path / "journal")


def test_the_statements_are_plain_sql_that_spark_reads():
    sqlglot = pytest.importorskip("sqlglot", reason="sqlglot is not installed")

    def understood(query, by):
        (tree,) = sqlglot.parse(query, read=by)
        # Casts that fail, division by zero, and nulls in an order or a list differ; there is none of these.
        text = tree.sql("duckdb").replace("TRY_CAST(", "CAST(").replace(" NULLS FIRST", "")
        return re.sub(r" FILTER\(WHERE [^()]*\)", "", re.sub(r"NULLIF\(([\w.]+), 0\)", r"\1", text))

    for name, statement in statements().items():
        assert understood(statement.query, "spark") == understood(statement.query, "duckdb"), name


def test_no_statement_counts_what_is_different_in_each_line():
    """DuckDB holds in memory all that COUNT(DISTINCT) has seen, and the calls of 100 million lines do not fit. Groups do."""
    counted = {each for statement in statements().values() for each in re.findall(r"COUNT\(DISTINCT (\w+)\)", statement.query)}
    assert counted == {"metric"}
