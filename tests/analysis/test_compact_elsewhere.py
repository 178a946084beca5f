"""Compacted parts are moved to another folder or an object store: each is there once, whenever the process is killed."""

import json
import sys

import pytest

from rollout_sdk import ConfigurationError
from rollout_sdk.analysis.compact import compact
from rollout_sdk.analysis.destination import destination
from rollout_sdk.analysis.elsewhere import JournalFiles, report_from
from rollout_sdk.analysis.in_duckdb import InDuckDB
from rollout_sdk.journal import Journal
from tests.analysis.random_journals import random_journal
from tests.analysis.test_database import NOW, differing, read, reduced


def moved(folder, to, **options):
    return compact(folder, to=str(to), idle_s=NOW, **options)


def held(expected, found, *but):
    return [each for each in differing(expected, found) if each[0] not in (".folder", *but)]


def test_parts_in_another_folder_report_what_the_journal_did(tmp_path):
    random_journal(tmp_path / "journal", 3)
    expected = read(tmp_path / "journal")
    done = moved(tmp_path / "journal", tmp_path / "all")
    assert (3, 0) == (done.parts, len(Journal(tmp_path / "journal").files))
    assert [] == held(expected, read(tmp_path / "all"))
    assert [] == held(expected, reduced(tmp_path / "all"))


def test_journals_of_two_machines_meet_in_one_folder(tmp_path):
    for host, seed in (("a", 1), ("b", 2)):
        random_journal(tmp_path / host, seed)
        for path in list((tmp_path / host).glob("events-*")):
            path.rename(path.with_name(path.name.replace("events-h-", f"events-{host}-")))
        moved(tmp_path / host, tmp_path / "all")
    assert 2 == len(list((tmp_path / "all" / "compacted").iterdir()))
    assert 6 == len(Journal(tmp_path / "all").files)


@pytest.mark.parametrize("stopped_at", ["first file", "parts.json", "removal"])
def test_a_move_that_is_stopped_is_settled_by_the_next_one(tmp_path, monkeypatch, stopped_at):
    folder, to = tmp_path / "journal", tmp_path / "all"
    random_journal(folder, 4)
    expected, kept = read(folder), {path.name: path.read_bytes() for path in folder.glob("events-*")}
    there = destination(str(to))
    put = type(there)._put

    def stops(self, path, name):
        if stopped_at == "parts.json" and name.endswith("parts.json"):
            raise KeyboardInterrupt
        put(self, path, name)
        if stopped_at == "first file":
            raise KeyboardInterrupt

    monkeypatch.setattr(type(there), "_put", stops)
    if stopped_at == "removal":
        moved(folder, to)
        # As if it had been killed before it came to remove them.
        (name,) = (path.name for path in (to / "compacted").iterdir())
        (folder / "compacted/sending.json").write_text(json.dumps({"to": str(to), "number": name}))
        for name, data in kept.items():
            (folder / name).write_bytes(data)
    else:
        with pytest.raises(KeyboardInterrupt):
            moved(folder, to)
        assert [] == differing(expected, read(folder))
    monkeypatch.undo()
    # Another part has been finished since, so that the next batch is another one.
    (folder / "events-h-9-1f-0.jsonl").write_text('{"event":"lost","v":1,"t":1.0,"count":3}\n')
    done = moved(folder, to)
    assert ((1, 3) if stopped_at == "removal" else (4, 0)) == (done.parts, done.removed)
    found = read(to)
    assert (expected.lost + 3, []) == (found.lost, [*folder.glob("events-*"), *folder.glob("compacted/*.json")])
    assert [] == held(expected, found, ".files", ".lines", ".lost")


def test_a_place_that_cannot_be_written_keeps_the_files_where_they_are(tmp_path):
    random_journal(tmp_path / "journal", 1)
    before = read(tmp_path / "journal")
    (tmp_path / "all").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"cannot be written to .*Files stay in the journal"):
        moved(tmp_path / "journal", tmp_path / "all")
    assert [] == differing(before, read(tmp_path / "journal"))


def test_an_address_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    random_journal(tmp_path / "journal", 1)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigurationError, match=r"rollout-sdk\[s3\]"):
        moved(tmp_path / "journal", "s3://bucket/journal")


def test_an_object_store_holds_the_same_files_as_a_folder(tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install fsspec")
    random_journal(tmp_path / "journal", 2)
    expected = read(tmp_path / "journal")
    moved(tmp_path / "journal", "memory://bucket/journal")
    fsspec.filesystem("memory").get("/bucket/journal", str(tmp_path / "copy"), recursive=True)
    assert [] == held(expected, read(tmp_path / "copy"))


# The files of a journal, by their names -------------------------------------------------------------------------------------


def listed(folder):
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return JournalFiles.of("elsewhere", sizes, lambda path: (folder / path).read_text())


def test_a_listing_finds_each_part_once(tmp_path):
    random_journal(tmp_path, 1)
    names = sorted(path.name for path in tmp_path.glob("events-*"))
    (tmp_path / "readme.txt").write_text("no part")
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / names[0]).write_text("a copy")
    (tmp_path / "journal-of-user-7").mkdir()
    (tmp_path / "journal-of-user-7" / "events-h-7-1f-0.jsonl").write_text("")
    assert [*names, "journal-of-user-7/events-h-7-1f-0.jsonl"] == sorted(listed(tmp_path).lines)
    data = {name: (tmp_path / name).read_bytes() for name in names}
    compact(tmp_path, idle_s=NOW)
    # Not yet removed: they are read from Parquet.
    for name in names:
        (tmp_path / name).write_bytes(data[name])
    (tmp_path / "compacted/99/lines").mkdir(parents=True)
    (tmp_path / "compacted/99/lines/data_0.parquet").write_text("of a compaction that was stopped")
    found = listed(tmp_path)
    assert ["journal-of-user-7/events-h-7-1f-0.jsonl"] == list(found.lines)
    assert {name.removesuffix(".gz") for name in names} == set(found.compacted)
    assert {"1"} == {path.split("/")[1] for path in found.parquet}


def test_a_report_from_a_database_names_the_address(tmp_path):
    random_journal(tmp_path, 1)
    with InDuckDB(Journal(tmp_path)) as relations:
        found = report_from(relations, listed(tmp_path))
    assert "elsewhere" == found.folder
    assert [] == held(read(tmp_path), found, ".cut")


def test_a_folder_without_a_journal_is_none():
    with pytest.raises(ConfigurationError, match="There is no journal at 's3://b/x'"):
        JournalFiles.of("s3://b/x", {"data.csv": 3}, lambda path: "")
