"""Spark and DuckDB report the same of a journal, wherever it is."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rollout_sdk import ConfigurationError
from rollout_sdk.analysis.compact import compact
from rollout_sdk.analysis.export import export
from rollout_sdk.journal import Journal
from tests.analysis.random_journals import random_journal
from tests.analysis.test_database import NOW, different, differing, read, reduced

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).resolve().parents[3]


def loaded(path):
    made = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


def report(address, spark):
    from rollout_sdk_spark import report

    return report(str(address), spark=spark)


# The address, and lines that are known to be cut off only of compacted parts.
UNLIKE = (".folder", ".cut")


def held(expected, found):
    """What differs by more than 1e-9."""
    return [each for each in differing(expected, found) if each[0] not in UNLIKE]


@pytest.mark.parametrize(("seed", "is_large"), [(1, False), (7, True)])
def test_spark_and_the_reader_report_the_same_of_random_journals(tmp_path, spark, monkeypatch, seed, is_large):
    if is_large:
        monkeypatch.setattr("rollout_sdk_spark.relations._SMALL", 0)
    random_journal(tmp_path, seed)
    expected = read(tmp_path)
    assert [] == held(expected, report(tmp_path, spark))
    # Only what is compressed is known to be finished: some lines are in Parquet then, and some are not.
    compact(tmp_path)
    assert [] == held(expected, report(tmp_path, spark))
    compact(tmp_path, idle_s=NOW)
    assert [] == held(expected, report(tmp_path, spark))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 60))
def test_spark_and_the_reader_report_the_same_of_40_random_journals(tmp_path, spark, seed):
    random_journal(tmp_path, seed)
    assert [] == held(read(tmp_path), report(tmp_path, spark))


@pytest.mark.parametrize("calls", [4_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_spark_and_duckdb_report_the_same_of_a_large_journal(tmp_path, spark, calls):
    folder = tmp_path / "journal"
    loaded(ROOT / "benchmarks/analysis_scale.py").write(folder, calls, calls // 8)
    expected = reduced(folder)
    assert calls == sum(arm.calls for arm in expected.rollouts[0].phases[0].variants)
    assert [] == held(expected, report(folder, spark))


def test_ids_have_the_same_number_in_spark_and_in_duckdb(spark, tmp_path):
    import duckdb

    from rollout_sdk.analysis.in_duckdb import KEY_OF
    from rollout_sdk_spark.relations import _KEY_OF

    texts = ["", "d1", "ü", "a" * 300, *map(str, range(50))]
    session = spark.newSession()
    session.sql(_KEY_OF)
    session.createDataFrame([(text,) for text in texts], "id STRING").createOrReplaceTempView("ids")
    with duckdb.connect() as database:
        database.execute(KEY_OF)
        theirs = dict(database.execute("SELECT id, key_of(id) FROM (SELECT unnest($1) AS id)", [texts]).fetchall())
    assert theirs == {row[0]: row[1] for row in session.sql("SELECT id, key_of(id) FROM ids").collect()}


@pytest.mark.parametrize("address", ["/no/such/folder", "s3a://bucket/journal", "nothing://x/y"])
def test_an_address_that_cannot_be_read_says_why(spark, address):
    with pytest.raises(ConfigurationError, match=r"There is no journal that Spark can read at .*hadoop-aws"):
        report(address, spark)


def test_a_folder_without_a_journal_and_one_with_calls_twice_are_refused(tmp_path, spark):
    with pytest.raises(ConfigurationError, match="There is no journal at"):
        report(tmp_path, spark)
    random_journal(tmp_path, 1)
    (tmp_path / "events-h-1-1f-1.jsonl").write_bytes((tmp_path / "events-h-1-1f-0.jsonl").read_bytes())
    with pytest.raises(ConfigurationError, match="calls are there twice"):
        report(tmp_path, spark)


def test_the_command_prints_tables_or_json(tmp_path, spark, capsys):
    from rollout_sdk_spark.command import main

    with pytest.raises(SystemExit, match="There is no journal"):
        main(["report", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--conf", "spark.x"])
    random_journal(tmp_path, 1)
    main(["report", str(tmp_path)])
    assert all(each.rollout in capsys.readouterr().out for each in read(tmp_path).rollouts[:1])


def test_the_command_reports_the_same_in_a_spark_of_its_own_as_it_comes(tmp_path, spark):
    """With machine code for statements, and plans that adapt: the other tests do without, to be quick."""
    random_journal(tmp_path, 1)
    command = [sys.executable, "-m", "rollout_sdk_spark", "report", str(tmp_path), "--master", "local[2]", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert ran.returncode == 0, ran.stderr[-4_000:]
    assert [] == [each for each in different(read(tmp_path).as_dict(), json.loads(ran.stdout)) if each[0] not in UNLIKE]


# In a process of its own, as one Java has one Spark. Executors are other processes: one is killed between statements.
KILLS = """
import json, os, signal, sys
from pathlib import Path
from pyspark.sql import SparkSession
from rollout_sdk_spark import report
from rollout_sdk_spark.relations import InSpark

builder = SparkSession.builder.master("local-cluster[2,1,512]").config("spark.executor.memory", "512m")
for setting in sys.argv[2:]:
    builder = builder.config(*setting.split("=", 1))
spark = builder.getOrCreate()
asked, rows = [], InSpark.rows

def executors():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\\0")
        except OSError:
            continue
        if spark.sparkContext.applicationId.encode() in words and words[0].endswith(b"java"):
            yield int(path.parent.name)

def kills(self, query):
    asked.append(query)
    if len(asked) == 5:
        os.kill(next(executors()), signal.SIGKILL)
    return rows(self, query)

InSpark.rows = kills
found = report(sys.argv[1], spark=spark)
print(json.dumps(found.as_dict()))
spark.stop()
"""


def test_an_executor_that_dies_changes_nothing(tmp_path, spark):
    random_journal(tmp_path, 1)
    settings = [
        f"{name}={spark.conf.get(name)}"
        for name in ("spark.ui.enabled", "spark.driver.host", "spark.driver.bindAddress", "spark.sql.codegen.factoryMode",
                     "spark.sql.codegen.wholeStage", "spark.sql.adaptive.enabled", "spark.sql.shuffle.partitions")
    ]  # fmt: skip
    command = [sys.executable, "-c", KILLS, str(tmp_path), *settings]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert ran.returncode == 0, ran.stderr[-4_000:]
    assert "Lost executor" in ran.stderr
    assert [] == [each for each in different(read(tmp_path).as_dict(), json.loads(ran.stdout)) if each[0] not in UNLIKE]


# What `rollout export` writes ----------------------------------------------------------------------------------------------

BY_HAND = """
SELECT variant, count(*) AS units, avg(clicked) AS click_rate
FROM (
    SELECT e.unit, min_by(e.variant, e.time) AS variant, max(coalesce(o.value, 0)) AS clicked
    FROM {exposures} e LEFT JOIN {outcomes} o ON o.decision_id = e.decision_id AND o.metric = 'click'
    WHERE NOT e.excluded AND e.unit IS NOT NULL
    GROUP BY e.unit
)
GROUP BY variant ORDER BY variant
"""


def test_spark_reads_the_tables_of_an_export_as_duckdb_does(tmp_path, spark):
    import duckdb

    random_journal(tmp_path / "journal", 5)
    counts = export(Journal(tmp_path / "journal"), tmp_path / "tables")
    assert min(counts.values()) > 0
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    try:
        with duckdb.connect() as database:
            for name, number in counts.items():
                path = f"{tmp_path}/tables/{name}.parquet"
                frame = spark.read.parquet(path)
                frame.createOrReplaceTempView(name)
                relation = database.sql(f"SELECT * FROM '{path}'")
                assert frame.columns == relation.columns
                found = [tuple(row) for row in frame.collect()]
                assert len(found) == number
                # NaN is not equal to itself.
                assert sorted(map(repr, found)) == sorted(map(repr, relation.fetchall()))
            files = {name: f"'{tmp_path}/tables/{name}.parquet'" for name in counts}
            expected = database.sql(BY_HAND.format_map(files)).fetchall()
        assert len(expected) > 1
        assert max(rate for _, _, rate in expected) > 0
        by_spark = [tuple(row) for row in spark.sql(BY_HAND.format_map({name: name for name in counts})).collect()]
        assert [each[:2] for each in by_spark] == [each[:2] for each in expected]
        assert [each[2] for each in by_spark] == pytest.approx([each[2] for each in expected], rel=1e-9)
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)


# Compaction to an object store: the other way in ---------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a server on this machine that speaks S3's protocol."""
    server = pytest.importorskip("moto.server", reason="moto is not installed; make test-engines runs this")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed; make test-engines runs this")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(use_listings_cache=False)
    # The server of an earlier test left it: it keeps its buckets in this process.
    system.makedirs("bucket", exist_ok=True)
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def test_journals_of_two_machines_are_compacted_into_a_bucket(tmp_path, bucket):
    journals = {host: tmp_path / host for host in "ab"}
    for seed, (host, folder) in enumerate(journals.items(), 3):
        random_journal(folder, seed)
        for path in list(folder.glob("events-*")):
            path.rename(path.with_name(path.name.replace("events-h-", f"events-{host}-")))
    lines = sum(read(folder).lines for folder in journals.values())
    for folder in journals.values():
        assert 3 == compact(folder, to="s3://bucket/shop/journal", idle_s=NOW).parts
        assert [] == Journal(folder).files
        assert 0 == compact(folder, to="s3://bucket/shop/journal", idle_s=NOW).parts
    assert 2 == len(bucket.glob("bucket/shop/journal/compacted/*/parts.json"))
    bucket.get("bucket/shop/journal/", str(tmp_path / "copy"), recursive=True)
    assert (lines, 6) == (read(tmp_path / "copy").lines, len(Journal(tmp_path / "copy").files))


def test_a_bucket_that_is_not_there_keeps_the_files_where_they_are(tmp_path, bucket):
    random_journal(tmp_path, 1)
    before = read(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be written to"):
        compact(tmp_path, to="s3://nobody/journal", idle_s=NOW)
    assert [] == differing(before, read(tmp_path))
