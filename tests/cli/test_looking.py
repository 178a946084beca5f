"""What an operator with a pager sees: all rollouts, one of them, and what becomes of it."""

import errno
import fcntl
import json
import os
import pty
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Step, UnreachableError, operate
from rollout_sdk.cli import main
from rollout_sdk.control.stores import SQLiteStore
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PLAN = Canary(
    [Step("0%", shadow="10%", min_units=50), Step("20%", min_units=20, min_time="1h", max_time="2d"), "50%", "100%"],
    guardrails=[Guardrail("error_rate", floor=0.2), Guardrail("latency", threshold_s=0.25)],
    gates=[Gate("click", window="1h", before="promotion")],
    max_calls_per_unit=100,
)


def widest(text):
    return max(map(len, text.splitlines()))


# All of them


def test_the_list_has_a_line_for_each_rollout_and_fits_80_columns(process, command, announced):
    announced(process())
    announced(process(key="shop.ads", strategy=ABTest(0.1)))
    long = "shop.a-rather-long-name-of-a-rollout.and-more"
    announced(process(key=long))
    text = command("list")
    head, *rows = text.splitlines()
    assert ["rollout", "status", "verdict", "step", "share", "for", "live"] == head.split()
    found = {row.split()[0]: row.split() for row in rows}
    assert ["running", "-", "1/3", "20%"] == found["shop.rank"][1:5]
    assert ["running", "-", "-", "10%"] == found["shop.ads"][1:5]
    assert ["1", "1"] == [found[key][6] for key in ("shop.rank", "shop.ads")]
    assert [long] == found[long]
    assert 80 >= widest(text)
    table = json.loads(command("list", "--json"))
    assert {("shop.rank", 1), ("shop.ads", 1), (long, 1)} == {(each["rollout"], len(each["processes"])) for each in table}


def test_an_empty_store_says_so(command, tmp_path):
    with closing(SQLiteStore(tmp_path / "rollouts.db")) as store:
        assert [] == store.keys()
    for words in (["list"], ["status"]):
        assert "The store has no rollout: no process has decorated a function with it yet." == " ".join(command(*words).split())
    assert "[]" == command("list", "--json").strip()


def test_what_needs_a_person_is_on_top_and_says_why(process, command, announced):
    over = process(key="a.over")
    command("abort", "a.over")
    announced(over)
    announced(process(key="b.runs"))
    behind = announced(process(key="z.behind"))
    behind.rollout._runtime.reconciler._closed = True
    command("pause", "z.behind")
    gone = announced(process(key="y.gone"))
    gone.rollout._runtime.close(5.0)
    text = command("list")
    order = [line.split()[0] for line in text.splitlines()[1:5]]
    assert ["y.gone", "z.behind", "b.runs", "a.over"] == order
    assert "1 of 1 processes of z.behind have not followed the last change." in text
    assert "No process serves y.gone now" in text
    assert "0/1" in text


def test_a_damaged_rollout_hides_none_of_the_others_and_is_exit_code_6(process, command, address):
    process(), process(key="shop.ads")
    with closing(sqlite3.connect(address.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE documents SET document = '{}' WHERE key = 'shop.ads'")
    for words in (["list"], ["status"]):
        text = command(*words, code=6)
        assert "shop.rank" in text
        assert "1 of 2 rollouts cannot be read" in text


# One of them


def test_the_status_has_the_plan_as_it_was_written(process, command, announced):
    announced(process(strategy=PLAN, effects="read"))
    text = " ".join(command("status", "shop.rank").split())
    for part in (
        "> 0% min_units 50, shadow 10%",
        "20% min_units 20, min_time 1h, max_time 2d",
        "50% 100%",
        "guardrail error_rate floor 0.2",
        "guardrail latency threshold_s 0.25",
        "gate click before promotion, window 1h",
        "max_calls_per_unit 100",
    ):
        assert part in text
    plan = json.loads(command("status", "shop.rank", "--json"))["plan"]
    assert [{"share": "0%", "min_units": 50, "shadow": "10%"}, "20%", {"share": "50%"}] == [
        plan["steps"][0], plan["steps"][1]["share"], plan["steps"][2],
    ]  # fmt: skip
    assert 80 >= widest(command("status", "shop.rank"))


def test_the_status_has_the_live_processes_and_who_has_followed(process, command, announced):
    one, two = announced(process()), announced(process())
    assert "served by  2 processes, all at this revision" in command("status", "shop.rank")
    two.rollout._runtime.reconciler._closed = True
    command("pause", "shop.rank")
    announced(one)
    text = command("status", "shop.rank")
    assert "served by  2 processes, 1 of them behind:" in text
    assert f"process {os.getpid()} on " in text
    assert "at revision 0, " in text
    table = json.loads(command("status", "shop.rank", "--json"))
    assert [0, 1] == sorted(each["revision"] for each in table["processes"])
    one.rollout.disable(holder="a flag")
    announced(one)
    assert "runs no candidate: a flag" in command("status", "shop.rank")


def test_a_process_that_has_ended_is_gone_and_one_that_was_killed_is_gone_after_half_a_minute(
    process, command, announced, monkeypatch
):
    ended, killed = announced(process()), announced(process())
    ended.rollout._runtime.close(5.0)
    assert "served by  1 process, at this revision" in command("status", "shop.rank")
    killed.rollout._runtime.reconciler._closed = True
    monkeypatch.setattr("rollout_sdk.control.stored.time", lambda: time.time() + 31)
    text = command("status", "shop.rank")
    assert "served by  no process now; the last one was seen 31s ago" in text


def test_a_process_of_another_version_is_not_counted(process, command, announced):
    announced(process(version="1"))
    announced(process(version="2"))
    text = command("status", "shop.rank")
    assert "version 2" in text
    assert "served by  1 process, at this revision" in text


@pytest.mark.parametrize("over", ["abort", "promote-full"])
def test_no_verdict_from_before_a_person_ended_it_is_shown(process, command, over):
    model = process(strategy=Canary([Step("20%", min_time="1h"), "50%"]))
    for user in range(300):
        model(f"user-{user}")
    assert "INSUFFICIENT_DATA" == model.rollout.judge().outcome
    assert "INSUFFICIENT_DATA in phase" in command("status", "shop.rank")
    force = [] if over == "abort" else ["--force"]
    command(over, "shop.rank", "--reason", "x", *force)
    text = command("status", "shop.rank")
    assert "INSUFFICIENT_DATA" not in text
    assert json.loads(command("status", "shop.rank", "--json"))["verdict"] is None
    runtime = model.rollout._runtime
    runtime.reconciler.look(runtime.reconciler.rollouts["shop.rank"])
    assert model.rollout.status().verdict is None


def test_a_rollback_shows_the_verdict_that_made_it(process, command):
    def broken(user):
        raise ValueError

    model = process(candidate=broken, breaker=None)
    for user in range(400):
        model(f"user-{user}")
    assert "FAIL" == model.rollout.judge().outcome
    text = command("status", "shop.rank")
    assert "rolled_back" in text
    assert 1 == " ".join(text.split()).count("units with an error had candidate")
    assert 80 >= widest(text)


# Waiting


def waiting(address, *words):
    """The command, waiting in a thread; what it gives when it is done."""
    found = []

    def run():
        found.append(CliRunner().invoke(main, ["wait", "shop.rank", "--store", address, *words], catch_exceptions=False))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(30)
        assert found
        return found[0].exit_code, found[0].output

    return result


def test_waiting_ends_when_it_is_so_and_prints_each_change(process, command, address):
    process()
    result = waiting(address, "--until", "promoted", "--timeout", "30s")
    command("pause", "shop.rank")
    command("promote-full", "shop.rank", "--force", "--reason", "x")
    code, output = result()
    assert 0 == code
    assert "promoted  1:100%  revision 2" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("wanted", "change", "code"),
    [
        ("promoted", ["abort"], 8),
        ("paused", ["abort"], 8),
        ("over", ["abort"], 0),
        ("aborted", ["abort"], 0),
        ("rolled-back", ["promote-full", "--force", "--reason", "x"], 8),
        ("aborted", ["promote-full", "--force", "--reason", "x"], 7),
        ("running", ["pause"], 7),
    ],
)
def test_waiting_has_an_exit_code_for_each_end(process, command, address, wanted, change, code):
    process()
    name, *options = change
    command(name, "shop.rank", *options)
    found, output = waiting(address, "--until", wanted, "--timeout", "0.1s")()
    assert code == found, output
    assert ("can no longer be" in output, "after 0.1 s" in output) == (code == 8, code == 7)


def test_another_version_is_not_what_was_waited_for(process, address):
    process(version="1")
    lines = []

    def deploy(now):
        if not lines:
            process(version="2")
        lines.append(now.version)

    with operate(address, "shop.rank") as rank, pytest.raises(UnreachableError, match="has been restarted with version '2'"):
        rank.wait("promoted", timeout_s=30.0, changed=deploy)
    assert ["1", "2"] == lines


def test_ctrl_c_ends_a_wait_with_the_exit_code_of_a_shell(process, address):
    process()
    waited = Watched(address, "wait", "shop.rank", "--until", "over", terminal=False)
    waited.shows("running")
    code, output = waited.interrupt()
    assert (130, 1) == (code, len(output.splitlines())), output


def test_waiting_for_what_is_unknown_is_a_mistake(process, address):
    process()
    for words, code in ((["shop.rnak", "--until", "over"], 1), (["shop.rank", "--until", "done"], 2), (["shop.rank"], 2)):
        assert code == CliRunner().invoke(main, ["wait", *words, "--store", address]).exit_code
    result = CliRunner().invoke(main, ["wait", "shop.rank", "--until", "over", "--timeout", "soon", "--store", address])
    assert (1, True) == (result.exit_code, "Write 1800 or '30m'" in result.output)


# Watching


class Watched:
    """The command in a process of its own, at a terminal of 80 columns or in a pipe."""

    def __init__(self, address, *words, terminal, rich=True):
        block = "" if rich else "sys.modules['rich.console'] = None; "
        code = f"import sys; {block}from rollout_sdk.cli import main; main()"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONWARNINGS": "ignore"}
        environment.pop("COLUMNS", None)
        self.output = b""
        if terminal:
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        else:
            ours, theirs = os.pipe()
        command = [sys.executable, "-c", code, *words, "--store", address]
        self.process = subprocess.Popen(
            command, stdin=theirs if terminal else subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        self._ours = ours

    def read(self):
        while select.select([self._ours], [], [], 0)[0]:
            try:
                more = os.read(self._ours, 65_536)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return
            if not more:
                return
            self.output += more

    def shows(self, text):
        def shown():
            self.read()
            return text.encode() in self.output

        until(shown)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        self.read()
        os.close(self._ours)
        return code, self.output.decode()


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
@pytest.mark.parametrize("words", [["list"], ["status"], ["status", "shop.rank"]], ids=" ".join)
def test_a_watch_at_a_terminal_draws_the_screen_anew_and_ends_with_ctrl_c(process, command, address, words, rich):
    process()
    watched = Watched(address, *words, "--watch", terminal=True, rich=rich)
    watched.shows("running")
    watched.shows("Ctrl-C ends")
    command("abort", "shop.rank")
    watched.shows("aborted")
    code, output = watched.interrupt()
    assert 0 == code, output
    assert "Traceback" not in output
    assert ("\x1b[?1049h" in output) == rich
    # What was hidden is shown again.
    assert output.rfind("\x1b[?25h") >= output.rfind("\x1b[?25l")


def test_a_watch_in_a_pipe_is_a_line_for_each_change(process, command, address, announced):
    announced(process())
    watched = Watched(address, "status", "shop.rank", "--watch", terminal=False)
    watched.shows("running")
    command("pause", "shop.rank")
    watched.shows("paused")
    code, output = watched.interrupt()
    assert 0 == code, output
    words = [line.split()[2] for line in output.splitlines()]
    assert ["running", "paused"] == list(dict.fromkeys(words))
    # Nothing is said twice.
    told = [line.split(maxsplit=1)[1] for line in output.splitlines()]
    assert len(told) == len(set(told))
    assert "\x1b" not in output
    assert 80 >= widest(output)


def test_a_store_that_falls_silent_under_a_watch_is_said_once_and_waited_for(process, command, address, tmp_path):
    process(strategy=ABTest(0.5))
    watched = Watched(address, "list", "--watch", terminal=False)
    watched.shows("running")
    path, history = tmp_path / "rollouts.db", tmp_path / "rollouts.db-history.jsonl"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        watched.shows("could not be read")
        connection.execute("ROLLBACK")
    assert history.exists()
    command("abort", "shop.rank")
    watched.shows("aborted")
    code, output = watched.interrupt()
    assert (0, 1) == (code, output.count("could not be read")), output


def test_a_watch_of_what_is_not_there_is_refused_at_once_and_a_watch_is_no_json(process, command):
    process()
    assert "without it" in command("status", "shop.rank", "--watch", "--json", code=2)
    assert "without it" in command("list", "--watch", "--json", code=2)
    command("status", "shop.rnak", "--watch", code=1)


# Pipes and completion


def test_a_closed_pipe_is_no_traceback(process, address):
    for number in range(60):
        process(key=f"shop.{number}")
    code = "from rollout_sdk.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        [sys.executable, "-c", code, "status", "--json", "--store", address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    ) as running:  # fmt: skip
        running.stdout.read(10)
        running.stdout.close()
        said = running.stderr.read().decode()
        running.wait(30)
    assert "" == said


def completed(words, incomplete, **environment):
    os.environ.update(environment)
    return [each.value for each in BashComplete(main, {}, "rollout", "_ROLLOUT_COMPLETE").get_completions(words, incomplete)]


def test_keys_and_commands_are_completed(process, address, monkeypatch, tmp_path):
    process(), process(key="shop.ads")
    monkeypatch.setenv("ROLLOUT_STORE", address)
    assert ["promote", "promote-full"] == completed([], "prom")
    assert ["shop.rank"] == completed(["abort"], "shop.r")
    assert ["shop.ads", "shop.rank"] == completed(["status"], "")
    assert ["shop.ads", "shop.rank"] == completed(["wait", "--store", address], "sh", ROLLOUT_STORE="")
    # A store that is not there gives none, and is not made.
    assert [] == completed(["abort"], "", ROLLOUT_STORE=f"sqlite:///{tmp_path}/typo.db")
    assert not (tmp_path / "typo.db").exists()
