"""Rows F25 and F26: a journal on a disk that is full, gone, or writes half a line."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rollout_sdk import ABTest, rollout
from rollout_sdk.journal import JournalWriter, read_journal

OPEN = os.open
WRITE = os.write


def model_of(runtime):
    return rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="model", runtime=runtime)(lambda x: x)


def decisions(folder):
    return [record for record in read_journal(folder) if record["event"] == "decision"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE])
def test_f25_a_disk_that_fails_costs_lines_that_are_counted_and_recovers(error, watch, tmp_path, monkeypatch, figure, capfd):
    runtime = watch(journal=tmp_path)
    model = model_of(runtime)
    failing = [False]

    def fail(*arguments, real):
        if failing[0] and (real is OPEN or arguments[0] > 2):
            raise OSError(error, os.strerror(error))
        return real(*arguments)

    monkeypatch.setattr("rollout_sdk.journal.writer.write", lambda *a: fail(*a, real=WRITE))
    monkeypatch.setattr("rollout_sdk.journal.writer.open_file", lambda *a: fail(*a, real=OPEN))
    right, outside = 0, 0
    for number in range(300):
        failing[0] = 100 <= number < 200
        outside += not failing[0]
        right += model(number) == number
        if number in (99, 199):
            runtime.flush(10.0)
    runtime.close(10.0)
    journal = read_journal(tmp_path)
    records = list(journal)
    lost = sum(record["count"] for record in records if record["event"] == "lost")
    written = sum(record["event"] == "decision" for record in records)
    assert (300, {}) == (right, journal.skipped)
    assert 200 == written == outside
    # The calls of the failing time, and what else happened then.
    assert lost >= 100
    assert ("", "") == capfd.readouterr()
    figure(
        "F25",
        "{right:,} of {calls:,} calls answered under {runs} errors; {written:,} of {outside:,} lines outside the "
        "failure kept, {lost:,} facts during it counted as lost, {glued} lines joined",
        right=right,
        calls=number + 1,
        written=written,
        outside=outside,
        lost=lost,
        glued=journal.skipped.total(),
    )


FULL = """
import json, os, sys
from rollout_sdk import ABTest, Runtime, rollout
folder = sys.argv[1]
runtime = Runtime(journal=folder)
model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="model", runtime=runtime)(lambda x: x)
right = sum(model(n) == n for n in range(5000))
runtime.flush(20.0)
lost = sum(runtime.faults.values())
for file in os.listdir(folder):
    if file.startswith("ballast"):
        os.remove(os.path.join(folder, file))
right += sum(model(n) == n for n in range(100))
runtime.close(10.0)
print(json.dumps([right, lost]))
"""


def test_f25_a_file_system_that_is_really_full(tmp_path, figure):
    folder = tmp_path / "full"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        (folder / "ballast").write_bytes(bytes(400_000))
        ran = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=False, timeout=60)
        assert (0, "") == (ran.returncode, ran.stderr)
        right, faults = json.loads(ran.stdout)
        journal = read_journal(folder)
        records = list(journal)
        written = sum(record["event"] == "decision" for record in records)
        lost = sum(record["count"] for record in records if record["event"] == "lost")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert (5100, True) == (right, faults > 0)
    # One line can be cut where the space ended; the newline before the next keeps it from harm.
    assert journal.skipped.total() <= 1
    assert 5100 == written + lost
    figure(
        "F25",
        "a full tmpfs: of {right:,} calls, {written:,} are in the journal, and {lost:,} are counted in it as lost "
        "once there was room again",
        written=written,
        lost=lost,
        right=right,
    )


def test_f25_a_limit_on_the_size_of_files_moves_on_to_another(run_python, tmp_path):
    result = run_python("""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime(journal="journal")
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="m", runtime=runtime)(lambda x: x)
        for number in range(500):
            model(number)
            if number % 20 == 0:
                runtime.flush()
        runtime.close()
    """)
    assert (0, "") == (result.returncode, result.stderr)
    files = read_journal(tmp_path / "journal").files
    assert len(files) > 3
    assert all(path.stat().st_size <= 20_000 for path in files)


def test_f25_a_folder_that_was_removed_is_made_again(watch, tmp_path):
    folder = tmp_path / "journal"
    runtime = watch(journal=folder)
    model = model_of(runtime)
    model(1)
    runtime.flush()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    model(2)
    runtime.close(5.0)
    assert 1 == len(decisions(folder))


@pytest.mark.parametrize("cut", [1, 50, 200])
def test_f26_a_short_write_spoils_its_own_line_only(cut, tmp_path, monkeypatch, figure):
    writer = JournalWriter(tmp_path)
    lines = [json.dumps({"event": "lost", "v": 1, "t": 1.0, "count": number, "pad": "x" * 100}).encode() for number in range(4)]
    writer.write(lines[:1])
    state = {"left": cut}

    def short(file, data):
        if state["left"] == 0:
            raise OSError(errno.ENOSPC, "full")
        written = WRITE(file, bytes(data)[: state["left"]])
        state["left"] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr("rollout_sdk.journal.writer.write", short)
        with pytest.raises(OSError, match="full"):
            writer.write(lines[1:3])
    whole = writer.kept
    writer.write(lines[3:])
    writer.close()
    journal = read_journal(tmp_path)
    counts = [record["count"] for record in journal if record["event"] == "lost"]
    kept = [0, *range(1, 1 + whole), 3]
    assert kept == counts
    assert {"damaged": 1} == journal.skipped
    figure("F26", "{lost} of {kept} acknowledged lines lost; {stumps} partial lines of {cut} lengths skipped and counted",
           lost=len(kept) - len(counts), kept=len(kept), stumps=journal.skipped["damaged"], cut=str(cut))  # fmt: skip


def test_f26_a_write_that_takes_several_goes_is_one_line(tmp_path, monkeypatch):
    writer = JournalWriter(tmp_path)
    monkeypatch.setattr("rollout_sdk.journal.writer.write", lambda file, data: WRITE(file, bytes(data)[:7]))
    writer.write([b'{"event":"lost","v":1,"count":1}'])
    writer.close()
    assert [1] == [record["count"] for record in read_journal(tmp_path) if record["event"] == "lost"]


def test_f25_no_descriptor_left_is_no_exception(run_python):
    result = run_python("""
        import os, resource
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime(journal="journal")
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="m", runtime=runtime)(lambda x: x)
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        right = sum(model(n) == n for n in range(100))
        runtime.flush()
        failed = dict(runtime.faults)
        for file in held:
            os.close(file)
        model(1)
        runtime.close()
        print(right, list(failed))
    """)
    assert ("100 [('journal', 'OSError')]\n", "") == (result.stdout, result.stderr)


def test_the_limits_of_this_process_are_as_they_were():
    """The tests above that set limits set them in processes of their own."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 16
    assert Path("/dev/null").exists()
