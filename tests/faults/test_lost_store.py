"""Row F83: processes under kill -9, operators, a control file, and a store that is deleted, restored and locked in between."""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing, suppress

import pytest

from rollout_sdk import StateError, StoreError
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stored_state import change_stored
from rollout_sdk.control.stores import SQLiteStore

WORKER = """
    import json, sys, time
    from rollout_sdk import Canary, Runtime, rollout

    runtime = Runtime(store=sys.argv[1], control=sys.argv[2])
    split = rollout(candidate=lambda user: "new", strategy=Canary(["20%", "40%", "60%", "80%"]), unit="user", key="m",
                    runtime=runtime)
    model = split(lambda user: "old")
    with open(sys.argv[3], "a", buffering=1) as file:
        while True:
            began = time.monotonic()
            state = model.rollout._rollout.state
            ran = sum(model(f"user-{number}") == "new" for number in range(40))
            file.write(json.dumps([began, ran, state.revision, state.status]) + "\\n")
            time.sleep(0.02)
"""


class Fleet:
    """Workers of one store, whose notes are read at the end."""

    def __init__(self, folder):
        self.folder, self.db, self.control = folder, folder / "rollouts.db", folder / "control.toml"
        self.program = folder / "worker.py"
        self.program.write_text(textwrap.dedent(WORKER))
        self.control.write_text('version = 1\n[rollouts.m]\nshare = "20%"')
        self.control.chmod(0o600)
        self.workers, self.notes = [], []

    def start(self):
        notes = self.folder / f"notes-{len(self.notes)}"
        self.notes.append((notes, time.monotonic()))
        command = [sys.executable, str(self.program), f"sqlite:///{self.db}", str(self.control), str(notes)]
        self.workers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))

    def kill_one(self, rng):
        worker = self.workers.pop(rng.randrange(len(self.workers)))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.start()

    def wait(self, longest_s=90.0):
        """Wait until the newest worker serves."""
        until = time.monotonic() + longest_s
        while not list(self.seen())[-1][1]:
            assert time.monotonic() < until
            time.sleep(0.1)

    def stop(self):
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def seen(self):
        """What every worker noted, with when it was started."""
        for path, started in self.notes:
            lines = path.read_text().splitlines() if path.exists() else []
            # The last line may be cut by the kill.
            yield started, [json.loads(line) for line in lines if line.endswith("]")]


def damage(fleet, rng, backup):
    """Something that disks and people do to a store; never during a copy of our own, which would spoil the copy."""
    what = rng.choice(["delete", "empty", "back up", "restore", "lock", "kill", "kill"])
    with suppress(OSError, sqlite3.Error):
        if what == "delete":
            fleet.db.unlink()
        elif what == "empty":
            fresh = fleet.folder / "fresh"
            fresh.touch(mode=0o600)
            fresh.replace(fleet.db)
        elif what == "back up":
            with (
                closing(sqlite3.connect(f"file:{fleet.db}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(backup)) as to,
            ):
                source.backup(to)
        elif what == "restore" and backup.exists():
            restored = fleet.folder / "restored"
            shutil.copy(backup, restored)
            restored.chmod(0o600)
            restored.replace(fleet.db)
        elif what == "lock":
            with closing(sqlite3.connect(fleet.db, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                time.sleep(0.7)
        else:
            fleet.kill_one(rng)
    return what


ACTIONS = {
    "promote": RolloutState.promote,
    "pause": RolloutState.pause,
    "resume": RolloutState.resume,
    "set_share": lambda state: state.set_share("30%" if state.phase.name.endswith("10%") else "10%"),
}


def operate(fleet, action, change, reason):
    """What `rollout ACTION m` does; whether the store took it."""
    with closing(SQLiteStore(fleet.db)) as store:
        try:
            before, after = change_stored(store, "m", action, change, now_s=time.time(), actor="ann", reason=reason)
        except (StoreError, StateError):
            return False
        return after is not before


@pytest.mark.parametrize(
    ("workers", "seconds"), [(3, 12), pytest.param(8, 180, marks=[pytest.mark.slow, pytest.mark.timeout(400)])]
)
def test_f83_an_abort_stays_whatever_happens_to_the_store(workers, seconds, tmp_path, figure):
    rng, fleet, done, taken = random.Random(83), Fleet(tmp_path), [], []
    backup = tmp_path / "backup"
    for _ in range(workers):
        fleet.start()
    try:
        fleet.wait()
        began, aborted_s = time.monotonic(), None
        while (now := time.monotonic()) < began + seconds or aborted_s is None:
            assert now < began + 2 * seconds + 60
            done.append(damage(fleet, rng, backup))
            reason = f"by hand, number {len(done)}"
            if aborted_s is None and now > began + seconds / 2:
                aborted_s = time.monotonic() if operate(fleet, "abort", RolloutState.abort, reason) else None
                taken += [reason] * (aborted_s is not None)
            else:
                action = rng.choice(list(ACTIONS))
                taken += [reason] * operate(fleet, action, ACTIONS[action], reason)
            time.sleep(rng.uniform(0.05, 0.3))
        # One starts after all of it; then everything that was going on has an end, and is looked at.
        fleet.kill_one(rng)
        fleet.wait()
        time.sleep(3.0)
        seen = list(fleet.seen())
    finally:
        fleet.stop()
    grace_s = 2.0
    late = [note for started, notes in seen for note in notes if note[1] and note[0] > aborted_s + grace_s]
    after = [note for started, notes in seen if started > aborted_s for note in notes if note[1]]
    assert ([], []) == (late, after)
    assert [] == [notes for _, notes in seen if [note[2] for note in notes] != sorted(note[2] for note in notes)]
    # Candidates ran before, and workers that started after the abort served.
    assert any(note[1] for _, notes in seen for note in notes)
    assert any(notes for started, notes in seen if started > aborted_s)
    with closing(SQLiteStore(fleet.db)) as store:
        history = store.history("m")
        revisions = [record["revision"] for record in history]
        assert ("aborted", True) == (store.load("m").document["status"], {"delete", "restore"} <= set(done))
    assert revisions == sorted(set(revisions))
    # Whatever the store had taken is told, in order.
    told = [record["reason"] for record in history if record["reason"] in taken]
    assert taken == told
    kills = done.count("kill")
    figure(
        "F83",
        "{processes} processes, {kills} kills and {blows} other faults in {took_s:.0f} s: {after} candidates ran "
        "in processes started after the abort, {late} in any process from {grace_s:.0f} s after it; {told} of "
        "{taken} changes by operators are in the history, revisions never decreased in {seen:,} reads",
        processes=len(fleet.notes),
        kills=kills,
        blows=len(done) - kills,
        took_s=now - began,
        after=len(after),
        late=len(late),
        grace_s=grace_s,
        told=len(told),
        taken=len(taken),
        seen=sum(len(notes) for _, notes in seen),
    )
