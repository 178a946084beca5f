"""The journal: whole lines, one file for each process, nothing raw, and no line ever fatal."""

import errno
import json
import os
import stat
import threading
import time

import pytest

from rollout_sdk import ABTest, Canary, ConfigurationError, Interleave, JournalError, Runtime, Shadow, rollout
from rollout_sdk.journal import JournalWriter, read_journal
from rollout_sdk.journal.lines import line
from rollout_sdk.journal.parts import private_folder


def written(folder):
    return list(read_journal(folder))


def test_every_kind_of_fact_is_a_line_with_its_fields(watch, tmp_path):
    runtime = watch(journal=tmp_path)
    rank = rollout(candidate=lambda u: [2, 1], strategy=Interleave(), unit="u", key="rank", runtime=runtime)(lambda u: [1, 2])
    ramp = rollout(
        candidate=lambda u: 2, strategy=Canary(["50%"], shadow=1.0), effects="read", unit="u", key="ramp", runtime=runtime
    )(lambda u: 1)
    routed = rank.rollout.route("u")
    rank.rollout.record("click", 1, decision_id=routed.decision.id, item=2)
    rank.rollout.record("purchase", 9.5, unit="u", time_s=1234.5)
    for number in range(20):
        ramp(f"u{number}")
    ramp.rollout.promote(actor="ann", reason="good")
    runtime.flush()
    records = written(tmp_path)
    by_event = {record["event"]: record for record in records}
    assert {"journal", "rollout", "decision", "shadow", "outcome", "transition"} <= set(by_event)
    assert {1} == {record["v"] for record in records}
    (decision,) = [r for r in records if r["event"] == "decision" and r["rollout"] == "rank"]
    assert (routed.decision.id, "interleaved", "0:interleaved 100%", 2, 2) == (
        decision["id"], decision["variant"], decision["phase"], len(decision["items"]), len(decision["teams"]),
    )  # fmt: skip
    assert {"control", "candidate"} == {run[0] for run in decision["runs"]}
    click, purchase = [r for r in records if r["event"] == "outcome"]
    assert ("click", 1.0, "interleaved", True) == (
        click["metric"],
        click["value"],
        click["variant"],
        click["item"] in decision["items"],
    )
    assert ("purchase", 9.5, 1234.5, decision["unit"]) == (
        purchase["metric"],
        purchase["value"],
        purchase["t"],
        purchase["unit"],
    )
    (promote,) = [r for r in records if r["event"] == "transition" and r["action"] == "promote"]
    assert ("ann", "good", {"control": 0.0, "candidate": 1.0}) == (promote["actor"], promote["reason"], promote["shares"])


def test_no_unit_item_or_payload_is_written(watch, tmp_path):
    runtime = watch(journal=tmp_path)
    mark = "marker-4711"
    for strategy in (ABTest(0.5), Shadow(1.0), Interleave()):
        model = rollout(
            candidate=lambda u: [u], strategy=strategy, effects="read", unit="u", key=strategy.name, runtime=runtime
        )(lambda u: [u, "x"])
        routed = model.rollout.route(mark)
        model.rollout.record("m", 1, unit=mark)
        if strategy.name == "interleave":
            model.rollout.record("m", 1, decision_id=routed.decision.id, item=mark)
    runtime.flush()
    (path,) = tmp_path.glob("events-*.jsonl")
    assert mark not in path.read_text()


def test_lines_reach_the_file_within_a_second_without_asking(watch, tmp_path):
    model = rollout(candidate=lambda: 1, strategy=ABTest(0.5), key="m", runtime=watch(journal=tmp_path))(lambda: 1)
    model()
    deadline = time.monotonic() + 1.0
    while not any(record["event"] == "decision" for record in written(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_files_are_private(tmp_path):
    writer = JournalWriter(tmp_path / "new" / "journal")
    writer.write([b"{}"])
    (path,) = writer.folder.iterdir()
    assert (0o600, 0o700) == (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(writer.folder.stat().st_mode))
    writer.close()


def test_where_everybody_may_write_files_go_to_a_folder_of_the_users_own(tmp_path):
    tmp_path.chmod(0o777)
    writer = JournalWriter(tmp_path)
    writer.write([line("lost", 1.0, count=1)])
    writer.close()
    (file,) = read_journal(tmp_path).files
    assert (tmp_path, 0o700) == (file.parent.parent, stat.S_IMODE(file.parent.stat().st_mode))
    assert ["journal", "lost"] == [record["event"] for record in read_journal(tmp_path)]


@pytest.mark.parametrize("trap", ["link", "file", "others may write", "another user's"])
def test_what_another_user_has_put_in_the_place_of_that_folder_is_not_used(trap, tmp_path, monkeypatch):
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    shared.mkdir()
    shared.chmod(0o777)
    elsewhere.mkdir()
    place = private_folder(shared)
    place.rmdir()
    if trap == "link":
        place.symlink_to(elsewhere)
    elif trap == "file":
        place.write_text("")
    else:
        place.mkdir(mode=0o700)
    if trap == "others may write":
        place.chmod(0o777)
    if trap == "another user's":
        # As it looks to a process of another user, in whose name the owner of this one made the folder.
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        place.rename(shared / "journal-of-user-54321")
    with pytest.raises(JournalError, match="cannot be used"):
        JournalWriter(shared).write([line("lost", 1.0, count=1)])
    assert ([], []) == (list(elsewhere.iterdir()), read_journal(shared).files)


def test_a_folder_that_is_a_file_is_an_error_of_the_write_until_it_is_one(tmp_path):
    (tmp_path / "file").write_text("")
    writer = JournalWriter(tmp_path / "file" / "journal")
    with pytest.raises(JournalError, match="cannot be used"):
        writer.write([line("lost", 1.0, count=1)])
    (tmp_path / "file").unlink()
    writer.write([line("lost", 1.0, count=2)])
    writer.close()
    assert ["journal", "lost"] == [record["event"] for record in read_journal(tmp_path / "file" / "journal")]


def test_a_full_file_is_followed_by_another(tmp_path):
    writer = JournalWriter(tmp_path, rotate_at_bytes=200)
    for number in range(10):
        writer.write([json.dumps({"event": "lost", "v": 1, "count": number}).encode()])
    writer.close()
    assert len(read_journal(tmp_path).files) > 1
    assert set(range(10)) == {record["count"] for record in written(tmp_path) if record["event"] == "lost"}


def test_after_a_short_write_the_next_line_is_whole(tmp_path, monkeypatch):
    writer = JournalWriter(tmp_path)
    line = lambda number: json.dumps({"event": "lost", "v": 1, "count": number}).encode()
    writer.write([line(1)])
    write, cut = os.write, []

    def full(file, data):
        if not cut:
            cut.append(1)
            return write(file, data[:7])
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("rollout_sdk.journal.writer.write", full)
    with pytest.raises(OSError, match="no space"):
        writer.write([line(2)])
    monkeypatch.setattr("rollout_sdk.journal.writer.write", write)
    writer.write([line(3)])
    writer.close()
    journal = read_journal(tmp_path)
    assert [1, 3] == [record["count"] for record in journal if record["event"] == "lost"]
    assert {"damaged": 1} == journal.skipped


def test_a_full_disk_is_counted_and_the_caller_never_hears_of_it(watch, tmp_path, monkeypatch):
    runtime = watch(journal=tmp_path)
    model = rollout(candidate=lambda: 1, strategy=ABTest(0.0), key="m", runtime=runtime)(lambda: 1)
    model()
    runtime.flush()
    write = os.write
    monkeypatch.setattr("rollout_sdk.journal.writer.write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
    assert 1 == model()
    runtime.flush()
    monkeypatch.setattr("rollout_sdk.journal.writer.write", write)
    model()
    runtime.flush()
    assert runtime.faults["journal", "OSError"] >= 1
    assert 2 == sum(record["event"] == "decision" for record in written(tmp_path))


def test_processes_write_files_of_their_own_with_ids_of_their_own(run_python, tmp_path):
    result = run_python("""
        import os
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime(journal="journal")
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
        for number in range(50):
            model(number)
        runtime.flush()
        children = []
        for child in range(4):
            pid = os.fork()
            if pid == 0:
                for number in range(50):
                    model(number)
                os._exit(0 if runtime.flush() else 1)
            children.append(pid)
        for number in range(50):
            model(number)
        print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
    """)
    assert ("[0, 0, 0, 0]\n", "") == (result.stdout, result.stderr)
    decisions = [record for record in written(tmp_path / "journal") if record["event"] == "decision"]
    assert (5, 300, 300) == (len(read_journal(tmp_path / "journal").files), len(decisions), len({r["id"] for r in decisions}))


def test_what_was_flushed_survives_a_kill(run_python, tmp_path):
    result = run_python("""
        import os, signal
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime(journal="journal")
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
        for number in range(100):
            model(number)
        assert runtime.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert (-9, 100) == (result.returncode, sum(r["event"] == "decision" for r in written(tmp_path / "journal")))


def test_the_last_call_before_the_exit_is_in_the_journal(run_python, tmp_path):
    result = run_python(
        """
        import sys
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m")(lambda x: x)
        for number in range(100):
            model(number)
        sys.exit(7)
    """,
        ROLLOUT_JOURNAL="journal",
    )
    assert (7, "", 100) == (
        result.returncode,
        result.stderr,
        sum(r["event"] == "decision" for r in written(tmp_path / "journal")),
    )


def test_an_outcome_is_recorded_by_another_process_after_a_restart(run_python, tmp_path):
    first = run_python(
        """
        from rollout_sdk import ABTest, rollout
        model = rollout(candidate=lambda x: x, strategy=ABTest(1.0), unit="x", key="m")(lambda x: x)
        print(model.rollout.route("u").decision.id)
    """,
        ROLLOUT_JOURNAL="journal",
        ROLLOUT_KEY="secret",
    )
    second = run_python(
        f"""
        import rollout_sdk
        rollout_sdk.record("purchase", 9.5, decision_id={first.stdout.strip()!r})
    """,
        ROLLOUT_JOURNAL="journal",
        ROLLOUT_KEY="secret",
    )
    assert "" == first.stderr + second.stderr
    from rollout_sdk.analysis import summarise

    (reported,) = summarise(tmp_path / "journal").rollouts
    (variant,) = reported.phases[0].variants
    assert ("candidate", 9.5) == (variant.variant, variant.metrics[0].per_call.mean)


def test_with_durability_call_every_line_is_there_when_its_call_returns(tmp_path):
    runtime = Runtime(journal=tmp_path, durability="call")
    model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="model", runtime=runtime)(lambda x: x)
    for number in range(50):
        identity = model.rollout.route(number).decision.id
        assert identity == [record["id"] for record in read_journal(tmp_path) if record["event"] == "decision"][-1]
    model.rollout.record("click", 1.0, unit=3)
    assert 1 == sum(record["event"] == "outcome" for record in read_journal(tmp_path))
    runtime.close()


def test_durability_is_one_of_two_words(tmp_path):
    with pytest.raises(ConfigurationError, match="must be 'flush' or 'call'"):
        Runtime(journal=tmp_path, durability="always")


def test_a_disk_that_hangs_holds_a_durable_call_for_a_second_at_most(tmp_path, monkeypatch):
    runtime = Runtime(journal=tmp_path, durability="call")
    hangs = threading.Event()
    monkeypatch.setattr(JournalWriter, "write", lambda *_: hangs.wait(30))
    model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="model", runtime=runtime)(lambda x: x)
    started = time.monotonic()
    assert 1 == model(1)
    assert 0.9 < time.monotonic() - started < 2.0
    hangs.set()
    runtime.close()
