"""Rows F91 to F93: what comes from elsewhere and is printed, logged or counted."""

import json
import sqlite3
import time
from contextlib import closing

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from rollout_sdk import ABTest, Canary, Gate, OutcomeError, Runtime, StoreError, rollout
from rollout_sdk.cli import main
from rollout_sdk.control.stores import SQLiteStore
from rollout_sdk.journal import read_journal
from tests.faults.models import served

HOSTILE = "\x1b[31mred\x1b[0m\r\n2026-01-01 00:00:00 UTC  9  promote  \x9b2J\u202ekcats\u2028\x07\x7f\ud800"


def store_of(path, **changes):
    """The address of a store in which a rollout was paused by an actor, for a reason."""
    address = f"sqlite:///{path}/rollouts.db"
    runtime = Runtime(store=address, journal=path / "journal")
    model = rollout(candidate=lambda u: u, strategy=Canary(["10%", "50%"]), unit="u", key="m", runtime=runtime)(lambda u: u)
    model.rollout.pause(actor=changes.get("actor", "ann"), reason=changes.get("reason", "a quiet day"))
    assert runtime.flush(10.0)
    runtime.close(1.0)
    return address


def ran(address, *command):
    """What the command line gives: exit code, standard output, standard error. A traceback would be an exception."""
    found = CliRunner().invoke(main, [*command, "--store", address])
    assert found.exception is None or isinstance(found.exception, SystemExit)
    return found.exit_code, found.stdout, found.stderr


def said_by(record):
    """What a transition says of an actor and a reason, in the log and in the journal."""
    return record["actor"] + record["reason"]


def is_printable(text):
    return all(line.isprintable() for line in text.split("\n"))


def test_f91_what_an_actor_and_a_reason_hold_reaches_no_terminal_and_makes_no_line(tmp_path, figure):
    with capture_logs() as logs:
        address = store_of(tmp_path, actor=HOSTILE, reason=HOSTILE)
    code, printed, said = ran(address, "history", "m")
    assert (0, 2, "") == (code, len(printed.splitlines()), said)
    assert is_printable(printed)
    # By the command, too, and where an older process has stored it as it was.
    assert 0 == ran(address, "resume", "m", "--actor", HOSTILE[:-1], "--reason", HOSTILE[:-1])[0]
    with closing(sqlite3.connect(tmp_path / "rollouts.db")) as connection, connection:
        (record,) = connection.execute("SELECT record FROM history ORDER BY number DESC LIMIT 1").fetchone()
        raw = json.dumps({**json.loads(record), "actor": HOSTILE[:-1], "reason": HOSTILE[:-1], "phase": HOSTILE[:-1]})
        connection.execute("UPDATE history SET record = ? WHERE number = 3", (raw,))
        (changes,) = connection.execute("SELECT COUNT(*) FROM history").fetchone()
    code, printed, said = ran(address, "history", "m")
    assert (0, 3, "") == (code, len(printed.splitlines()), said)
    assert is_printable(printed)
    transitions = [event for event in logs if event["event"] == "rollout.transition"]
    assert transitions
    assert all(event["actor"].isprintable() and event["reason"].isprintable() for event in transitions)
    written = [record for record in read_journal(tmp_path / "journal") if record["event"] == "transition"]
    assert written
    assert all(record["actor"].isprintable() and record["reason"].isprintable() for record in written)
    status = ran(address, "status", "m")[1]
    texts = [*printed.split("\n"), *status.split("\n"), *map(said_by, transitions), *map(said_by, written)]
    hostile = [character for text in texts for character in text if not character.isprintable()]
    assert [] == hostile
    figure("F91", "{hostile} unprintable characters of {characters:,} in history, status, log and journal, and {lines} lines "
           "for {changes} changes", hostile=len(hostile), characters=sum(map(len, texts)), lines=len(printed.splitlines()),
           changes=changes)  # fmt: skip


@pytest.mark.parametrize(
    "actor", ["", "\ud800", "x" * 5_000_000, "\n" * 5_000_000], ids=["empty", "surrogate", "long", "lines"]
)
def test_f91_no_text_of_an_actor_or_a_reason_stops_an_abort(tmp_path, actor):
    runtime = Runtime(store=f"sqlite:///{tmp_path}/rollouts.db")
    model = rollout(candidate=lambda u: u, strategy=ABTest(0.5), unit="u", key="m", runtime=runtime)(lambda u: u)
    model.rollout.abort(actor=actor, reason=actor)
    runtime.close(1.0)
    store = SQLiteStore(tmp_path / "rollouts.db")
    last = store.history("m")[-1]
    store.close()
    assert ("abort", True, True) == (last["action"], len(last["actor"]) <= 200, len(last["reason"]) <= 2_000)
    assert (last["actor"] + last["reason"]).isprintable()
    assert bool(actor) == bool(last["actor"])


def raising(name):
    class Raised(Exception):
        pass

    Raised.__qualname__ = Raised.__name__ = name
    return Raised


class Nameless(type):
    """A class of exception classes whose name cannot be asked for."""

    def __getattribute__(cls, name):
        if name in ("__qualname__", "__name__", "__module__"):
            raise RuntimeError("asked for my name")
        return super().__getattribute__(name)


class Unnamed(Exception, metaclass=Nameless):
    pass


@pytest.mark.parametrize("error", [raising("x" * 1_000_000), raising("\x1b[31m\n"), Unnamed], ids="abc")
def test_f92_names_of_exceptions_are_short_and_printable_wherever_they_go(watch, tmp_path, figure, error):
    def candidate(x):
        raise error

    runtime = watch(journal=tmp_path / "journal")
    model = served(lambda x: x, candidate, runtime)
    with capture_logs() as logs:
        answers = [model(3) for _ in range(5)]
        assert [3] * 5 == answers
        assert runtime.flush(10.0)
    (known,) = {name for _, name in runtime.tally("model").errors}
    decisions = [record for record in read_journal(tmp_path / "journal") if record["event"] == "decision"]
    written = {run[2] for record in decisions for run in record["runs"] if run[2] is not None}
    logged = {event["error_type"] for event in logs if event["event"] == "rollout.fallback"}
    assert {known} == written == logged
    assert known.isprintable()
    assert len(known) <= 200
    assert (5, {}) == (len(decisions), runtime.faults)
    figure("F92", "{runs} hostile names of exceptions: {decisions} of {calls} calls answered and journalled, names of at "
           "most {longest:.0f} characters", decisions=len(decisions), calls=len(answers),
           longest=float(len(known)))  # fmt: skip


@pytest.mark.parametrize("value", [1e308, -1e308, 10**400, float("inf"), float("nan")])
def test_f92_values_at_the_edge_of_floats_spoil_nothing(tmp_path, value):
    runtime = Runtime(journal=tmp_path)
    strategy = Canary(["50%"], gates=[Gate("click")])
    model = rollout(candidate=lambda u: u, strategy=strategy, unit="u", key="m", runtime=runtime)(lambda u: u)
    routed = model.rollout.route(1)
    try:
        model.rollout.record("click", value, decision_id=routed.decision.id)
    except OutcomeError as error:
        assert len(str(error)) < 300
    model.rollout.record("click", 1.0, decision_id=routed.decision.id)
    assert runtime.flush(10.0)
    runtime.close(1.0)
    code = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert (0, None) == (code.exit_code, code.exception)
    assert "click" in code.stdout
    assert ("cannot be counted" in code.stdout) == (abs(value) == 1e308)


class Slow:
    """An object that takes its time to be written out, and then raises."""

    asked, takes_s = 0, 0.5

    def __repr__(self):
        Slow.asked += 1
        time.sleep(Slow.takes_s)
        raise RuntimeError("no repr")

    __str__ = __repr__


def test_f92_no_call_and_no_outcome_waits_for_a_foreign_repr(watch, figure):
    class Strategy:
        name = "slow"

        def rollout_route(self, request):
            return Slow()

    runtime = watch()
    model = served(lambda x: x, lambda x: x, runtime, strategy=Strategy())
    began = time.perf_counter()
    answers, outcomes = [model(x) for x in range(20)], 0
    assert list(range(20)) == answers
    for said in (
        {"metric": Slow(), "value": 1.0, "unit": "u"},
        {"metric": "m", "value": Slow(), "unit": "u"},
        {"metric": "m", "value": 1.0, "unit": Slow()},
        {"metric": "m", "value": 1.0, "decision_id": Slow()},
        {"metric": "m", "value": 1.0, "unit": "u", "time_s": Slow()},
    ):
        with pytest.raises((OutcomeError, ValueError)) as caught:
            model.rollout.record(said.pop("metric"), said.pop("value"), **said)
        assert "Slow" in str(caught.value)
        outcomes += 1
    took = time.perf_counter() - began
    assert runtime.flush(10.0)
    assert 0 == Slow.asked
    assert {("strategy", "TypeError"): 20} == runtime.faults
    assert took < Slow.takes_s
    hostile = Slow()
    figure(
        "F92",
        "{calls} calls and {outcomes} outcomes with a repr that takes {takes_s:.1f} s: {took:.0f} ms, the repr "
        "was called {asked} times",
        calls=len(answers),
        outcomes=outcomes,
        takes_s=hostile.takes_s,
        took=took * 1e3,
        asked=hostile.asked,
    )


def changed(field, value):
    """Puts a value in the place of a field of the stored document."""

    def damage(connection):
        (text,) = connection.execute("SELECT document FROM documents").fetchone()
        connection.execute("UPDATE documents SET document = ?", (json.dumps({**json.loads(text), field: value}),))

    return damage


def put(table, column, value):
    return lambda connection: connection.execute(f"UPDATE {table} SET {column} = ?", (value,))


FIELDS = ("key", "plan", "phase", "step", "status", "revision", "version", "epoch", "entered_s", "dropped", "invalid")
VALUES = (None, 1e308, -1, "x" * 10_000, [], {}, [[1]], "\x1b[31m\n", 10**400, float("nan"))
COLUMNS = {"document": "documents", "record": "history", "revision": "documents", "epoch": "documents"}
DAMAGE = {
    **{f"{field} {value!r:.12}": changed(field, value) for field in FIELDS for value in VALUES},
    **{
        f"{column} {value!r:.12}": put(table, column, value)
        for column, table in COLUMNS.items()
        for value in ("", "{", "null", "[]", "{}", b"\xff\xfe", "[" * 100_000, "\x1b[31m", "9" * 5_000, 1e308)
    },
    **{f"key {value!r}": put("documents", "key", value) for value in (b"\xff", "\x1b[31mk", "\ud7ff\n")},
    **{f"no {table}": lambda c, table=table: c.execute(f"DROP TABLE {table}") for table in ("documents", "history", "notes")},
    **{
        f"verdict {text!r:.20}": lambda c, text=text: c.execute("INSERT INTO notes VALUES ('m', 'verdict', ?)", (text,))
        for text in ("", "{}", "null", "{", "[1]", '{"time_s": 1e308}', "\x1b", "[" * 100_000)
    },
}
LINES = (
    *(b"", b"\0" * 100, b"[" * 100_000, b"\xff\xfe", b'["m",99,0,"x","y"]', b'["m",99,0,"{}","{}"]'),
    *(b'["m",1e400,0,"{}","{}"]', b'["m",9,-1,"{}","{}"]', b'[1,1,0,"{}","{}"]'),
    *(b'["m",99999999999999999999,0,"{}","{}"]', b'["\\ud800",9,0,"{}","{}"]'),
)


def test_f93_a_damaged_store_ends_every_command_with_one_clear_line(tmp_path, figure):
    address = store_of(tmp_path)
    file, log = tmp_path / "rollouts.db", tmp_path / "rollouts.db-history.jsonl"
    whole, logged = file.read_bytes(), log.read_bytes()
    commands = (("status",), ("status", "m"), ("status", "m", "--json"), ("history", "m"), ("abort", "m"))
    number = refused = tracebacks = 0

    def check(what):
        nonlocal number, refused, tracebacks
        for command in commands:
            code, printed, said = ran(address, *command)
            number += 1
            refused += code != 0
            assert is_printable(printed + said), what
            assert len(printed + said) < 30_000, what
            assert code in (0, 1, 4, 6), what
            # Said once, and in one line.
            assert code == 0 or len(said.strip().splitlines()) == 1, what
            tracebacks += "Traceback" in said
        file.write_bytes(whole)
        log.write_bytes(logged)

    stores = histories = 0
    for what, damage in DAMAGE.items():
        stores += 1
        with closing(sqlite3.connect(file)) as connection, connection:
            damage(connection)
        check(what)
    for line in LINES:
        log.write_bytes(logged + line + b"\n")
        check(line[:30])
        log.write_bytes(line)
        check(line[:30])
        histories += 2
    assert refused > 100
    assert 0 == tracebacks
    figure(
        "F93",
        "{number:,} commands on {stores} damaged stores and {histories} damaged histories: {refused} refused in "
        "one line, {tracebacks} tracebacks",
        number=number,
        stores=stores,
        histories=histories,
        refused=refused,
        tracebacks=tracebacks,
    )


def test_f93_the_undamaged_rest_of_a_history_is_shown(tmp_path):
    address = store_of(tmp_path)
    with closing(sqlite3.connect(tmp_path / "rollouts.db")) as connection, connection:
        connection.execute("UPDATE history SET record = '{}' WHERE number = 1")
    code, printed, said = ran(address, "history", "m")
    assert (6, 1) == (code, len(printed.splitlines()))
    assert "a quiet day" in printed
    assert "1 of 2 records of 'm' cannot be read" in said


def test_f93_a_damaged_line_beside_a_store_takes_the_place_of_nothing(tmp_path):
    address = store_of(tmp_path)
    with (tmp_path / "rollouts.db-history.jsonl").open("ab") as file:
        file.write(b'\n["m",99,0,"{}","{}"]\n["m",98,0,"x","y"]\n')
    code, printed, _ = ran(address, "status", "m")
    assert (0, True) == (code, "paused" in printed)


def test_f93_a_damaged_verdict_hides_no_state(tmp_path):
    address = store_of(tmp_path)
    store = SQLiteStore(tmp_path / "rollouts.db")
    store.note("m", "verdict", "{}")
    store.close()
    code, printed, said = ran(address, "status", "m")
    assert (0, True, True) == (code, "paused" in printed, "damaged" in said)


def test_f93_a_process_goes_on_with_a_damaged_store(tmp_path, figure):
    address = store_of(tmp_path)
    with closing(sqlite3.connect(tmp_path / "rollouts.db")) as connection, connection:
        connection.execute("UPDATE documents SET revision = 'x', document = '['")
    with pytest.raises(StoreError):
        SQLiteStore(tmp_path / "rollouts.db").load("m")
    runtime = Runtime(store=address)
    model = rollout(candidate=lambda u: "new", strategy=Canary(["10%", "50%"]), unit="u", key="m", runtime=runtime)(
        lambda u: "old"
    )
    answers = [model(str(number)) for number in range(50)]
    assert {"old"} == set(answers)
    assert {"store"} == {what for what, _ in runtime.faults}
    runtime.close(1.0)
    figure("F93", "{old} of {calls} calls answered by the control if the store cannot be read", old=answers.count("old"),
           calls=len(answers))  # fmt: skip
