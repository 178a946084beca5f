"""The writer: whole lines in a file of its own, whatever happens to the file, the folder or the disk."""

import errno
import os
import stat
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import JournalError, Runtime
from rollout_sdk.journal import JournalWriter, read_journal
from rollout_sdk.journal import writer as writing
from rollout_sdk.journal.lines import line


def lost(number):
    return line("lost", 1.0, count=number)


def counts(folder):
    return [record["count"] for record in read_journal(folder) if record["event"] == "lost"]


def journals(folder):
    return sum(record["event"] == "journal" for record in read_journal(folder))


@pytest.fixture
def writer(tmp_path):
    writer = JournalWriter(tmp_path)
    yield writer
    writer.close()


def test_a_file_begins_by_saying_who_writes_it(writer, tmp_path):
    writer.write([lost(1)])
    header, _ = read_journal(tmp_path)
    assert ("journal", os.getpid()) == (header["event"], header["pid"])


def test_nothing_is_made_before_the_first_line(writer, tmp_path):
    assert [] == list(tmp_path.iterdir())


def test_a_symlink_in_the_place_of_the_file_is_not_followed_and_the_next_line_goes_to_another_file(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    writer = JournalWriter(tmp_path / "journal")
    writer.write([lost(1)])
    (first,) = writer.folder.iterdir()
    writer.renew()
    monkeypatch.setattr(writer, "_began", int(first.name.split("-")[-2], 16))
    first.unlink()
    first.symlink_to(victim)
    with pytest.raises(FileExistsError):
        writer.write([lost(2)])
    writer.write([lost(3)])
    writer.close()
    first.unlink()
    assert ("mine", [3]) == (victim.read_text(), counts(writer.folder))


def test_a_file_that_is_deleted_is_followed_by_another(writer, tmp_path):
    writer.write([lost(1)])
    for path in tmp_path.iterdir():
        path.unlink()
    writer.write([lost(2)])
    assert ([2], 1) == (counts(tmp_path), journals(tmp_path))


def test_a_folder_that_is_deleted_is_made_again(tmp_path):
    writer = JournalWriter(tmp_path / "journal")
    writer.write([lost(1)])
    for path in writer.folder.iterdir():
        path.unlink()
    writer.folder.rmdir()
    writer.write([lost(2)])
    writer.close()
    assert ([2], 0o700) == (counts(writer.folder), stat.S_IMODE(writer.folder.stat().st_mode))


def test_a_descriptor_that_was_closed_and_taken_by_another_file_is_left_alone(writer, tmp_path):
    """A process that makes itself a daemon closes every descriptor."""
    writer.write([lost(1)])
    taken = writer._file
    os.close(taken)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert taken == other
    writer.write([lost(2)])
    writer.close()
    assert (b"", [1, 2]) == (os.pread(other, 100, 0), counts(tmp_path))
    os.close(other)


def test_a_descriptor_that_was_closed_is_replaced(writer, tmp_path):
    writer.write([lost(1)])
    os.close(writer._file)
    writer.write([lost(2)])
    assert [1, 2] == counts(tmp_path)


def test_the_folder_is_the_one_that_was_meant_when_the_runtime_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = JournalWriter("journal")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    writer.write([lost(1)])
    writer.close()
    assert [1] == counts(tmp_path / "journal")


def test_a_folder_that_cannot_be_made_is_a_fault_when_the_runtime_is_made():
    assert {("journal", "JournalError"): 1} == Runtime(journal="/proc/nowhere/journal").faults


def test_a_folder_that_cannot_be_written_is_used_as_soon_as_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr("rollout_sdk.journal.writer.access", lambda *_: False)
    writer = JournalWriter(tmp_path)
    with pytest.raises(JournalError, match="it is not writable"):
        writer.write([lost(1)])
    monkeypatch.undo()
    writer.write([lost(2)])
    writer.close()
    assert [2] == counts(tmp_path)


def test_a_full_disk_at_the_very_first_line_leaves_a_file_that_can_be_read_later(writer, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr("rollout_sdk.journal.writer.write", no_space)
    with pytest.raises(OSError, match="no space"):
        writer.write([lost(1)])
    monkeypatch.setattr("rollout_sdk.journal.writer.write", write)
    writer.write([lost(2)])
    assert ([2], 1, 1) == (counts(tmp_path), journals(tmp_path), len(list(tmp_path.iterdir())))


def no_space(*_):
    raise OSError(errno.ENOSPC, "no space")


@settings(deadline=None)
@given(st.data())
def test_wherever_a_write_is_cut_whole_lines_are_counted_and_later_ones_are_whole(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    writer = JournalWriter(folder)
    write = os.write
    expected, without_newline = [], []
    try:
        for batch in range(4):
            lines = [lost(10 * batch + number) for number in range(data.draw(st.integers(1, 3)))]
            cut = data.draw(st.none() | st.integers(0, 250))
            if cut is None:
                writer.write(lines)
                expected += lines
                continue
            left = [cut]

            def short(file, raw, left=left):
                if not left[0]:
                    no_space()
                written = write(file, raw[: left[0]])
                left[0] -= written
                return written

            writing.write = short
            try:
                writer.write(lines)
            except OSError:
                expected += lines[: writer.kept]
                # Cut just before its newline, a line is whole once the next one begins; it was not counted as kept.
                without_newline += lines[writer.kept : writer.kept + 1]
            else:
                expected += lines
            finally:
                writing.write = write
    finally:
        writing.write = write
        writer.close()
    found = [lost(count) for count in counts(folder)]
    assert [line for line in found if line in expected] == expected
    assert [line for line in found if line not in expected and line not in without_newline] == []


def test_where_no_file_may_grow_the_journal_goes_on_in_another(run_python, tmp_path):
    result = run_python("""
        import resource
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime(journal="journal")
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for _ in range(10):
            for number in range(30):
                model(number)
            runtime.flush()
        print(sum(runtime.faults.values()) > 0)
    """)
    assert ("True\n", "") == (result.stdout, result.stderr)
    journal = read_journal(tmp_path / "journal")
    records = list(journal)
    decisions = sum(record["event"] == "decision" for record in records)
    missing = sum(record["count"] for record in records if record["event"] == "lost")
    told = [[record["event"] for record in journal.records_of(path)] for path in journal.files]
    assert (300, True) == (decisions + missing, decisions > 200)
    # The last may hold nothing but the number of those that are missing.
    assert [["rollout"]] * sum("decision" in events for events in told) == [
        [event for event in events if event == "rollout"] for events in told if "decision" in events
    ]


def test_a_file_is_full_at_its_size_and_no_line_is_in_two(tmp_path):
    writer = JournalWriter(tmp_path, rotate_at_bytes=1000)
    for number in range(100):
        writer.write([lost(number)])
    writer.close()
    assert list(range(100)) == sorted(counts(tmp_path))
    files = read_journal(tmp_path).files
    assert len(files) == journals(tmp_path) > 3
    assert all(path.stat().st_size < 1200 for path in files)


def test_closing_twice_is_closing_once(writer, tmp_path):
    writer.write([lost(1)])
    closed = writer._file
    writer.close()
    # The number of the descriptor is free, and the next file that is opened gets it.
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert closed == other
    writer.close()
    assert 3 == os.write(other, b"\n\n\n")
    os.close(other)
    writer.write([lost(2)])
    writer.close()
    assert [1, 2] == sorted(counts(tmp_path))


def test_two_writers_of_one_process_have_files_of_their_own(tmp_path):
    writers = [JournalWriter(tmp_path) for _ in range(2) if time.sleep(0.001) is None]
    for writer in writers:
        writer.write([lost(1)])
        writer.close()
    assert 2 == len(read_journal(tmp_path).files)
