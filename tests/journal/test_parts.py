"""Parts: a process numbers its files, and a reader knows which are missing, which are compressed, and which are there twice."""

import gzip
import json
import os
import shutil
import time

import pytest

from rollout_sdk import ABTest, Runtime, rollout
from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.analysis.replay import replay
from rollout_sdk.journal import JournalWriter, read_journal
from rollout_sdk.journal.lines import line
from rollout_sdk.journal.parts import Part, missing_parts, part_of
from rollout_sdk.plan import Criteria


def lost(number):
    return line("lost", 1.0, count=number)


def counts(folder):
    return [record["count"] for record in read_journal(folder) if record["event"] == "lost"]


def decisions(folder):
    return sum(record["event"] == "decision" for record in read_journal(folder))


def read(folder):
    """The journal after one pass."""
    journal = read_journal(folder)
    return journal, list(journal)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


@pytest.fixture
def writer(folder):
    writer = JournalWriter(folder)
    yield writer
    writer.close()


@pytest.fixture
def service(watch, folder):
    """A function whose runtime keeps its journal in the folder, and the runtime."""
    runtime = watch(journal=folder, key=b"k" * 16)
    return rollout(candidate=lambda u: 2, strategy=ABTest(0.5), unit="u", key="m", runtime=runtime)(lambda u: 1), runtime


# The writer --------------------------------------------------------------------------------------------------------------


def test_each_file_says_which_part_of_which_process_it_is(writer, folder):
    for number in range(3):
        writer.write([lost(number)])
        writer._size = 1 << 40
    headers = [record for record in read_journal(folder) if record["event"] == "journal"]
    named = [part_of(path.name) for path in read_journal(folder).files]
    assert [Part(each["host"], each["pid"], each["began"], each["part"]) for each in headers] == named
    assert [0, 1, 2] == [part.number for part in named]


@pytest.mark.parametrize("aside", ["in the folder", "elsewhere"])
def test_a_file_that_is_moved_away_is_continued_in_another(writer, folder, tmp_path, aside):
    writer.write([lost(1)])
    (first,) = folder.iterdir()
    moved = (folder if aside == "in the folder" else tmp_path) / "moved"
    first.rename(moved)
    writer.write([lost(2)])
    assert ([2], 1, (first.name,)) == (counts(folder), moved.read_text().count('"lost"'), read(folder)[0].missing)


def test_a_folder_that_is_replaced_gets_the_next_line(writer, folder, tmp_path):
    writer.write([lost(1)])
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    writer.write([lost(2)])
    assert ([1], [2]) == (counts(tmp_path / "moved"), counts(folder))


def test_a_file_in_whose_place_another_is_is_continued_in_another(writer, folder):
    writer.write([lost(1)])
    (first,) = folder.iterdir()
    first.rename(folder / "moved")
    first.write_text("foreign\n")
    writer.write([lost(2)])
    assert ("foreign\n", [2]) == (first.read_text(), counts(folder))


def test_a_file_that_is_cut_short_is_continued_in_another(writer, folder):
    """By a log rotation that copies and truncates: what is left would have no head."""
    writer.write([lost(1)])
    (first,) = folder.iterdir()
    os.truncate(first, 0)
    writer.write([lost(2)])
    assert ([2], 2) == (counts(folder), len(list(folder.iterdir())))


def test_a_disk_that_does_not_say_where_the_file_is_does_not_stop_the_writing(writer, folder, monkeypatch):
    writer.write([lost(1)])

    def stale(*_):
        raise PermissionError

    monkeypatch.setattr("rollout_sdk.journal.writer.status_of", stale)
    writer.write([lost(2)])
    assert ([1, 2], 1) == (counts(folder), len(list(folder.iterdir())))


def test_a_file_that_cannot_be_opened_takes_no_number(writer, folder, monkeypatch):
    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr("rollout_sdk.journal.writer.open_file", full)
    with pytest.raises(OSError, match="no space"):
        writer.write([lost(1)])
    monkeypatch.undo()
    writer.write([lost(2)])
    assert ((), [0]) == (read(folder)[0].missing, [part_of(path.name).number for path in folder.iterdir()])


def test_a_service_without_calls_begins_another_file_when_its_own_is_moved(service, folder, tmp_path):
    """So that what was moved can be named, also when no call comes any more."""
    model, runtime = service
    model("u")
    runtime.flush()
    (first,) = folder.iterdir()
    first.rename(tmp_path / "moved")
    wait_for(lambda: list(folder.iterdir()))
    runtime.close()
    assert (first.name,) == read(folder)[0].missing


def test_a_service_without_calls_leaves_a_folder_alone_that_is_cleared_up(service, folder):
    model, runtime = service
    model("u")
    runtime.flush()
    shutil.rmtree(folder)
    # As the recorder's thread does twice a second.
    runtime._tick()
    runtime.flush()
    assert not folder.exists()
    model("u")
    runtime.flush()
    assert 1 == decisions(folder)


def test_no_call_is_missing_where_a_shipper_moves_the_file_uploads_it_and_deletes_it(service, folder, tmp_path):
    model, runtime = service
    for number in range(100):
        model(f"a{number}")
    runtime.flush()
    (first,) = folder.iterdir()
    away = first.rename(tmp_path / first.name)
    for number in range(100):
        model(f"b{number}")
    runtime.flush()
    uploaded = away.read_text().count('"decision"')
    away.unlink()
    for number in range(100):
        model(f"c{number}")
    runtime.close()
    assert (100, 200) == (uploaded, decisions(folder))
    assert first.name in " ".join(as_text(summarise(folder)).split())


# The reader --------------------------------------------------------------------------------------------------------------


def parts_of(folder, numbers, *, decided=20):
    """The same process's calls in several parts."""
    runtime = Runtime(journal=folder, key=b"k" * 16)
    model = rollout(candidate=lambda u: 2, strategy=ABTest(0.5), unit="u", key="m", runtime=runtime)(lambda u: 1)
    for _ in range(numbers):
        for number in range(decided):
            routed = model.rollout.route(f"u{number}")
            model.rollout.record("click", 1.0, decision_id=routed.decision.id)
        runtime.flush()
        runtime._delivery.sinks.journal._writer._size = 1 << 40
    runtime.close()
    return read_journal(folder).files


def test_missing_parts_are_named_by_report_replay_and_doctor(folder):
    from rollout_sdk.doctor import examine

    files = parts_of(folder, 4)
    for path in (files[0], files[2]):
        path.unlink()
    names = (files[0].name, files[2].name)
    seen = examine(str(folder), environment={})
    (finding,) = [each for each in seen.findings if each.code == "journal.missing_parts"]
    assert (names, names, names, "warning") == (
        summarise(folder).missing,
        replay(folder, Criteria()).missing,
        tuple(seen.as_dict()["journal"]["missing"]),
        finding.severity,
    )
    assert names[0] in finding.what
    # Wrapped, but whole.
    text = "".join(as_text(summarise(folder)).split())
    assert all(name in text for name in names)


def test_nothing_is_missing_of_a_process_all_of_whose_parts_are_there(folder):
    parts_of(folder, 3)
    report = summarise(folder)
    assert ((), False) == (report.missing, "missing:" in as_text(report))


def test_a_missing_part_that_is_there_under_another_name_is_not_missing(folder):
    files = parts_of(folder, 2)
    files[0].rename(folder / "events-archive.jsonl")
    assert ((), 40) == (read(folder)[0].missing, decisions(folder))


def test_a_part_is_the_one_that_its_name_says_whatever_its_first_line_does(folder):
    first, second = parts_of(folder, 2)
    head, *_ = first.read_text().splitlines(keepends=True)
    _, *rest = second.read_text().splitlines(keepends=True)
    second.write_text("".join([head, *rest]))
    first.unlink()
    assert ((first.name,), 20) == (read(folder)[0].missing, decisions(folder))


def test_compressed_parts_are_read(folder):
    files = parts_of(folder, 2)
    for path in files:
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    journal, records = read(folder)
    assert (40, (), {}) == (sum(each["event"] == "decision" for each in records), journal.missing, journal.skipped)
    assert [f"{path.name}.gz" for path in files] == [path.name for path in journal.files]


def test_a_compressed_part_without_an_end_gives_what_it_has_and_is_counted(folder):
    (path,) = parts_of(folder, 1, decided=500)
    raw = gzip.compress(path.read_bytes())
    (folder / f"{path.name}.gz").write_bytes(raw[: len(raw) // 2])
    path.unlink()
    journal, records = read(folder)
    assert ({"unreadable file": 1}, True) == (journal.skipped, 100 < len(records) < 1_000)


@pytest.mark.parametrize("raw", [b"", b"no gzip", b"\x1f\x8b" + b"\0" * 30])
def test_what_only_looks_compressed_costs_itself_only(folder, raw):
    parts_of(folder, 1)
    (folder / "events-x.jsonl.gz").write_bytes(raw)
    journal, records = read(folder)
    assert (20, bool(raw)) == (sum(each["event"] == "decision" for each in records), "unreadable file" in journal.skipped)


def compressed(path, name):
    (path.parent / name).write_bytes(gzip.compress(path.read_bytes()))


def numbers_of(folder):
    """What a report says of the calls and their outcomes."""
    (rollout_,) = summarise(folder).rollouts
    (phase,) = rollout_.phases
    return [(each.variant, each.calls, each.units, each.metrics) for each in phase.variants]


COPIES = {
    "a copy": lambda folder, path: shutil.copy(path, folder / "events-copy.jsonl"),
    "compressed beside the original": lambda folder, path: compressed(path, f"{path.name}.gz"),
    "a compressed copy": lambda folder, path: compressed(path, "events-a.jsonl.gz"),
    "a copy from while it was written": lambda folder, path: (folder / "events-a.jsonl").write_bytes(path.read_bytes()[:5_000]),
    "the end of it": lambda folder, path: (folder / "events-a.jsonl").write_bytes(path.read_bytes()[-5_000:]),
    "an archive": lambda folder, path: (folder / "events-all.jsonl").write_bytes(path.read_bytes() * 2),
}  # fmt: skip


@pytest.mark.parametrize("copied", COPIES)
def test_what_is_there_twice_counts_once(folder, copied):
    (path,) = parts_of(folder, 1)
    before = numbers_of(folder)
    COPIES[copied](folder, path)
    assert before == numbers_of(folder)
    assert 20 == sum(variant[1] for variant in before)


def test_the_report_and_the_doctor_say_that_lines_are_there_twice(folder):
    from rollout_sdk.doctor import examine

    (path,) = parts_of(folder, 1)
    shutil.copy(path, folder / "events-copy.jsonl")
    seen = examine(str(folder), environment={})
    (rollout_,) = seen.journal.operations.values()
    assert (20, 20, 20, 20) == (summarise(folder).repeated, seen.journal.report.repeated, rollout_.calls, decisions(folder))
    assert "20 lines" in as_text(summarise(folder))
    assert "journal.repeated" in [each.code for each in seen.findings]


def test_the_replay_counts_a_call_once_that_is_there_twice(folder):
    (path,) = parts_of(folder, 1)
    calls = [phase.calls for phase in replay(folder, Criteria()).phases]
    shutil.copy(path, folder / "events-copy.jsonl")
    assert ([20], [20]) == (calls, [phase.calls for phase in replay(folder, Criteria()).phases])


def test_rows_and_shadows_that_are_there_twice_count_once(watch, folder):
    from rollout_sdk import Shadow

    runtime = watch(journal=folder)
    rows = rollout(candidate=lambda xs: xs, strategy=ABTest(0.5), batch="xs", key="rows", runtime=runtime)(lambda xs: xs)
    shadowed = rollout(
        candidates={"a": lambda x: x, "b": lambda x: x}, strategy=Shadow(1.0), effects="read", key="s", runtime=runtime
    )(lambda x: x)
    rows(list(range(1_500)))
    for number in range(10):
        shadowed(number)
        runtime.flush()
    runtime.close()
    (path,) = read_journal(folder).files

    def seen():
        events = [(record["event"], record["rollout"]) for record in read_journal(folder) if "rollout" in record]
        return {event: events.count(event) for event in (("decision", "rows"), ("decision", "s"), ("shadow", "s"))}

    before = seen()
    shutil.copy(path, folder / "events-copy.jsonl")
    assert (before, [1_500, 10, 20]) == (seen(), list(before.values()))


def test_missing_facts_and_transitions_that_are_there_twice_count_once(folder, writer):
    writer.write([lost(3), lost(4), line("transition", 2.0, rollout="r", action="promote", to_phase="1:50%")])
    writer.close()
    (path,) = folder.iterdir()
    shutil.copy(path, folder / "events-copy.jsonl")
    journal, records = read(folder)
    assert ([3, 4], ["transition"], 3) == (
        counts(folder), [each["event"] for each in records if each["event"] == "transition"], journal.repeated,
    )  # fmt: skip
    assert 7 == summarise(folder).lost


def test_two_processes_that_say_the_same_say_it_twice(folder):
    for _ in range(2):
        writer = JournalWriter(folder)
        writer.write([lost(3)])
        writer.close()
    assert [3, 3] == counts(folder)


def test_lines_with_ids_of_others_are_left_alone(folder):
    """An id that the SDK did not make says nothing of its call."""
    record = {"event": "decision", "v": 1, "t": 1.0, "rollout": "r", "id": "d", "strategy": "s", "phase": "p", "variant": "v",
              "served": "v", "reason": "split", "bucket": 1}  # fmt: skip
    (folder / "events-a.jsonl").write_text(f"{json.dumps(record)}\n" * 3)
    assert 3 == decisions(folder)


def test_the_names_of_missing_parts_are_bounded():
    assert 1_000 == len(missing_parts([Part("h", 1, "ab", 10**17)]))


@pytest.mark.parametrize(
    "name",
    ["events-a.jsonl", "events-h-1-ab-0.json", "events-h-1-xy-0.jsonl", "other-h-1-ab-0.jsonl", "events-h-1-ab-0.jsonl.gz.tmp"],
)
def test_what_is_not_named_by_a_process_is_no_part(name):
    assert part_of(name) is None
