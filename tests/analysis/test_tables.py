"""A journal as tables, and outcomes of a file in a journal."""

import csv
import json
import os
import sys
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, ConfigurationError, Runtime, rollout
from rollout_sdk.analysis import read, summarise
from rollout_sdk.analysis.export import TABLES
from rollout_sdk.cli import main
from rollout_sdk.journal import read_journal
from tests.analysis.random_journals import random_journal

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC).timestamp() + 3_600
"""After every call of these tests, however late they run."""


def run(*words, **environment):
    return CliRunner(env=environment).invoke(main, list(map(str, words)), catch_exceptions=False)


# Export -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path):
    """A random journal, exported to Parquet."""
    random_journal(tmp_path / "journal", 1)
    done = run("export", tmp_path / "journal", "--to", tmp_path / "out")
    # Some of its lines are damaged.
    assert (6, True) == (done.exit_code, "cannot be read; the above is of the others" in done.stderr), done.output
    return tmp_path / "out"


def select(query):
    return duckdb.sql(query).fetchall()


def test_the_tables_have_the_rows_of_the_journal_each_once(tables, tmp_path):
    events = Counter(record["event"] for record in read_journal(tmp_path / "journal"))
    counts = {name: select(f"SELECT count(*) FROM '{tables}/{name}.parquet'")[0][0] for name in TABLES}
    assert (events["decision"], events["shadow"]) == (counts["exposures"], counts["shadows"])
    # Two processes tell of one transition, and some outcomes were recorded twice.
    assert (1, True) == (counts["transitions"], 100 < counts["outcomes"] < events["outcome"])


def test_the_tables_say_of_calls_and_means_what_the_report_says(tables, tmp_path):
    (reported,) = [each for each in summarise(tmp_path / "journal").rollouts if each.fingerprint == "f2"]
    calls = {(phase.phase, arm.variant): arm.calls for phase in reported.phases for arm in phase.variants}
    exposures, outcomes = (f"'{tables}/{name}.parquet'" for name in ("exposures", "outcomes"))
    where = "rollout = 'a' AND fingerprint = 'f2' AND NOT excluded"
    assert calls == {
        (phase, variant): count
        for phase, variant, count in select(
            f"SELECT phase, variant, sum(stands_for) FROM {exposures} WHERE {where} GROUP BY ALL"
        )
    }
    # Outcomes of units are joined by time, as docs/warehouse.md shows.
    by_id = f"SELECT * FROM {outcomes} WHERE decision_id IS NOT NULL"
    arms = f"SELECT * FROM {exposures} WHERE {where}"
    total = select(f"SELECT count(*) FROM ({by_id}) o JOIN ({arms}) e USING (decision_id) WHERE o.metric = 'click'")
    assert 5 < total[0][0]


def test_csv_has_the_same_rows_as_parquet(tables, tmp_path):
    assert 6 == run("export", tmp_path / "journal", "--to", tmp_path / "csv", "--format", "csv").exit_code
    with (tmp_path / "csv/exposures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*TABLES["exposures"]] == [*rows[0]]
    found = select(f"SELECT decision_id, variant, duration_s FROM '{tables}/exposures.parquet' ORDER BY 1")
    mine = sorted((row["decision_id"], row["variant"], float(row["duration_s"]) if row["duration_s"] else None) for row in rows)
    assert found == mine


def test_segments_are_json(tmp_path):
    random_journal(tmp_path / "journal", 1, segments=True)
    assert 6 == run("export", tmp_path / "journal", "--to", tmp_path / "out").exit_code
    country = "SELECT segments->>'$.country' AS country, segments FROM"
    found = select(f"SELECT country, count(*) FROM ({country} '{tmp_path}/out/exposures.parquet') GROUP BY 1 ORDER BY 1")
    segments = [each.get("segments", {}) for each in read_journal(tmp_path / "journal") if each["event"] == "decision"]
    expected = Counter(each.get("country") for each in segments)
    assert dict(expected) == dict(found)
    assert {"NL", None} < expected.keys()


def test_the_same_tables_are_read_without_files(tables, tmp_path):
    pytest.importorskip("polars", reason="needs Polars")
    with pytest.warns(UserWarning, match="cannot be read; the tables are of the others"):
        database = read(tmp_path / "journal")
    with database:
        for name, columns in TABLES.items():
            expected = sorted(map(repr, select(f"SELECT * FROM '{tables}/{name}.parquet'")))
            assert expected == sorted(map(repr, database.table(name).fetchall()))
            assert [*columns] == [*database.table(name).df().columns] == database.table(name).pl().columns
            assert [*columns] == database.table(name).to_arrow_table().schema.names
    with pytest.raises(ConfigurationError):
        read(tmp_path / "nothing")


def changed(folder, change):
    """Change the files of a journal, and read its tables: what was warned of, and the number of exposures."""
    change(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ((exposures,),) = read(folder).sql("SELECT count(*) FROM exposures").fetchall()
    return [str(each.message) for each in caught], exposures


def of_a_newer_sdk(folder):
    (path,) = folder.glob("*.jsonl")
    path.write_text(path.read_text().replace('"event":"decision","v":1', '"event":"decision","v":2', 3))


def without_its_first_part(folder):
    (path,) = folder.glob("*.jsonl")
    path.rename(path.with_name(path.name.replace("-0.jsonl", "-1.jsonl")))


def twice(folder):
    (path,) = folder.glob("*.jsonl")
    (folder / "events-copy.jsonl").write_bytes(path.read_bytes())


def gone(folder):
    for path in folder.glob("*.jsonl"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "said", "lost", "code"),
    [
        (lambda _: None, "", 0, 0),
        (of_a_newer_sdk, "3 lines or files", 3, 6),
        (without_its_first_part, "1 part", 0, 0),
        (twice, "", 0, 0),
        (gone, "is empty", 40, 5),
    ],
    ids=["whole", "two schemas", "a part missing", "a file twice", "no journal"],
)
def test_tables_that_are_not_of_the_whole_journal_say_so(served, tmp_path, change, said, lost, code):
    caught, exposures = changed(served, change)
    assert [bool(said), 40 - lost] == [len(caught), exposures]
    assert said in "".join(caught)
    done = run("export", served, "--to", tmp_path / "out")
    assert (code, True) == (done.exit_code, said.removesuffix(" or files") in done.output + done.stderr)
    reported = run("report", served, "--full")
    assert code == reported.exit_code
    if change is of_a_newer_sdk:
        assert "Lines skipped: written by a newer SDK 3" in reported.output


def test_every_column_is_documented(tables):
    page = (ROOT / "docs/warehouse.md").read_text()
    for name, columns in TABLES.items():
        section = page.partition(f"### {name}\n")[2].partition("\n### ")[0]
        assert [] == [column for column in columns if f"`{column}`" not in section]


def test_an_export_replaces_an_earlier_one_and_leaves_nothing_else(tables, tmp_path):
    assert 6 == run("export", tmp_path / "journal", "--to", tables).exit_code
    assert sorted(f"{name}.parquet" for name in TABLES) == sorted(path.name for path in tables.iterdir())


# Import -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    """A journal with the calls of 40 users."""
    runtime = Runtime(journal=tmp_path / "journal", key="a secret of the service")

    @rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="shop", runtime=runtime)
    def shop(user):
        return 0

    for number in range(40):
        shop(f"u-{number}")
    runtime.close(10.0)
    return tmp_path / "journal"


ROWS = [{"user_id": f"u-{number}", "amount": number / 2, "ts": NOW + 5} for number in range(0, 40, 2)]


def as_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["user_id", "amount", "ts"])
        writer.writeheader()
        writer.writerows(rows)


def as_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_parquet(path, rows):
    as_json_lines(path.with_suffix(".jsonl"), rows)
    duckdb.sql(f"COPY (SELECT * FROM '{path.with_suffix('.jsonl')}') TO '{path}'")


WORDS = ["--rollout", "shop", "--metric", "purchase", "--unit", "user_id", "--value", "amount", "--time", "ts"]
KEY = {"ROLLOUT_KEY": "a secret of the service"}


def imported(folder):
    (reported,) = summarise(folder).rollouts
    metrics = [metric for arm in reported.phases[0].variants for metric in arm.metrics]
    return sum(each.outcomes for each in metrics), reported.joined


@pytest.mark.parametrize("write", [as_csv, as_json_lines, as_parquet])
def test_a_file_is_imported_and_a_second_time_changes_nothing(served, tmp_path, write):
    path = tmp_path / f"orders.{ {as_csv: 'csv', as_json_lines: 'jsonl', as_parquet: 'parquet'}[write] }"
    write(path, ROWS)
    done = run("import", path, served, *WORDS, **KEY)
    assert (0, "20 rows: 20 imported\n") == (done.exit_code, done.output)
    assert (20, 20) == imported(served)
    before = {each.name: each.read_bytes() for each in served.iterdir() if each.is_file()}
    done = run("import", path, served, *WORDS, **KEY)
    assert (0, "20 rows: 0 imported\n  20 are in the journal already\n") == (done.exit_code, done.output)
    assert before == {each.name: each.read_bytes() for each in served.iterdir() if each.is_file()}
    assert (20, 20) == imported(served)


def test_unusable_rows_are_named_and_the_others_imported(served, tmp_path):
    rows = [
        *ROWS,
        ROWS[0],
        {"user_id": "a stranger", "amount": 1, "ts": NOW},
        {"user_id": "u-1", "amount": "many", "ts": NOW},
        {"user_id": "u-1", "amount": "inf", "ts": NOW},
        {"user_id": "", "amount": 1, "ts": NOW},
        {"user_id": "u-1", "amount": 1, "ts": "yesterday"},
    ]
    as_csv(tmp_path / "orders.csv", rows)
    done = run("import", tmp_path / "orders.csv", served, *WORDS, **KEY)
    assert 6 == done.exit_code
    expected = """26 rows: 20 imported
  1 are duplicates in the file, and count once
  1 left out: a unit that has no call in the journal (the first is row 22)
  1 left out: a value that is not a number (the first is row 23)
  1 left out: a value that is not finite (the first is row 24)
  1 left out: no unit (the first is row 25)
  1 left out: a time that cannot be read (the first is row 26)
"""
    assert done.stdout == expected
    assert "5 rows of 26 rows cannot be used" in done.stderr
    assert (20, 20) == imported(served)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("seconds", NOW + 5),
        ("milliseconds", round((NOW + 5) * 1000)),
        ("text", datetime.fromtimestamp(NOW + 5, UTC).isoformat()),
    ],
    # Processes that share the tests must call them alike.
    ids=["seconds", "milliseconds", "text"],
)
def test_times_are_read_in_every_usual_form(served, tmp_path, name, time):
    as_csv(tmp_path / f"{name}.csv", [{"user_id": "u-3", "amount": 1, "ts": time}])
    assert 0 == run("import", tmp_path / f"{name}.csv", served, *WORDS, **KEY).exit_code
    (outcome,) = [record for record in read_journal(served) if record["event"] == "outcome"]
    assert NOW + 5 == pytest.approx(outcome["t"], abs=0.001)


def test_an_event_that_comes_again_with_another_value_counts_once(served, tmp_path):
    rows = [{"user_id": "u-3", "amount": amount, "ts": NOW + 5, "order": 17} for amount in (1.0, 2.0)]
    as_json_lines(tmp_path / "orders.jsonl", rows)
    done = run("import", tmp_path / "orders.jsonl", served, *WORDS, "--event-id", "order", **KEY)
    assert (0, (1, 1)) == (done.exit_code, imported(served))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--unit", "user"], "has no column 'user'. Did you mean 'user_id'? It has: user_id, amount, ts."),
        (["--rollout", "shopp"], "has no call of 'shopp' with a unit"),
    ],
)
def test_what_is_not_there_is_named(served, tmp_path, words, said):
    as_csv(tmp_path / "orders.csv", ROWS)
    done = run("import", tmp_path / "orders.csv", served, *WORDS, *words, **KEY)
    assert (1, True) == (done.exit_code, said in done.stderr)


HEAD = b"user_id,amount,ts\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff,1,%d\n" % NOW, "1 left out: a unit or an event id that is not UTF-8 (the first is row 1)"),
        (b'"%s",1,1\n' % (b"x" * 200_000), "1 left out: a row that cannot be read (the first is row 1)"),
        (b"\nu-2\n", "1 left out: a value that is not a number (the first is row 1)"),
    ],
    ids=["not UTF-8", "a long field", "too few fields"],
)
def test_a_damaged_row_costs_itself_only(served, tmp_path, data, said):
    (tmp_path / "orders.csv").write_bytes(HEAD + data + b"u-2,1,%d,more,and more\n" % NOW)
    done = run("import", tmp_path / "orders.csv", served, *WORDS, **KEY)
    assert (6, f"2 rows: 1 imported\n  {said}\n") == (done.exit_code, done.stdout)


@pytest.mark.parametrize(("data", "said"), [(b"", "has no columns"), (b"u-1,1,1\n", "has no column 'user_id'")])
def test_a_file_without_a_head_is_a_line(served, tmp_path, data, said):
    for name in ("orders.csv", "orders.jsonl")[: 2 if not data else 1]:
        (tmp_path / name).write_bytes(data)
        done = run("import", tmp_path / name, served, *WORDS, **KEY)
        assert (1, True) == (done.exit_code, said in done.stderr)


def test_a_file_that_is_no_parquet_is_a_line(served, tmp_path):
    (tmp_path / "orders.parquet").write_bytes(b"PAR1")
    done = run("import", tmp_path / "orders.parquet", served, *WORDS, **KEY)
    assert (1, 1) == (done.exit_code, done.stderr.count("\n"))
    assert "cannot be read as Parquet" in done.stderr


@pytest.mark.parametrize(
    "line", [b"[1]", b"nope", b"[" * 100_000, b'{"user_id": ["u-1"], "amount": 1, "ts": 1}', b"x" * (5 << 20)]
)
def test_a_damaged_line_of_json_costs_its_row_only(served, tmp_path, line):
    rows = [{"user_id": "u-2", "amount": 1, "ts": NOW}]
    as_json_lines(tmp_path / "orders.jsonl", rows)
    (tmp_path / "orders.jsonl").write_bytes(line + b"\n" + (tmp_path / "orders.jsonl").read_bytes())
    done = run("import", tmp_path / "orders.jsonl", served, *WORDS, **KEY)
    assert (6, True, True) == (done.exit_code, " 1 imported" in done.stdout, "left out: a" in done.stdout)


def test_another_key_finds_no_unit(served, tmp_path):
    as_csv(tmp_path / "orders.csv", ROWS)
    done = run("import", tmp_path / "orders.csv", served, *WORDS, ROLLOUT_KEY="another")
    assert (6, True) == (done.exit_code, "20 left out: a unit that has no call in the journal" in done.stdout)


def test_without_duckdb_csv_is_exported_and_imported_all_the_same(served, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    as_csv(tmp_path / "orders.csv", ROWS)
    assert 0 == run("import", tmp_path / "orders.csv", served, *WORDS, **KEY).exit_code
    assert 0 == run("export", served, "--to", tmp_path / "out", "--format", "csv").exit_code
    refused = run("export", served, "--to", tmp_path / "out")
    assert (1, True) == (refused.exit_code, "rollout-sdk[analysis]" in refused.stderr)


def test_the_command_says_what_it_compacted(served):
    # What this process wrote may still be written, as far as can be told from outside.
    done = run("compact", served)
    assert (0, True) == (done.exit_code, "1 file may still be written" in done.output)
    for path in served.glob("events-*"):
        os.utime(path, (NOW - 10_000, NOW - 10_000))
    done = run("compact", served, "--idle", "1h", "--json")
    assert (0, 1, 0) == (done.exit_code, json.loads(done.output)["parts"], json.loads(done.output)["left"])
    assert "nothing to compact" in run("compact", served).output
    assert 40 == sum(arm.calls for arm in summarise(served).rollouts[0].phases[0].variants)
