"""The journal's sink: what lines are about is said first, and what is missing is said as soon as it can be."""

import errno
import os

import pytest
from attrs import evolve

from rollout_sdk import ABTest, Canary, Runtime, rollout
from rollout_sdk.journal import JournalSink, JournalWriter, read_journal
from rollout_sdk.journal.sink import Lines
from rollout_sdk.records import Decision, RecordedEvent, RoutedEvent, RoutedRows, TransitionedEvent

EVENT = RoutedEvent(Decision("control", id="d", rollout="r", strategy="s", phase="p"), "control", ())
ABOUT = {"rollout": "r", "strategy": "s", "control": "control", "phase": "p", "shares": {"control": 1.0}, "fingerprint": "f"}


@pytest.fixture
def faults():
    return []


@pytest.fixture
def sink(tmp_path, faults):
    sink = JournalSink(
        JournalWriter(tmp_path, rotate_at_bytes=2000), describe={"r": ABOUT}.get, failed=lambda *fault: faults.append(fault)
    )
    yield sink
    sink.close()


def events(folder):
    return [record["event"] for record in read_journal(folder)]


def counts(folder):
    return [record["count"] for record in read_journal(folder) if record["event"] == "lost"]


def fail(*_):
    raise OSError(errno.ENOSPC, "no space")


def test_a_rollout_is_described_before_its_first_line_and_once(sink, tmp_path):
    sink([EVENT, EVENT], 0)
    sink([EVENT], 0)
    assert ["journal", "rollout", "decision", "decision", "decision"] == events(tmp_path)


def test_a_rollout_that_is_not_known_here_has_no_line_of_its_own(sink, tmp_path):
    sink([RecordedEvent("elsewhere", "click", 1.0, 2.0, decision_id="x")], 0)
    assert ["journal", "outcome"] == events(tmp_path)


def test_every_file_describes_its_rollouts(sink, tmp_path):
    for _ in range(50):
        sink([EVENT], 0)
    files = read_journal(tmp_path).files
    assert 1 < len(files)
    for path in files:
        firsts = [line.split(b'"')[3] for line in path.read_bytes().splitlines()[:3]]
        assert [b"journal", b"rollout", b"decision"] == firsts


def test_a_description_that_could_not_be_written_is_written_later(sink, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr("rollout_sdk.journal.writer.write", fail)
    with pytest.raises(OSError, match="no space"):
        sink([EVENT], 0)
    monkeypatch.setattr("rollout_sdk.journal.writer.write", write)
    sink([EVENT], 0)
    assert ["journal", "rollout", "decision", "lost"] == events(tmp_path)


def test_a_rollout_that_is_described_anew_is_so_in_the_journal(sink, tmp_path):
    sink([EVENT], 0)
    sink.begin_again("r")
    sink([EVENT], 0)
    assert ["journal", "rollout", "decision", "rollout", "decision"] == events(tmp_path)


def test_an_event_that_cannot_be_written_takes_no_other_with_it_and_is_missing(sink, tmp_path, faults):
    broken = evolve(EVENT, decision=evolve(EVENT.decision, reason=object()))
    sink([EVENT, broken, EVENT], 0)
    assert ["journal", "rollout", "decision", "decision", "lost"] == events(tmp_path)
    assert ([1], ["journal.line"]) == (counts(tmp_path), [what for what, _ in faults])


def test_what_never_came_here_is_missing(sink, tmp_path):
    sink([EVENT], 5)
    sink([EVENT], 5)
    sink([EVENT], 7)
    assert [5, 2] == counts(tmp_path)


def test_what_could_not_be_written_is_told_when_writing_goes_on_even_if_nothing_else_happens(sink, tmp_path, monkeypatch):
    sink([EVENT], 0)
    write = os.write
    monkeypatch.setattr("rollout_sdk.journal.writer.write", fail)
    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            sink([EVENT, EVENT], 1)
    monkeypatch.setattr("rollout_sdk.journal.writer.write", write)
    sink([], 1)
    sink([], 1)
    assert [7] == counts(tmp_path)


ROWS = RoutedRows((EVENT,), (0, 0, 0), ("a", "b", "c"), (0, 1, 2), (None, None, None))


class Calls(Lines):
    """Three calls with a line each."""

    journal_key, journal_fingerprint, weight = "r", "f", 3

    def lines(self):
        return [b'{"event":"lost","v":1,"count":0}'] * 3


@pytest.mark.parametrize("first", [ROWS, Calls(), EVENT], ids=["three in one line", "three lines", "one"])
@pytest.mark.parametrize(("last", "missing"), [(EVENT, 1), (ROWS, 3), (Calls(), 1)], ids=["one", "three in one", "three lines"])
def test_of_a_write_that_breaks_off_in_its_last_line_the_facts_of_that_line_are_missing(
    sink, tmp_path, monkeypatch, first, last, missing
):
    write = os.write
    left = []

    def short(file, data):
        left.append(len(data))
        return write(file, data[:-5]) if len(left) == 1 else fail()

    monkeypatch.setattr("rollout_sdk.journal.writer.write", short)
    with pytest.raises(OSError, match="no space"):
        sink([first, last], 0)
    assert missing == sink.unwritten
    monkeypatch.setattr("rollout_sdk.journal.writer.write", write)
    sink([EVENT], 0)
    assert missing == sum(counts(tmp_path))


def test_where_no_file_can_be_opened_all_is_missing(tmp_path, faults, monkeypatch):
    sink = JournalSink(JournalWriter(tmp_path), describe={}.get, failed=lambda *fault: faults.append(fault))
    opened = os.open
    monkeypatch.setattr("rollout_sdk.journal.writer.open_file", fail)
    with pytest.raises(OSError, match="no space"):
        sink([EVENT, EVENT], 0)
    monkeypatch.setattr("rollout_sdk.journal.writer.open_file", opened)
    sink([EVENT], 0)
    sink.close()
    assert ([2], 1) == (counts(tmp_path), events(tmp_path).count("decision"))


def test_nothing_to_say_makes_no_file(sink, tmp_path):
    sink([], 0)
    sink([object()], 0)
    assert [] == list(tmp_path.iterdir())


def test_a_start_is_the_line_about_the_rollout_as_it_began(tmp_path):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda: 2, strategy=Canary(["10%", "50%"]), key="m", runtime=runtime)(lambda: 1)
    model.rollout.promote()
    model()
    runtime.close()
    records = [record for record in read_journal(tmp_path) if record["event"] in ("rollout", "transition")]
    assert [
        ("rollout", "0:10%", {"control": 0.9, "candidate": 0.1}),
        ("transition", None, {"control": 0.5, "candidate": 0.5}),
    ] == [(record["event"], record.get("phase"), record["shares"]) for record in records]


def test_a_transition_that_only_the_controller_knows_is_a_line(sink, tmp_path):
    start = TransitionedEvent("r", "s", "start", "running", 3, "1:5%", "3:10%", {"control": 0.9, "v": 0.1}, "", "anew", 1.0)
    sink([start], 0)
    assert ["journal", "rollout", "transition"] == events(tmp_path)


def moved(fingerprint="", status="aborted"):
    shares = {"control": 1.0, "v": 0.0}
    return TransitionedEvent(
        "r",
        "s",
        "abort",
        status,
        3,
        "1:5%",
        "3:aborted",
        shares,
        "ann",
        "",
        1.0,
        fingerprint=fingerprint or ABOUT["fingerprint"],
    )


def described(folder):
    return [
        (record["phase"], record.get("status"), record.get("revision"))
        for record in read_journal(folder)
        if record["event"] == "rollout"
    ]


BEGAN, STANDS = (ABOUT["phase"], ABOUT.get("status"), ABOUT.get("revision")), ("3:aborted", "aborted", 3)


@pytest.mark.parametrize("is_full", [False, True], ids=["written", "not written, because the disk was full"])
def test_another_file_says_where_the_rollout_stands_by_then(sink, tmp_path, monkeypatch, is_full):
    sink([EVENT], 0)
    if is_full:
        with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
            patched.setattr("rollout_sdk.journal.writer.write", fail)
            sink([moved()], 0)
    else:
        sink([moved()], 0)
    for path in tmp_path.iterdir():
        path.unlink()
    sink([EVENT], 0)
    assert [STANDS] == described(tmp_path)


def test_the_file_that_has_a_transition_says_where_the_rollout_stood_before_it(sink, tmp_path):
    sink([moved()], 0)
    assert [BEGAN] == described(tmp_path)


def test_a_call_of_a_version_that_was_replaced_before_it_was_written_has_its_line(tmp_path):
    """The recorder may write later than a rollout is decorated anew."""
    described = {"r": {**ABOUT, "fingerprint": "new"}}
    old, older = ({**ABOUT, "fingerprint": each} for each in ("old", "older"))
    sink = JournalSink(JournalWriter(tmp_path), describe=described.get, failed=fail)
    calls = {each: evolve(EVENT, decision=evolve(EVENT.decision, fingerprint=each)) for each in ("older", "old", "new")}
    sink.begin_again("r", older)
    sink.begin_again("r", old)
    # That one was replaced before any call of it.
    sink([calls["old"], calls["old"], calls["new"], calls["old"]], 0)
    sink([calls["new"]], 0)
    sink.close()
    found = [(record["event"], record["fingerprint"]) for record in read_journal(tmp_path) if record["event"] != "journal"]
    line, call = "rollout", "decision"
    assert [(line, "old"), (call, "old"), (call, "old"), (line, "new"), (call, "new"), (call, "old"), (call, "new")] == found


@pytest.mark.parametrize("forget", ["begin_again", "renew", "another fingerprint"])
def test_what_is_described_anew_stands_where_that_says(sink, tmp_path, forget):
    sink([EVENT, moved("another" if forget == "another fingerprint" else "")], 0)
    if forget == "begin_again":
        sink.begin_again("r")
    elif forget == "renew":
        sink.renew()
    else:
        for path in tmp_path.iterdir():
            path.unlink()
    sink([EVENT], 0)
    assert BEGAN == described(tmp_path)[-1]


def test_an_overflow_is_told_in_the_journal(tmp_path, run_python):
    result = run_python("""
        from rollout_sdk import ABTest, Runtime, rollout
        runtime = Runtime(journal="journal")
        model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), key="m", runtime=runtime)(lambda x: x)
        import sys
        sys.setswitchinterval(5)
        for number in range(15_000):
            model(number)
        sys.setswitchinterval(0.005)
        runtime.flush()
        runtime.close()
        print(runtime.recorder.dropped)
    """)
    assert "" == result.stderr
    dropped = int(result.stdout)
    folder = tmp_path / "journal"
    assert (dropped, 15_000 - dropped) == (sum(counts(folder)), events(folder).count("decision"))
    assert dropped > 0


def test_outcomes_and_decisions_of_one_run_have_one_file(tmp_path):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda u: 2, strategy=ABTest(0.5), unit="u", key="m", runtime=runtime)(lambda u: 1)
    for number in range(100):
        routed = model.rollout.route(number)
        model.rollout.record("click", 1.0, decision_id=routed.decision.id)
    runtime.close()
    assert (100, 100, 1) == (
        events(tmp_path).count("decision"),
        events(tmp_path).count("outcome"),
        len(list(tmp_path.iterdir())),
    )
