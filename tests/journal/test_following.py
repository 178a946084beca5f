"""Reading a journal while it is written."""

import gzip
import json
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ABTest, Runtime, rollout
from rollout_sdk.journal import read_journal
from rollout_sdk.journal.following import Following
from rollout_sdk.journal.parts import Part


def line(number):
    return (
        json.dumps({"v": 1, "event": "outcome", "t": 1.0 * number, "rollout": "k", "unit": "u", "metric": "m", "value": number})
        + "\n"
    )


def values(records):
    return [record["value"] for record in records]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "events-a-1-x.jsonl"


def test_each_line_is_read_once(tmp_path, file):
    following = Following(tmp_path)
    assert values(following) == []
    file.write_text(line(1) + line(2))
    assert values(following) == [1, 2]
    assert values(following) == []
    with file.open("a") as more:
        more.write(line(3))
    assert values(following) == [3]
    assert following.lines == 3


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path, file):
    following, whole = Following(tmp_path), line(2)
    file.write_text(line(1) + whole[:10])
    assert values(following) == [1]
    with file.open("a") as more:
        more.write(whole[10:])
    assert values(following) == [2]
    assert following.skipped.total() == 0


@given(cuts=st.lists(st.integers(0, 2_000), max_size=8))
def test_cut_anywhere_all_is_read(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("journal")
    file, text = folder / "events-a-1-x.jsonl", "".join(map(line, range(12)))
    following, found, written = Following(folder), [], 0
    for cut in [*sorted(cuts), len(text)]:
        with file.open("a") as more:
            more.write(text[written:cut])
        written = max(written, min(cut, len(text)))
        found += values(following)
    assert found == list(range(12))


def test_a_file_that_took_the_place_of_another_is_read_from_its_beginning(tmp_path, file):
    following = Following(tmp_path)
    file.write_text(line(1) + line(2))
    assert values(following) == [1, 2]
    other = tmp_path / "new"
    other.write_text(line(7) + line(8) + line(9))
    other.replace(file)
    assert values(following) == [7, 8, 9]


def test_what_was_compressed_after_it_was_read_is_not_read_again(tmp_path, file):
    following = Following(tmp_path)
    file.write_text(line(1))
    assert values(following) == [1]
    with gzip.open(f"{file}.gz", "wt") as packed:
        packed.write(line(1))
    file.unlink()
    assert values(following) == []


def test_what_was_compressed_before_is_read_once(tmp_path, file):
    with gzip.open(f"{file}.gz", "wt") as packed:
        packed.write(line(1))
    following = Following(tmp_path)
    assert values(following) == [1]
    assert values(following) == []


def test_damage_is_counted_and_goes_on(tmp_path, file):
    file.write_text(line(1) + "{broken\n" + line(2))
    following = Following(tmp_path)
    assert values(following) == [1, 2]
    assert following.skipped["damaged"] == 1


def test_missing_facts_are_summed_and_are_never_fewer_than_none(tmp_path, file):
    following = Following(tmp_path)
    assert (0, 0, 0) == (following.lost, following.sampled, following.bytes)
    for counts, lost, sampled in [([(3, 1)], 3, 1), ([(4, None), (2, 9)], 9, 3), ([(-5, -5)], 9, 3)]:
        with file.open("a") as more:
            for count, drawn_out in counts:
                more.write(json.dumps({"v": 1, "event": "lost", "t": 1.0, "count": count, "sampled": drawn_out}) + "\n")
        assert len(counts) == len(list(following))
        assert (lost, sampled, file.stat().st_size) == (following.lost, following.sampled, following.bytes)


def test_megabytes_without_an_end_stop_nothing(tmp_path, file):
    file.write_text("x" * 9_000_000 + "\n" + line(1))
    following = Following(tmp_path)
    assert values(following) == [1]


def test_what_is_written_by_a_runtime_is_what_a_reader_reads(tmp_path):
    runtime = Runtime(journal=tmp_path, key=b"k" * 16)
    model = rollout(candidate=lambda unit: 1, strategy=ABTest(0.5), unit="unit", key="m", runtime=runtime)(lambda unit: 0)
    following, found = Following(tmp_path), []
    for number in range(300):
        model(f"u{number}")
        if number % 50 == 0:
            runtime.flush()
            found += following
    runtime.close()
    found += following
    assert found == list(read_journal(tmp_path))
    assert sum(record["event"] == "decision" for record in found) == 300
    shutil.rmtree(tmp_path)
    assert list(following) == []


def test_what_was_compacted_is_read_once(tmp_path):
    pytest.importorskip("duckdb", reason="compacting needs the extra [analysis]")
    from rollout_sdk.analysis.compact import compact
    from rollout_sdk.journal import Journal

    runtime = Runtime(journal=tmp_path, key=b"k" * 16)
    model = rollout(candidate=lambda unit: 1, strategy=ABTest(0.5), unit="unit", key="m", runtime=runtime)(lambda unit: 0)
    for number in range(100):
        model(f"u{number}")
    runtime.close()
    before = Following(tmp_path)
    seen = sum(record["event"] == "decision" for record in before)
    compact(tmp_path, idle_s=0.0, now=time.time() + 60)
    assert Journal(tmp_path).compacted
    after = Following(tmp_path)
    assert sum(record["event"] == "decision" for record in after) == seen == 100
    assert list(before) == list(after) == []


def test_a_compressed_part_that_is_compacted_later_is_not_read_again(tmp_path):
    pytest.importorskip("duckdb", reason="compacting needs the extra [analysis]")
    from rollout_sdk.analysis.compact import compact

    name = Part("host", 1, "a", 0).name
    with gzip.open(tmp_path / f"{name}.gz", "wt") as packed:
        packed.write(line(1) + line(2))
    following = Following(tmp_path)
    assert values(following) == [1, 2]
    compact(tmp_path)
    assert list(read_journal(tmp_path).compacted) == [name]
    assert values(following) == []
    assert values(Following(tmp_path)) == [1, 2]
