"""What went in is what the journal tells, plus what it says it lost: several processes, every kind of fact, and kill -9.

Each process notes what it does with `os.write`, which survives a kill, and knows nothing of the journal. The test reads the
journal's lines itself, and holds the report and the doctor against them.
"""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter, defaultdict

import pytest

from rollout_sdk.analysis import summarise
from rollout_sdk.doctor import examine

PROGRAM = """
    import json, os, random, sys, time
    from contextlib import suppress
    import rollout_sdk
    from rollout_sdk import ABTest, Canary, Guardrail, Runtime, Shadow, StateError, StoreError, rollout
    from rollout_sdk.recording import intake
    from rollout_sdk.runtime import registry

    where, name, seed, how = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    rng = random.Random(seed)
    notes = os.open(f"{where}/notes-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(what, *fields):
        os.write(notes, (json.dumps([what, *fields]) + "\\n").encode())

    class Slow:
        rollout_plugin_name = "slow"

        def rollout_routed(self, event):
            time.sleep(0.002)

    plugins = []
    if how == "overloaded":
        # So that the queue of this process is soon full.
        intake._MOST_WAITING, plugins = 40, [Slow()]
    runtime = Runtime(
        journal=f"{where}/journal", store=f"sqlite:///{where}/rollouts.db", control=f"{where}/control.toml", plugins=plugins,
        durability="call" if how == "durable" else "flush",
    )
    # That of `rollout_sdk.record()`, which a service calls that decorates nothing.
    registry._default = runtime
    common = {"unit": "user", "runtime": runtime, "breaker": None}

    def fails(user):
        raise ValueError(user)

    @rollout(candidate=lambda user: "new", strategy=Canary(["30%", "60%"]), key="ramp", **common)
    def ramp(user):
        return "old"

    @rollout(candidate=lambda user: "new", strategy=Shadow(rate=1.0), effects="read", key="mirror", **common)
    def mirror(user):
        return "old"

    @rollout(candidate=lambda user: "new", strategy=ABTest(0.5), key="filed", **common)
    def filed(user):
        return "old"

    @rollout(candidate=fails, strategy=Canary(["50%"], guardrails=[Guardrail("error_rate")]), key="judged", **common)
    def judged(user):
        return "old"

    for each in (ramp, mirror, filed, judged):
        note("call", "")
        routed = each.rollout.route("first")
        note("called", routed.decision.rollout, routed.decision.id, routed.decision.variant, routed.decision.phase)
    note("flushing")
    note("flushed", runtime.flush(20.0))
    print("ready", flush=True)
    sys.stdin.readline()
    known, changes, values = [], 0, 0
    until = time.monotonic() + float(sys.argv[5])
    while time.monotonic() < until:
        what = rng.choices(["call", "outcome", "again", "change", "flush", "rest"], [60, 20, 6, 1, 1, 4])[0]
        if what == "call":
            each = rng.choice([ramp, mirror, filed, judged])
            note("call", "")
            user = f"{name}-{rng.randrange(300)}"
            routed = each.rollout.route(user)
            decision = routed.decision
            note("called", decision.rollout, decision.id, decision.variant, decision.phase)
            known.append((each.rollout, decision.rollout, decision.id, user))
        elif what in ("outcome", "again") and known:
            controller, key, decision_id, user = rng.choice(known)
            whom, address = rng.choice(
                [({"decision_id": decision_id}, decision_id), ({"unit": user}, rollout_sdk.pseudonym(key, user))]
            )
            record = rng.choice([controller.record, rollout_sdk.record])
            if record == rollout_sdk.record and "unit" in whom:
                whom["rollout"] = key
            # Its value tells an outcome apart.
            values += 1
            event_id = f"{name}-{values}" if what == "again" else None
            for _ in range(2 if what == "again" else 1):
                note("outcome", address, values)
                record("value", values, **whom, event_id=event_id)
                note("recorded", address, values)
        elif what == "change":
            with suppress(StateError, StoreError):
                changes += 1
                rng.choice([ramp.rollout.pause, ramp.rollout.resume])(actor=name, reason=f"change {changes}")
                note("changed", "ramp", name, f"change {changes}")
        elif what == "flush":
            note("flushing")
            note("flushed", runtime.flush(20.0))
        else:
            time.sleep(0.002)
    print("done", flush=True)
    sys.stdin.readline()
    runtime.close(20.0)
    note("closed", runtime.recorder.dropped)
    os._exit(0)
"""
KEYS = ("ramp", "mirror", "filed", "judged")
CHANGE = ("id", "action", "actor", "reason")


class Fleet:
    """Processes of one store and one journal, and what they noted."""

    def __init__(self, folder):
        self.folder = folder
        self.program = folder / "program.py"
        self.program.write_text(textwrap.dedent(PROGRAM))
        self.processes = {}
        self.killed = set()

    def start(self, name, seed, how, lasts_s):
        words = [sys.executable, str(self.program), str(self.folder), name, str(seed), how, str(lasts_s)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes[name] = process
        assert "ready" == process.stdout.readline().strip()

    def go(self, names):
        for name in names:
            self.processes[name].stdin.write("\n")
            self.processes[name].stdin.flush()

    def kill(self, name):
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()
        self.killed.add(name)

    def survivors(self):
        return [name for name in self.processes if name not in self.killed]

    def end(self, names):
        """End the processes; those of these names have told of every change before."""
        for name in self.survivors():
            assert "done" == self.processes[name].stdout.readline().strip()
        self.wait(lambda: "roll_back" in {change[1] for change in self.history("judged")})
        # What was done last reaches all of them.
        self.wait(lambda: all(self.told(name, key) >= set(self.history(key)) for name in names for key in KEYS))
        self.go(self.survivors())
        for name in self.survivors():
            assert 0 == self.processes[name].wait(60)

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def notes(self, name):
        return [json.loads(line) for line in (self.folder / f"notes-{name}").read_text().splitlines()]

    def lines(self, name):
        """The lines of one process; only what is killed, or still writes, may leave half a line."""
        found = []
        for path in sorted((self.folder / "journal").glob(f"events-*-{self.processes[name].pid}-*.jsonl")):
            lines = path.read_text().split("\n")
            assert "" == lines[-1] or name in self.killed or self.processes[name].poll() is None
            found += [json.loads(line) for line in lines[:-1]]
        return found

    def told(self, name, key):
        """The changes of which a process has told, but for the start."""
        found = [line for line in self.lines(name) if line["event"] == "transition" and line["rollout"] == key]
        told = [tuple(line.get(each) or "" for each in CHANGE) for line in found if line["action"] != "start"]
        assert len(told) == len(set(told))
        return set(told)

    def history(self, key):
        """The changes that the store knows."""
        code, printed = self.command("history", key, "--store", f"sqlite:///{self.folder}/rollouts.db", "--json")
        assert 0 == code
        return [tuple(record[name] for name in CHANGE) for record in json.loads(printed) if record["action"] != "start"]

    def wait(self, so):
        """Wait until it is so; what is not after a minute is for the test to say."""
        deadline = time.monotonic() + 60
        while not so() and time.monotonic() < deadline:
            time.sleep(0.2)

    def command(self, *words):
        run = subprocess.run(
            [sys.executable, "-m", "rollout_sdk.cli", *words], capture_output=True, text=True, timeout=120, check=False
        )
        return run.returncode, run.stdout


@pytest.fixture
def fleet(tmp_path):
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.stop()


def is_before_last_flush(notes):
    """The notes of what was done when a process last came back from a flush."""
    ends = [number for number, (what, *fields) in enumerate(notes) if what == "flushed" and fields[0]]
    return notes[: ends[-1] + 1]


def check_process(fleet, name, how, made):
    """The lines of one process against its notes and what was made; returns the facts that it lost, None if it was killed."""
    notes, lines = fleet.notes(name), fleet.lines(name)
    calls = [tuple(fields) for what, *fields in notes if what == "called"]
    recorded = Counter(tuple(fields) for what, *fields in notes if what == "recorded")
    tried = Counter(tuple(fields) for what, *fields in notes if what == "outcome")
    decisions = [(line["rollout"], line["id"], line["variant"], line["phase"]) for line in lines if line["event"] == "decision"]
    outcomes = Counter((line.get("id") or line["unit"], line["value"]) for line in lines if line["event"] == "outcome")
    shadows = Counter(line["id"] for line in lines if line["event"] == "shadow")
    lost = sum(line["count"] for line in lines if line["event"] == "lost")
    # Nothing is there twice, and nothing that did not happen: of a call that was under way, a kill left no note.
    assert len(decisions) == len(set(decisions))
    assert len(set(decisions) - set(calls)) <= (name in fleet.killed)
    assert outcomes <= tried
    assert set(shadows.values()) <= {1}
    assert set(shadows) <= {call[1] for call in calls if call[0] == "mirror"} | {each[1] for each in decisions}
    if name in fleet.killed:
        # What was there at the last flush is there, and with durability="call" all that came back.
        safe = notes if how == "durable" else is_before_last_flush(notes)
        assert set() == {tuple(fields) for what, *fields in safe if what == "called"} - set(decisions)
        flushed = is_before_last_flush(notes)
        assert Counter(tuple(fields) for what, *fields in flushed if what == "recorded") <= outcomes
        return None
    mirrored = sum(call[0] == "mirror" for call in calls)
    missing = len(calls) - len(decisions) + (recorded - outcomes).total() + mirrored - len(shadows)
    # A queue that is full takes no transition, either; the other processes tell of it.
    missing += sum(len(set(made[key]) - fleet.told(name, key)) for key in KEYS)
    assert (lost, lost) == (missing, next(fields[0] for what, *fields in notes if what == "closed"))
    assert recorded == tried
    return lost


def check_transitions(fleet, key, how):
    """Every change in the store's history is in the lines of every process that lived, once, and nothing else is."""
    made = fleet.history(key)
    for name in fleet.processes:
        if name in fleet.killed or how[name] == "overloaded":
            assert fleet.told(name, key) <= set(made)
        else:
            assert sorted(made) == sorted(fleet.told(name, key))
    changed = {tuple(fields) for name in fleet.processes for what, *fields in fleet.notes(name) if what == "changed"}
    assert {(key, actor, reason) for each, actor, reason in changed if each == key} <= {(key, *each[2:]) for each in made}
    return made


def check_report(fleet, made):
    """The report counts what the lines of all processes say, each once; and the doctor says how much is lost."""
    lines = [line for name in fleet.processes for line in fleet.lines(name)]
    arms, values, seen = Counter(), defaultdict(float), set()
    where, visits = {}, defaultdict(list)
    for line in lines:
        if line["event"] == "decision":
            visits[line["rollout"], line["unit"]].append((line["t"], line["id"]))
        if line["event"] == "decision" and not line.get("excluded"):
            arm = line["rollout"], line["phase"], line["variant"]
            arms[arm] += round(1 / line.get("rate", 1))
            where[line["id"]] = arm, round(1 / line.get("rate", 1))
    for line in lines:
        if line["event"] == "outcome":
            same = line.get("id") or line["unit"], line["value"]
            # One of a unit goes to the unit's last call before it.
            earlier = [visit for visit in visits[line["rollout"], line.get("unit")] if visit[0] <= line["t"]]
            call = line.get("id") or max(earlier, default=(0.0, ""))[1]
            if same not in seen and call in where:
                arm, many = where[call][0], where[call][1] if "id" in line else 1
                values[arm] += line["value"] * max(many, round(1 / line.get("rate", 1)))
            seen.add(same)
    report = summarise(fleet.folder / "journal")
    reported = {
        (each.rollout, phase.phase, arm.variant): arm
        for each in report.rollouts
        for phase in each.phases
        for arm in phase.variants
    }
    assert dict(arms) == {arm: each.calls for arm, each in reported.items()}
    means = {arm: each.metrics[0].per_call.mean * each.calls for arm, each in reported.items() if each.metrics}
    assert {arm: pytest.approx(values[arm], abs=1e-9) for arm in means} == means
    assert {arm for arm in values if values[arm]} <= set(means)
    for each in report.rollouts:
        told = [record["id"] for record in each.transitions if record["action"] != "start"]
        assert sorted(change for change, *_ in made[each.rollout]) == sorted(told)
    seen = examine(str(fleet.folder / "journal"), environment={}, now=time.time())
    said = sum(line["count"] for line in lines if line["event"] == "lost")
    assert (said, said) == (report.lost, seen.journal.report.lost)
    assert bool(said) == ("journal.lost" in [finding.code for finding in seen.findings])


def live(fleet, seed, lasts_s, kinds):
    """One life of a fleet: processes, an operator at the command line, a control file, the judge, and kills."""
    rng = random.Random(seed)
    control = fleet.folder / "control.toml"
    control.write_text("version = 1\n")
    how = {f"p{number}": kind for number, kind in enumerate(kinds)}
    for name, kind in how.items():
        fleet.start(name, rng.randrange(10**6), kind, lasts_s)
    fleet.go(how)
    store = f"sqlite:///{fleet.folder}/rollouts.db"
    began, version = time.monotonic(), 1
    doomed = [name for name, kind in how.items() if kind != "overloaded"][: len(kinds) // 2]
    while time.monotonic() < began + lasts_s:
        what = rng.choice(["command", "file", "kill", "rest"])
        if what == "command":
            action, *words = rng.choice([["pause"], ["resume"], ["set-share", "45%"], ["promote", "--force"]])
            fleet.command(action, "ramp", *words, "--store", store, "--actor", "ann", "--reason", f"at {time.monotonic()}")
        elif what == "file":
            version += 1
            status = rng.choice(["running", "paused"])
            (fleet.folder / "next.toml").write_text(f'version = {version}\n[rollouts.filed]\nstatus = "{status}"\n')
            (fleet.folder / "next.toml").replace(control)
        elif what == "kill" and doomed and time.monotonic() > began + lasts_s / 3:
            fleet.kill(doomed.pop())
        time.sleep(0.3)
    # At least one dies in every life, and an operator aborts at the end.
    if doomed:
        fleet.kill(doomed.pop())
    fleet.command("abort", "ramp", "--store", store, "--actor", "ann", "--reason", "pager")
    fleet.end([name for name in fleet.survivors() if how[name] != "overloaded"])
    made = {key: check_transitions(fleet, key, how) for key in KEYS}
    lost = {name: check_process(fleet, name, how[name], made) for name in how}
    assert ("abort", "ann", "pager") == made["ramp"][-1][1:]
    assert ["roll_back"] == [action for _, action, *_ in made["judged"]]
    check_report(fleet, made)
    return lost


def test_what_went_in_is_what_the_journal_tells_plus_what_it_says_it_lost(fleet):
    lost = live(fleet, 1, 3.0, ["durable", "overloaded", "usual"])
    assert lost["p1"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_what_went_in_is_what_the_journal_tells_in_many_lives(fleet, seed):
    live(fleet, seed, 10.0, ["durable", "overloaded", "usual", "usual", "durable"])
