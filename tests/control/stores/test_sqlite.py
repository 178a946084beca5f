"""What is special about a file: who may read it, what is in it already, who holds it, and what becomes of it."""

import json
import os
import pickle
import random
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from rollout_sdk import ConfigurationError, StoreError
from rollout_sdk.control.stores import SQLiteStore, sqlite_file, swap_log, transaction_lock
from rollout_sdk.control.stores.validation import MOST_BYTES

KEY = "shop.rank"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rollouts.db"


@pytest.fixture
def opened(path):
    """Makes stores of the file, and closes them."""
    stores = []

    def make(**options):
        stores.append(SQLiteStore(path, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def document(revision, epoch=0):
    return {"revision": revision, "epoch": epoch}


def filled(store):
    """A store with something of everything."""
    for number in range(5):
        store.swap(KEY, number or None, document(number + 1), {"number": number})
    for number in range(20):
        store.publish(KEY, 0, f"w{number}", {"sums": f"{number}" * 200})
    store.note(KEY, "verdict", "PASS")
    return store


def used(store):
    """What every method gives."""
    return (
        store.load(KEY),
        store.history(KEY),
        store.gather(KEY, 0).parts,
        store.noted(KEY, "verdict"),
        store.keys(),
    )


# The file -----------------------------------------------------------------------------------------------------------------


def test_the_file_is_made_by_the_first_use_for_its_owner_only(path, opened):
    before = os.umask(0)
    try:
        store = opened()
        assert not path.exists()
        filled(store)
    finally:
        os.umask(before)
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}


def test_another_mode_of_an_existing_file_is_left_as_it_is(path, opened):
    path.touch()
    path.chmod(0o660)
    filled(opened())
    assert 0o660 == stat.S_IMODE(path.stat().st_mode)


def test_the_journal_is_a_rollback_journal_and_commits_are_synchronised(path, opened):
    store = filled(opened())
    with store._file.transaction("read") as connection:
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "mmap_size")]
    assert ["truncate", 2, 0] == found


def test_a_file_that_was_in_wal_mode_is_taken_out_of_it(path, opened):
    filled(opened()).close()
    with closing(sqlite3.connect(path)) as other:
        assert ("wal",) == other.execute("PRAGMA journal_mode = WAL").fetchone()
    assert 5 == opened().load(KEY).revision
    with closing(sqlite3.connect(path)) as other:
        assert ("delete",) == other.execute("PRAGMA journal_mode").fetchone()


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "no directory", "a file as directory"])
def test_what_can_be_no_store_is_an_error_of_its_first_use(kind, tmp_path):
    path = tmp_path / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/null"
    elif kind == "a file as directory":
        path.touch()
        path = path / "x.db"
    else:
        path = path / "x.db"
    store = SQLiteStore(path)
    for use in (lambda: store.load(KEY), lambda: store.note(KEY, "n", "t")):
        with pytest.raises(StoreError, match=r"The store '.*(not a regular file|has no directory|Not a directory)"):
            use()


def test_a_store_whose_directory_comes_later_is_used_from_then_on(tmp_path):
    store = SQLiteStore(tmp_path / "mount" / "x.db")
    with pytest.raises(StoreError, match="has no directory"):
        store.keys()
    (tmp_path / "mount").mkdir()
    with closing(store):
        assert [] == store.keys()


def test_a_path_that_no_file_can_have_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match="has a NUL in its path"):
        SQLiteStore(tmp_path / "a\0b")


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "1", None, True, 3601])
def test_a_time_out_that_is_none_is_refused(timeout_s, path):
    with pytest.raises(ConfigurationError, match="timeout_s"):
        SQLiteStore(path, timeout_s=timeout_s)


def test_a_fifo_that_comes_later_is_an_error_and_not_waited_for(path, opened):
    store = opened()
    os.mkfifo(path)
    with pytest.raises(StoreError, match="is not a regular file"):
        store.load(KEY)


@pytest.mark.parametrize("name", ["a b%20?c#d.db", "日本.db", os.fsdecode(b"\xff.db"), "x'y\"z.db"])
def test_any_name_of_a_file_is_well(name, tmp_path):
    with closing(SQLiteStore(tmp_path / name)) as store:
        filled(store)
    names = [os.fsencode(name + suffix) for suffix in ("", "-history.jsonl", "-journal")]
    assert names == sorted(os.fsencode(each.name) for each in tmp_path.iterdir())


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with closing(SQLiteStore("x.db")) as store:
        monkeypatch.chdir("/")
        filled(store)
    assert (tmp_path / "x.db").exists()


def test_it_pickles_as_its_settings_and_opens_where_it_is_unpickled(path, opened):
    store = filled(opened(timeout_s=2.5))
    with closing(pickle.loads(pickle.dumps(store))) as other:
        assert (store.path, 2.5) == (other.path, other.timeout_s)
        assert used(store) == used(other)
        assert repr(other) == f"SQLiteStore({str(path)!r}, timeout_s=2.5)"


def test_it_unpickles_where_its_directory_is_not(path, opened, tmp_path):
    pickled = pickle.dumps(opened()).replace(str(tmp_path).encode(), b"/" * len(str(tmp_path)))
    store = pickle.loads(pickled)
    assert "/rollouts.db" == str(store.path)[-12:]
    assert not str(store.path).startswith(str(tmp_path))


# What is in it already ----------------------------------------------------------------------------------------------------


def test_an_unknown_schema_is_refused_and_left_as_it_is(path, opened):
    filled(opened()).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE rollout_store SET schema = 7")
        other.commit()
    before = path.read_bytes()
    for use in (lambda: opened().load(KEY), lambda: opened().swap(KEY, 5, document(6), {})):
        with pytest.raises(StoreError, match=r"has the schema \[7\], and this version of rollout_sdk knows 1.*Update"):
            use()
    assert before == path.read_bytes()


def test_the_database_of_another_program_is_refused_and_left_as_it_is(path, opened):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is not a store: it is the database of another program"):
        opened().swap(KEY, None, document(1), {})
    assert before == path.read_bytes()


def test_a_file_that_is_refused_is_closed_at_once(path, opened, monkeypatch):
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    connect, connections = sqlite3.connect, []
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **kwargs: connections.append(connect(*args, **kwargs)) or connections[-1]
    )
    with pytest.raises(StoreError):
        opened().load(KEY)
    assert connections
    for each in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            each.execute("SELECT 1")


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at" * 100, b"SQLite format 3\0" + b"\xff" * 8000, b"x"]
)
def test_what_is_no_database_is_an_error(content, path, opened):
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"The store '.*' (could not be read|is not a store)"):
        opened().load(KEY)
    assert content == path.read_bytes()


def test_a_damaged_file_is_an_error_and_never_a_crash(path, tmp_path):
    with closing(SQLiteStore(path)) as store:
        filled(store)
        sound = used(store)
    content = path.read_bytes()
    chance = random.Random(20)
    ends = {"sound": 0, "error": 0, "other": 0}
    for number in range(150):
        damaged = bytearray(content)
        if number % 3 == 0:
            del damaged[chance.randrange(len(damaged)) :]
        else:
            for _ in range(chance.choice([1, 10, 200])):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        other = tmp_path / "damaged.db"
        other.write_bytes(damaged)
        (tmp_path / "damaged.db-journal").unlink(missing_ok=True)
        with closing(SQLiteStore(other)) as store:
            for use in (
                used,
                lambda it: it.swap(KEY, 5, document(6), {}),
                lambda it: it.publish(KEY, 0, "w1", {"sums": "1"}),
                used,
            ):
                try:
                    found = use(store)
                except StoreError:
                    ends["error"] += 1
                else:
                    ends["sound" if found in (sound, True) else "other"] += 1
    assert ends["error"] > 100, ends
    assert ends["sound"] > 10, ends


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_file_that_was_cut_short_while_it_is_open_is_an_error_and_no_new_beginning(size, path, opened):
    store = filled(opened())
    used(store)
    history(path).unlink()
    os.truncate(path, size)
    for _ in range(3):
        for use in (lambda: used(store), lambda: store.swap(KEY, None, document(1), {})):
            with pytest.raises(StoreError, match=r"could not be|is not a store"):
                use()


def test_a_file_that_is_gone_with_its_history_is_an_error_and_no_new_beginning(path, opened):
    store = filled(opened())
    aside = path.rename(path.with_suffix(".aside"))
    history(path).unlink()
    for use in (store.keys, lambda: store.swap(KEY, None, document(1), {})):
        with pytest.raises(StoreError, match="is gone"):
            use()
    assert not path.exists()
    aside.rename(path)
    assert 5 == store.load(KEY).revision


def history(path):
    return path.with_name(path.name + "-history.jsonl")


@pytest.mark.parametrize("damage", ["deleted", "emptied", "replaced by an empty one", "restored", "restored in place"])
@pytest.mark.parametrize("by", ["the process that has it open", "another"])
def test_a_store_that_has_lost_what_was_done_is_brought_forward_to_its_history(damage, by, path, opened, tmp_path):
    store = opened()
    store.swap(KEY, None, document(0), {"number": 0})
    backup = tmp_path / "backup.db"
    backup.write_bytes(path.read_bytes())
    backup.chmod(0o600)
    for number in range(1, 4):
        store.swap(KEY, number - 1, document(number), {"number": number})
    if damage == "deleted":
        path.unlink()
    elif damage == "emptied":
        os.truncate(path, 0)
    elif damage == "replaced by an empty one":
        path.unlink()
        path.touch(mode=0o600)
    elif damage == "restored":
        backup.rename(path)
    else:
        path.write_bytes(backup.read_bytes())
    other = opened() if by == "another" else store
    # In place, the process that has it open sees it when it next changes anything; where it finds no table at all, after an
    # error.
    with suppress(StoreError):
        other.keys()
    assert not other.swap(KEY, 0, document(1), {"number": "not this one"})
    assert (3, [0, 1, 2, 3]) == (other.load(KEY).revision, [record["number"] for record in other.history(KEY)])
    assert other.swap(KEY, 3, document(4), {"number": 4})


def test_a_process_that_was_killed_before_it_wrote_its_line_has_it_written_by_the_next(path, opened):
    store = opened()
    store.swap(KEY, None, document(0), {"number": 0})
    kept = history(path).read_bytes()
    store.swap(KEY, 0, document(1), {"number": 1})
    # The second line, cut in its midst.
    history(path).write_bytes(kept + b'\n["k')
    store.close()
    opened().keys()
    path.unlink()
    assert (1, [0, 1]) == (opened().load(KEY).revision, [record["number"] for record in opened().history(KEY)])


def test_an_error_is_not_done_later(path, opened):
    store = filled(opened(timeout_s=0.3))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM documents").fetchall()
        with pytest.raises(StoreError, match="locked"):
            store.swap(KEY, 5, document(6), {})
        reader.execute("COMMIT")
    assert store.swap(KEY, 5, {**document(6), "status": "another"}, {})
    path.unlink()
    assert "another" == opened().load(KEY).document["status"]


def test_a_file_that_is_replaced_is_read_instead(path, opened, tmp_path):
    store = filled(opened())
    history(path).unlink()
    with closing(SQLiteStore(tmp_path / "backup.db")) as backup:
        backup.swap(KEY, None, document(3), {"restored": 1})
        backup.publish(KEY, 0, "w", {"sums": "7"})
    cursor = store.gather(KEY, 0).cursor
    (tmp_path / "backup.db").rename(path)
    assert 3 == store.load(KEY).revision
    assert store.swap(KEY, 3, document(4), {})
    # The cursor is the other file's.
    assert {("w", "sums"): "7"} == store.gather(KEY, 0, cursor).parts


def test_a_file_that_cannot_be_written_can_be_read(opened):
    store = filled(opened())
    with store._file.transaction("read") as connection:
        connection.execute("PRAGMA query_only = ON")
    assert 5 == store.load(KEY).revision
    with pytest.raises(StoreError, match=r"could not be written.*Let this process write"):
        store.swap(KEY, 5, document(6), {})


def test_a_full_disk_is_an_error_and_what_was_there_stays(path, opened):
    store = filled(opened())
    before = used(store)
    with store._file.transaction("read") as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match=r"could not be written: database or disk is full.*Make room on its disk"):
        store.publish(KEY, 0, "large", {"sums": "x" * 100_000})
    # The limit was this connection's: with room again, everything works.
    assert before == used(store)
    assert store.publish(KEY, 0, "large", {"sums": "x" * 100_000})


@pytest.mark.parametrize("size", [MOST_BYTES + 1, MOST_BYTES])
def test_a_text_has_four_mebibytes_at_the_most(size, opened):
    store = filled(opened(timeout_s=10.0))
    padding = size - len(json.dumps({**document(6), "x": ""}))
    text = "é" * (size // 2) + "x" * (size % 2)
    uses = [
        lambda: store.publish(KEY, 0, "w", {"sums": text}),
        lambda: store.note(KEY, "verdict", text),
        lambda: store.swap(KEY, 5, {**document(6), "x": "x" * (padding)}, {}),
    ]
    if size > MOST_BYTES:
        for use in uses:
            with pytest.raises(StoreError, match=r"4 MiB"):
                use()
        assert ({}, "PASS", 5) == (store.gather(KEY, 1).parts, store.noted(KEY, "verdict"), store.load(KEY).revision)
    else:
        assert [True, None, True] == [use() for use in uses]
        assert text == store.gather(KEY, 0).parts["w", "sums"] == store.noted(KEY, "verdict")
        assert padding == len(store.load(KEY).document["x"])


# Who holds it -------------------------------------------------------------------------------------------------------------

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("is_open", [True, False])
def test_a_locked_file_is_an_error_within_the_time_out_and_works_again_afterwards(is_open, path, opened):
    store = filled(opened(timeout_s=0.3))
    store = store if is_open else opened(timeout_s=0.3)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert b"held\n" == holder.stdout.readline()
        for use in (lambda: used(store), lambda: store.swap(KEY, 5, document(6), {}), lambda: store.publish(KEY, 0, "w", {})):
            began = time.monotonic()
            with pytest.raises(StoreError, match=r"could not be .*locked.*Another program has it locked"):
                use()
            assert 0.2 < time.monotonic() - began < 1.0
    finally:
        holder.communicate()
    assert store.swap(KEY, 5, document(6), {})


def test_readers_do_not_keep_a_writer_longer_than_the_time_out(path, opened):
    store = filled(opened(timeout_s=0.3))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM documents").fetchall()
        began = time.monotonic()
        with pytest.raises(StoreError, match="locked"):
            store.swap(KEY, 5, document(6), {})
        assert 0.2 < time.monotonic() - began < 1.0
        reader.execute("COMMIT")
    assert 5 == store.load(KEY).revision
    assert store.swap(KEY, 5, document(6), {})


def test_a_thread_that_has_its_turn_too_long_costs_the_others_the_time_out(opened):
    store = filled(opened(timeout_s=0.2))
    with store._file.transaction("read"):
        began = time.monotonic()
        with pytest.raises(StoreError, match="other threads used it for"):
            store.load(KEY)
        assert 0.1 < time.monotonic() - began < 0.8
    assert 5 == store.load(KEY).revision


def test_the_time_that_a_thread_waits_to_be_next_is_taken_off_its_wait_for_the_turn(monkeypatch):
    now, waited = [0.0], []

    class Waits:
        """A token that is given after a while, or never."""

        def __init__(self, after_s):
            self.after_s = after_s

        def get(self, timeout):
            waited.append(timeout)
            now[0] += min(timeout, self.after_s)
            if timeout < self.after_s:
                raise transaction_lock.Empty

        def put(self, _):
            """Given back."""

    monkeypatch.setattr(transaction_lock, "monotonic", lambda: now[0])
    one = transaction_lock.TransactionLock(2.0, Waits(0.0).put)
    one._next, one._token = Waits(0.75), Waits(60.0)
    with one.acquired(1.0) as is_ours:
        assert not is_ours
    assert ([1.0, 0.25], 1.0) == (waited, now[0])


def test_every_step_of_a_transaction_waits_only_for_what_is_left_of_the_time_out(opened, monkeypatch):
    now, statements = [0.0], []
    monkeypatch.setattr(sqlite_file, "monotonic", lambda: now[0])
    store = filled(opened(timeout_s=1.0))

    @contextmanager
    def late(timeout_s):
        now[0] += 0.25
        yield True

    monkeypatch.setattr(store._file._lock, "acquired", late)
    store._file._connection.set_trace_callback(statements.append)
    with store._file.transaction("written", writes=True) as connection:
        connection.execute("DELETE FROM notes")
        now[0] += 0.5
    assert [
        "PRAGMA busy_timeout = 750",
        "BEGIN IMMEDIATE",
        "DELETE FROM notes",
        "PRAGMA busy_timeout = 250",
        "COMMIT",
    ] == statements


@pytest.mark.parametrize("file", ["new", "behind its history"])
def test_every_step_of_opening_waits_only_for_what_is_left_of_the_time_out(file, path, opened, monkeypatch):
    if file == "behind its history":
        filled(opened()).close()
        path.unlink()
    now, statements, timeouts, connect = [0.0], [], [], sqlite3.connect

    def traced(*args, timeout, **options):
        timeouts.append(timeout)
        connection = connect(*args, timeout=timeout, **options)

        def note(statement):
            statements.append((int((1.0 - now[0]) * 1000), statement))
            # Each takes its time, as if another process had the file until then.
            now[0] += 0.01

        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(sqlite_file, "monotonic", lambda: now[0])
    monkeypatch.setattr(sqlite_file.sqlite3, "connect", traced)
    store = opened(timeout_s=1.0)
    assert (5 if file == "behind its history" else None) == (None if (found := store.load(KEY)) is None else found.revision)
    assert [1.0] == timeouts
    waiting = [place for place, (_, text) in enumerate(statements) if text in ("BEGIN", "BEGIN IMMEDIATE", "COMMIT")]
    looked = next(place for place, (_, text) in enumerate(statements) if "sqlite_master" in text)
    # The tables, where there were none; what the history has; and what was asked for.
    assert (2 * (3 if file == "behind its history" else 2)) == len(waiting)
    for place in (looked, *waiting):
        left_ms, said = statements[place - 1]
        assert f"PRAGMA busy_timeout = {left_ms}" == said


def test_a_fork_waits_twice_the_time_out_for_a_turn_to_end(path, monkeypatch):
    store, waited = SQLiteStore(path, timeout_s=0.25), []
    monkeypatch.setattr(store._file._lock, "_acquire", waited.append)
    transaction_lock._forks.before()
    transaction_lock._forks.in_parent()
    assert [0.5] == waited


def test_a_store_waits_a_second_unless_another_time_is_given(path):
    assert 1.0 == SQLiteStore(path).timeout_s


def test_closing_waits_for_its_turn_no_longer_than_the_time_out(opened, monkeypatch):
    store, waited = opened(timeout_s=0.25), []

    @contextmanager
    def never(timeout_s):
        waited.append(timeout_s)
        yield False

    monkeypatch.setattr(store._file._lock, "acquired", never)
    store.close()
    assert [0.25] == waited


def test_a_change_that_fails_lets_go_of_the_file_at_once(opened):
    store, other = filled(opened()), opened(timeout_s=0.1)
    with pytest.raises(KeyError), store._file.transaction("written", writes=True) as connection:
        connection.execute("DELETE FROM documents")
        raise KeyError
    assert not store._file._connection.in_transaction
    assert other.swap(KEY, 5, document(6), {})


def test_a_line_of_the_history_is_on_the_disk_before_the_change_is_acknowledged(opened, monkeypatch):
    store, synchronised = filled(opened()), []
    monkeypatch.setattr(swap_log.os, "fsync", synchronised.append)
    assert store.swap(KEY, 5, document(6), {})
    assert 1 == len(synchronised)


def test_a_transaction_that_an_interrupt_left_open_is_over_at_the_next_use(opened):
    store = filled(opened())
    store._file._connection.execute("BEGIN IMMEDIATE")
    store._file._connection.execute("DELETE FROM documents")
    assert 5 == store.load(KEY).revision


def test_what_is_interrupted_is_rolled_back(opened):
    store = filled(opened())
    with pytest.raises(KeyboardInterrupt), store._file.transaction("written", writes=True) as connection:
        connection.execute("DELETE FROM documents")
        raise KeyboardInterrupt
    assert 5 == store.load(KEY).revision


def test_a_store_that_nobody_closed_leaves_no_descriptor(path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        SQLiteStore(path).note(KEY, "verdict", "PASS")
    assert before == len(list(Path("/proc/self/fd").iterdir()))
