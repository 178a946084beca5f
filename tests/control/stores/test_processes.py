"""One file, many processes: they swap, they fork, and they are killed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from rollout_sdk.control.stores import MemoryStore, SQLiteStore

KEY = "shop.rank"
HEAD = """
import os, sys, threading, time
from rollout_sdk import StoreError
from rollout_sdk.control.stores import MemoryStore, SQLiteStore

KEY = "shop.rank"
path = sys.argv[1]

def document(revision, **more):
    return {"revision": revision, "epoch": 0, **more}
"""

SWAPPER = (
    HEAD
    + """
store, me, won = SQLiteStore(path, timeout_s=60.0), sys.argv[2], 0
for _ in range(200):
    found = store.load(KEY)
    now = None if found is None else found.revision
    won += store.swap(KEY, now, document((now or 0) + 1), {"by": me, "to": (now or 0) + 1})
print(won)
"""
)

WRITER = (
    HEAD
    + """
store = SQLiteStore(path, timeout_s=60.0)
found = store.load(KEY)
revision = 0 if found is None else found.revision
while True:
    assert store.swap(KEY, revision or None, document(revision + 1, filler="x" * 20_000), {"to": revision + 1})
    revision += 1
    print(revision, flush=True)
    assert store.publish(KEY, 0, "w", {"n": str(revision), "filler": str(revision) * 10_000})
"""
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rollouts.db"


# Python 3.12 warns of forks with threads, which is what these tests are about.
FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def start(program, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error,ignore::DeprecationWarning"}
    # Without a buffer: what `readline` would read ahead, `communicate` would not have.
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        bufsize=0,
    )


def finished(process, timeout_s=60.0):
    output, _ = process.communicate(timeout=timeout_s)
    assert 0 == process.returncode
    return output.decode()


def test_four_processes_swap_and_every_win_is_in_the_history(path):
    processes = [start(SWAPPER, path, name) for name in "abcd"]
    won = {name: int(finished(process)) for name, process in zip("abcd", processes, strict=True)}
    with closing(SQLiteStore(path)) as store:
        history, final = store.history(KEY), store.load(KEY).revision
    assert sum(won.values()) == len(history) == final
    assert won == {name: sum(record["by"] == name for record in history) for name in "abcd"}
    assert list(range(1, final + 1)) == [record["to"] for record in history]
    assert 0 < min(won.values())


def is_hot(path):
    """Whether SQLite's journal has pages of a transaction that has not ended."""
    journal = Path(f"{path}-journal")
    return journal.exists() and journal.stat().st_size > 0


def stop_in_a_transaction(process, path, chance):
    """Stop a writer again and again, until it stands in the midst of a transaction, however slow the machine is."""
    deadline = time.monotonic() + 60.0
    while True:
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the writer has ended"
        if is_hot(path):
            return
        assert time.monotonic() < deadline, "the writer was never found in a transaction"
        process.send_signal(signal.SIGCONT)
        time.sleep(chance.uniform(0.0, 0.003))


def test_twenty_kills_lose_no_acknowledged_swap(path):
    """Ten at any moment, and ten in the midst of a transaction."""
    chance = random.Random(9)
    acknowledged, hot = 0, 0
    for number in range(20):
        process = start(WRITER, path)
        first = int(process.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.03))
        if number % 2:
            stop_in_a_transaction(process, path, chance)
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        # The last line may be half written: it was not acknowledged.
        acknowledged = max([first, *(int(line) for line in output.decode().split("\n")[:-1])])
        hot += is_hot(path)
        with closing(SQLiteStore(path)) as store:
            found = store.load(KEY)
            assert found.revision in (acknowledged, acknowledged + 1)
            assert list(range(1, found.revision + 1)) == [record["to"] for record in store.history(KEY)]
            parts = {part: text for (_, part), text in store.gather(KEY, 0).parts.items()}
            # Both parts are of one publish, or none is there yet.
            assert parts == {} or parts["filler"] == parts["n"] * 10_000
            with store._file.transaction("read") as connection:
                assert ("ok",) == connection.execute("PRAGMA integrity_check").fetchone()
    assert 20 <= acknowledged
    assert 10 <= hot


# Forks --------------------------------------------------------------------------------------------------------------------

FORKED = (
    HEAD
    + """
store = SQLiteStore(path, timeout_s=60.0)
store.swap(KEY, None, document(1), {"by": "parent"})
def add(who):
    for _ in range(25):
        while True:
            found = store.load(KEY)
            if store.swap(KEY, found.revision, document(found.revision + 1), {"by": who}):
                break
children = []
for number in range(3):
    child = os.fork()
    if not child:
        add(f"child {number}")
        sys.exit(0)
    children.append(child)
add("parent")
assert [0] * 3 == [os.waitpid(child, 0)[1] for child in children]
print(store.load(KEY).revision)
"""
)


def test_a_parent_and_its_forked_children_use_the_same_store(path):
    assert "101\n" == finished(start(FORKED, path))
    with closing(SQLiteStore(path)) as store:
        by = [record["by"] for record in store.history(KEY)]
    assert {"parent": 26, "child 0": 25, "child 1": 25, "child 2": 25} == {who: by.count(who) for who in set(by)}


BUSY_FORK = (
    HEAD
    + """
# Threads use the store again and again while the process forks: no child may be stuck, or see a half of something.
store = SQLiteStore(path, timeout_s=20.0) if path != "memory" else MemoryStore()
store.swap(KEY, None, document(1), {})
over, faults = threading.Event(), []
def use(name):
    number = 0
    try:
        while not over.is_set():
            number += 1
            began = time.monotonic()
            store.publish(KEY, 0, name, {"a": str(number), "b": str(number)})
            # SQLite looks for a free file in steps of up to .1 s: on a slow machine, others would look for ever.
            time.sleep(max(0.004, 2 * (time.monotonic() - began)))
    except BaseException as error:
        faults.append(error)
threads = [threading.Thread(target=use, args=(name,)) for name in ("t1", "t2")]
for thread in threads:
    thread.start()
ends = []
for number in range(20):
    child = os.fork()
    if not child:
        parts = store.gather(KEY, 0).parts
        whole = all(parts[name, "a"] == parts[name, "b"] for name, _ in parts)
        sys.stdout.flush()
        ok = whole and store.publish(KEY, 0, f"c{number}", {"a": "1", "b": "1"})
        ok = ok and (f"c{number}", "a") in store.gather(KEY, 0).parts
        os._exit(0 if ok else 3)
    ends.append(os.waitpid(child, 0)[1])
over.set()
for thread in threads:
    thread.join()
print(ends == [0] * 20, faults)
"""
)


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_a_process_forks_while_its_threads_are_using_the_store(kind, path):
    assert "True []\n" == finished(start(BUSY_FORK, "memory" if kind == "memory" else path))


TORN = (
    HEAD
    + """
# A thread of the parent is in the midst of a transaction, and stays there for longer than a fork waits.
store = SQLiteStore(path, timeout_s=0.1)
store.swap(KEY, None, document(1), {})
inside, go_on = threading.Event(), threading.Event()
def hold():
    with store._file.transaction("written", writes=True) as connection:
        connection.execute("INSERT INTO notes VALUES (?, 'n', 'parent')", (KEY,))
        inside.set()
        go_on.wait(30)
thread = threading.Thread(target=hold)
thread.start()
inside.wait(30)
began = time.monotonic()
child = os.fork()
waited = time.monotonic() - began
if not child:
    try:
        store.load(KEY)
    except StoreError as error:
        print("forked in the middle" in str(error), flush=True)
    sys.exit(0)  # with all finalizers
assert os.waitpid(child, 0)[1] == 0
print(os.stat(path + "-journal").st_size > 0, 0.1 < waited < 2.0)
go_on.set()
thread.join()
print(store.noted(KEY, "n"))
"""
)


def test_a_child_that_is_forked_in_the_midst_of_a_transaction_leaves_it_alone(path):
    assert ["True", "True True", "parent"] == finished(start(TORN, path)).splitlines()


UNUSED = (
    HEAD
    + """
store = SQLiteStore(path)
store.swap(KEY, None, document(1), {})
connection = store._file._connection
before = sys.getrefcount(connection)
child = os.fork()
if not child:
    import gc
    assert store._file._connection is None
    store.close()
    del store
    gc.collect()
    # The store and its finalizer have let it go, and one reference is never dropped: it is never finalized.
    assert sys.getrefcount(connection) == before - 1, (sys.getrefcount(connection), before)
    assert connection.execute("SELECT 1").fetchone() == (1,)  # open still
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(store.load(KEY).revision)
"""
)


def test_a_child_that_closes_the_store_does_not_close_the_parents_connection(path):
    assert "1\n" == finished(start(UNUSED, path))


@FORKS
def test_a_memory_store_is_the_childs_own_after_a_fork():
    store = MemoryStore()
    store.note(KEY, "n", "parent")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, store.noted(KEY, "n").encode())
        store.note(KEY, "n", "child")
        os._exit(0)
    os.waitpid(child, 0)
    assert (b"parent", "parent") == (os.read(reading, 100), store.noted(KEY, "n"))
    os.close(reading)
    os.close(writing)


@FORKS
def test_two_threads_fork_at_once_and_the_store_works_afterwards(path):
    with closing(SQLiteStore(path, timeout_s=20.0)) as store:
        store.swap(KEY, None, {"revision": 1, "epoch": 0}, {})
        ends = []

        def fork():
            for _ in range(10):
                child = os.fork()
                if not child:
                    os._exit(0 if store.load(KEY).revision == 1 else 3)
                ends.append(os.waitpid(child, 0)[1])

        threads = [threading.Thread(target=fork) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [0] * 20 == ends
        assert 1 == store.load(KEY).revision
