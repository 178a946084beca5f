"""Both stores answer every sequence of operations alike."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from rollout_sdk import StoreError
from rollout_sdk.control.stores import MemoryStore, SQLiteStore

KEYS = st.sampled_from(["a", "A", "é", "日" * 200, ""])
NAMES = st.sampled_from(["w1", "w2", "\ud800"])
NUMBERS = st.integers(-1, 4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
TEXTS = st.text(max_size=8)


class Both(RuleBasedStateMachine):
    cursors = Bundle("cursors")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.memory = MemoryStore()
        self.sqlite = SQLiteStore(Path(self.folder.name) / "x.db", timeout_s=20.0)

    def teardown(self):
        self.sqlite.close()
        self.folder.cleanup()

    def alike(self, method, *arguments):
        answers = []
        for store in (self.memory, self.sqlite):
            try:
                answers.append(getattr(store, method)(*arguments))
            except StoreError:
                answers.append("StoreError")
        assert answers[0] == answers[1], (method, arguments)
        return answers[0]

    @initialize(target=cursors)
    def begin(self):
        return 0, 0

    @rule(key=KEYS, expected=st.none() | NUMBERS, revision=NUMBERS, epoch=NUMBERS, more=JSON, record=JSON)
    def swap(self, key, expected, revision, epoch, more, record):
        self.alike("swap", key, expected, {"revision": revision, "epoch": epoch, "more": more}, {"record": record})

    @rule(key=KEYS, ahead=st.integers(1, 3), up=st.integers(0, 1), more=JSON)
    def swap_on(self, key, ahead, up, more):
        """From what is there: most others lose."""
        found = self.alike("load", key)
        if found == "StoreError":
            return
        now, epoch = (None, 0) if found is None else (found.revision, found.document["epoch"])
        document = {"revision": (now or 0) + ahead, "epoch": epoch + up, "more": more}
        self.alike("swap", key, now, document, {"more": more})

    @rule(key=KEYS, epoch=NUMBERS, writer=NAMES, parts=st.dictionaries(NAMES, TEXTS, max_size=2))
    def publish(self, key, epoch, writer, parts):
        self.alike("publish", key, epoch, writer, parts)

    @rule(target=cursors, key=KEYS, epoch=NUMBERS, after=cursors)
    def gather(self, key, epoch, after):
        """Cursors mean nothing to the other store; what is gathered by them is the same."""
        found = []
        for store, cursor in ((self.memory, after[0]), (self.sqlite, after[1])):
            try:
                found.append(store.gather(key, epoch, cursor))
            except StoreError:
                found.append(None)
        parts = [None if each is None else dict(each.parts) for each in found]
        assert parts[0] == parts[1]
        return after if found[0] is None else (found[0].cursor, found[1].cursor)

    @rule(key=KEYS, epoch=NUMBERS, claimant=NAMES, names=st.lists(NAMES, max_size=3))
    def claim(self, key, epoch, claimant, names):
        self.alike("claim", key, epoch, claimant, names)

    @rule(key=KEYS, name=NAMES, text=TEXTS)
    def note(self, key, name, text):
        self.alike("note", key, name, text)

    @rule(key=KEYS, name=NAMES)
    def look(self, key, name):
        self.alike("load", key)
        self.alike("noted", key, name)
        self.alike("history", key)
        self.alike("keys")

    @rule()
    def reopen(self):
        self.sqlite.close()
        self.sqlite = SQLiteStore(self.sqlite.path, timeout_s=20.0)


Both.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestBoth = Both.TestCase


def test_the_comparison_finds_a_difference():
    machine = Both()
    machine.memory.note("a", "w1", "x")
    with pytest.raises(AssertionError):
        machine.look("a", "w1")
    machine.teardown()
