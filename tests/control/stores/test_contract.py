"""The built-in stores hold the contract, and stores that are broken on purpose fail it."""

import json
import time

import pytest

from rollout_sdk import StoreError
from rollout_sdk.control.stores import Gathered, MemoryStore, SQLiteStore, Stored
from rollout_sdk.control.stores.memory import _Kept
from rollout_sdk.testing import StoreContract


class TestMemory(StoreContract):
    def make(self):
        return MemoryStore()


class TestSQLite(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def make(self):
        return SQLiteStore(self.folder / "rollouts.db", timeout_s=30.0)

    def reopen(self, store):
        return SQLiteStore(store.path, timeout_s=store.timeout_s)


# A zoo of broken stores: each has the names of the tests that must fail on it ---------------------------------------------


class Increments(MemoryStore):
    """Adds to the sums instead of replacing them."""

    def publish(self, key, epoch, writer, parts):
        before = self.gather(key, epoch).parts
        added = {part: before.get((writer, part), "") + text for part, text in parts.items()}
        return super().publish(key, epoch, writer, added)


class SwapsWithoutLock(MemoryStore):
    def swap(self, key, expected, document, record):
        found = self.load(key)
        now = None if found is None else found.revision
        if now != expected:
            return False
        time.sleep(0.002)
        while True:
            found = self.load(key)
            now = None if found is None else found.revision
            bumped = max(document["revision"], (now or 0) + 1)
            if super().swap(key, now, {**document, "revision": bumped}, record):
                return True


class ForgetsTheRecord(MemoryStore):
    def history(self, key):
        return super().history(key)[:10]


class NewestFirst(MemoryStore):
    def history(self, key):
        return super().history(key)[::-1]


class RecordsLosers(MemoryStore):
    def swap(self, key, expected, document, record):
        swapped = super().swap(key, expected, document, record)
        if not swapped:
            self._kept.setdefault(key, _Kept()).history.append("{}")
        return swapped


class LosersDeleteParts(MemoryStore):
    def swap(self, key, expected, document, record):
        swapped = super().swap(key, expected, document, record)
        if not swapped and key in self._kept:
            self._kept[key].parts.clear()
        return swapped


class SaysItWasDone(MemoryStore):
    def swap(self, *args):
        super().swap(*args)
        return True


class IgnoresTheFence(MemoryStore):
    def publish(self, key, epoch, writer, parts):
        found = self.load(key)
        return super().publish(key, epoch if found is None else found.document["epoch"], writer, parts)


class RefusesButWrites(MemoryStore):
    def publish(self, key, epoch, writer, parts):
        fits = super().publish(key, epoch, writer, parts)
        if not fits and key in self._kept:
            self._kept[key].parts.update({(writer, part): (1, text) for part, text in parts.items()})
        return fits


class KeepsOldParts(MemoryStore):
    def swap(self, key, expected, document, record):
        kept = dict(self._kept[key].parts) if key in self._kept else {}
        swapped = super().swap(key, expected, document, record)
        if key in self._kept:
            self._kept[key].parts.update(kept)
        return swapped


class AlwaysDeletesParts(MemoryStore):
    def swap(self, key, expected, document, record):
        swapped = super().swap(key, expected, document, record)
        if swapped:
            self._kept[key].parts.clear()
        return swapped


class GathersEverything(MemoryStore):
    def gather(self, key, epoch, after=0):
        return super().gather(key, epoch)


class GathersTooLate(MemoryStore):
    """Its cursor is one ahead: the next change is missed."""

    def gather(self, key, epoch, after=0):
        found = super().gather(key, epoch, after)
        return Gathered(found.cursor + 1, found.parts)


class CursorBeforeParts(MemoryStore):
    """Parts are read before the cursor, and not together with it."""

    def gather(self, key, epoch, after=0):
        parts = super().gather(key, epoch, after).parts
        time.sleep(0.001)
        return Gathered(super().gather(key, epoch, after).cursor, parts)


class CursorOfTheEpoch(MemoryStore):
    """Cursors begin anew with every epoch."""

    def swap(self, key, expected, document, record):
        swapped = super().swap(key, expected, document, record)
        if swapped and expected is not None:
            self._cursor = 0
        return swapped

    def gather(self, key, epoch, after=0):
        return Gathered(self._cursor, super().gather(key, epoch, min(after, self._cursor)).parts)


class TouchesWhatIsEqual(MemoryStore):
    def publish(self, key, epoch, writer, parts):
        for part in parts:
            self._kept.get(key, _Kept()).parts.pop((writer, part), None)
        return super().publish(key, epoch, writer, parts)


class ReplacesAllParts(MemoryStore):
    def publish(self, key, epoch, writer, parts):
        for name in [name for name in self._kept.get(key, _Kept()).parts if name[0] == writer]:
            self._kept[key].parts.pop(name, None)
        return super().publish(key, epoch, writer, parts)


class OneWriter(MemoryStore):
    def publish(self, key, epoch, writer, parts):
        return super().publish(key, epoch, "w", parts)


class SharesMutables(MemoryStore):
    def __init__(self):
        super().__init__()
        self.documents, self.records = {}, {}

    def swap(self, key, expected, document, record):
        swapped = super().swap(key, expected, document, record)
        if swapped:
            self.documents[key] = Stored(document["revision"], document)
            self.records.setdefault(key, []).append(record)
        return swapped

    def load(self, key):
        return super().load(key) and self.documents[key]

    def history(self, key):
        return self.records.get(key, []) if super().history(key) else []


class SharesTheHistoryOnly(SharesMutables):
    def load(self, key):
        return MemoryStore.load(self, key)


class TakesAnything(MemoryStore):
    """Writes what JSON has no words for as text."""

    def swap(self, key, expected, document, record):
        document, record = (json.loads(json.dumps(each, default=str).replace("NaN", "0")) for each in (document, record))
        return super().swap(key, expected, document, record)


class GoesBack(MemoryStore):
    """Takes any revision."""

    def swap(self, key, expected, document, record):
        if expected is not None and isinstance(document.get("revision"), int) and document["revision"] <= expected:
            return True
        return super().swap(key, expected, document, record)


class EpochsFall(MemoryStore):
    def swap(self, key, expected, document, record):
        if key in self._kept and self._kept[key].revision == expected and isinstance(document.get("epoch"), int):
            self._kept[key].epoch = min(self._kept[key].epoch, max(document["epoch"], 0))
        return super().swap(key, expected, document, record)


class MakesFloats(MemoryStore):
    """As Lua's JSON does."""

    def load(self, key):
        found = super().load(key)
        return found and Stored(found.revision, json.loads(json.dumps(dict(found.document)), parse_int=float))


class Appends(MemoryStore):
    def note(self, key, name, text):
        super().note(key, name, (self.noted(key, name) or "") + text)


class NotesByName(MemoryStore):
    def note(self, key, name, text):
        super().note("notes", name, text)

    def noted(self, key, name):
        super().noted(key, name)
        return super().noted("notes", name)


class NotesAreKeys(MemoryStore):
    def keys(self):
        super().keys()
        return sorted(self._kept)


class FoldsCase(MemoryStore):
    def load(self, key):
        return super().load(key.lower() if isinstance(key, str) else key)

    def swap(self, key, *args):
        return super().swap(key.lower() if isinstance(key, str) else key, *args)


class CutsKeys(MemoryStore):
    def note(self, key, name, text):
        super().note(key[:100], name, text)

    def noted(self, key, name):
        return super().noted(key[:100], name)


class CutsWriters(MemoryStore):
    def publish(self, key, epoch, writer, parts):
        return super().publish(key, epoch, writer[:100] if isinstance(writer, str) else writer, parts)


class TakesAnyName(MemoryStore):
    def load(self, key):
        return super().load(key) if isinstance(key, str) and 0 < len(key) <= 200 and key.isascii() else None


class WorksAfterClose(MemoryStore):
    def close(self):
        pass


class NotesAfterClose(MemoryStore):
    def noted(self, key, name):
        return None if self._closed else super().noted(key, name)


class LosesWrites(MemoryStore):
    """Two writers at once: one of them writes what both had read."""

    def publish(self, key, epoch, writer, parts):
        before = dict(self._kept[key].parts) if key in self._kept else {}
        time.sleep(0.0005)
        published = super().publish(key, epoch, writer, parts)
        if published:
            self._kept[key].parts = before | {(writer, part): (self._cursor, text) for part, text in parts.items()}
        return published


class ClaimsAnything(MemoryStore):
    def claim(self, key, epoch, claimant, names):
        super().claim(key, epoch, claimant, names)
        return frozenset(names)


class LastClaimant(MemoryStore):
    def claim(self, key, epoch, claimant, names):
        for name in names:
            self._kept.get(key, _Kept()).claims.pop(name, None)
        return super().claim(key, epoch, claimant, names)


class ClaimsOnce(MemoryStore):
    """Gives what is new, also to the one who asks again because it does not know the answer."""

    def claim(self, key, epoch, claimant, names):
        known = set(self._kept.get(key, _Kept()).claims)
        return super().claim(key, epoch, claimant, names) - known


class ClaimsWithoutKey(MemoryStore):
    def claim(self, key, epoch, claimant, names):
        super().claim(key, epoch, claimant, [])
        found = self.load(key)
        if found is None or found.document["epoch"] != epoch:
            return frozenset()
        known = self.__dict__.setdefault("known", {})
        return frozenset(name for name in names if known.setdefault((epoch, name), claimant) == claimant)


class ClaimsBeyondTheFence(MemoryStore):
    def claim(self, key, epoch, claimant, names):
        super().claim(key, epoch, claimant, names)
        claims = self._kept.setdefault(key, _Kept()).claims
        return frozenset(name for name in names if claims.setdefault(name, claimant) == claimant)


class KeepsOldClaims(MemoryStore):
    def swap(self, key, *args):
        before = dict(self._kept.get(key, _Kept()).claims)
        swapped = super().swap(key, *args)
        if swapped:
            self._kept[key].claims.update(before)
        return swapped


class ForgetsClaims(MemoryStore):
    def swap(self, key, *args):
        swapped = super().swap(key, *args)
        if swapped:
            self._kept[key].claims.clear()
        return swapped


class ClaimsWithoutLock(MemoryStore):
    def claim(self, key, epoch, claimant, names):
        known = dict(self._kept.get(key, _Kept()).claims)
        time.sleep(0.001)
        super().claim(key, epoch, claimant, names)
        return frozenset(name for name in names if known.get(name, claimant) == claimant)


class CutsClaims(MemoryStore):
    def claim(self, key, epoch, claimant, names):
        short = {name: name.casefold()[:199] if isinstance(name, str) else name for name in names}
        own = super().claim(key, epoch, claimant, list(short.values()))
        return frozenset(name for name in names if short[name] in own)


class ClaimsAfterClose(MemoryStore):
    def claim(self, key, epoch, claimant, names):
        return frozenset() if self._closed else super().claim(key, epoch, claimant, names)


class Handle:
    """A second handle on a store in memory, as a store of many processes has it."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    def close(self):
        pass


class RemembersDocuments(Handle):
    def __init__(self, store):
        super().__init__(store)
        self.known = {}

    def load(self, key):
        found = self.store.load(key) if key not in self.known else self.known[key]
        return self.known.setdefault(key, found)

    def publish(self, key, epoch, writer, parts):
        found = self.load(key)
        return found is not None and found.document["epoch"] == epoch and self.store.publish(key, epoch, writer, parts)

    def noted(self, key, name):
        return None


class ClaimsForItself(Handle):
    def claim(self, key, epoch, claimant, names):
        return frozenset(names)


class ClosesBoth(Handle):
    def close(self):
        self.store.close()


ONE_WINS, ADDED = "test_of_many_swaps_one_wins", "test_what_threads_add_by_swaps_is_all_there"
LOST, HISTORY = "test_a_lost_swap_changes_nothing", "test_history_is_complete_and_in_order"
REFUSED, SHARED = "test_what_cannot_be_kept_is_refused", "test_stored_values_cannot_be_mutated_from_outside"
TWICE, EPOCH = "test_publishing_three_times_changes_nothing", "test_a_new_epoch_removes_the_parts_of_the_last"
FENCE, CURSOR = "test_the_fence_refuses_another_epoch", "test_a_cursor_gives_exactly_what_changed"
OWN, MANY = "test_a_writer_replaces_its_own_named_parts_only", "test_threads_publish_and_a_reader_misses_nothing"
NOTES, KEYS = "test_notes_hold_the_last_word", "test_keys_are_sorted_and_distinct"
CLAIM, CLAIMS = "test_a_name_is_its_first_claimants", "test_claimed_names_are_distinct"
CLAIM_FENCE, ONE_CLAIMS = "test_the_fence_holds_for_claims", "test_of_many_who_claim_a_name_one_has_it"
NAMES, CLOSED = "test_invalid_names_are_refused", "test_nothing_works_after_close"
ZOO = {
    Increments: {TWICE, OWN, CURSOR},
    SwapsWithoutLock: {ONE_WINS, ADDED},
    ForgetsTheRecord: {ONE_WINS, HISTORY},
    NewestFirst: {ONE_WINS, HISTORY},
    RecordsLosers: {LOST, ONE_WINS},
    LosersDeleteParts: {LOST},
    SaysItWasDone: {LOST, ONE_WINS, ADDED},
    IgnoresTheFence: {FENCE, EPOCH},
    RefusesButWrites: {FENCE},
    KeepsOldParts: {EPOCH},
    AlwaysDeletesParts: {EPOCH},
    GathersEverything: {CURSOR, TWICE},
    GathersTooLate: {CURSOR},
    CursorBeforeParts: {MANY},
    CursorOfTheEpoch: {CURSOR},
    TouchesWhatIsEqual: {TWICE, CURSOR},
    ReplacesAllParts: {OWN},
    OneWriter: {OWN, MANY},
    SharesMutables: {SHARED},
    SharesTheHistoryOnly: {SHARED},
    TakesAnything: {REFUSED},
    GoesBack: {REFUSED},
    EpochsFall: {REFUSED},
    MakesFloats: {"test_json_comes_back_equal"},
    Appends: {NOTES},
    NotesByName: {NOTES},
    NotesAreKeys: {NOTES},
    FoldsCase: {KEYS},
    CutsKeys: {KEYS},
    CutsWriters: {KEYS},
    TakesAnyName: {NAMES},
    WorksAfterClose: {CLOSED},
    NotesAfterClose: {CLOSED},
    LosesWrites: {MANY},
    ClaimsAnything: {CLAIM, CLAIMS, CLAIM_FENCE, ONE_CLAIMS},
    LastClaimant: {CLAIM, CLAIMS, ONE_CLAIMS},
    ClaimsOnce: {CLAIM},
    ClaimsWithoutKey: {CLAIMS},
    ClaimsBeyondTheFence: {CLAIM_FENCE},
    KeepsOldClaims: {CLAIM_FENCE},
    ForgetsClaims: {CLAIM_FENCE},
    ClaimsWithoutLock: {ONE_CLAIMS},
    CutsClaims: {CLAIMS},
    ClaimsAfterClose: {CLOSED},
}


@pytest.mark.parametrize(
    ("broken", "test"), [(broken, test) for broken, tests in ZOO.items() for test in sorted(tests)], ids=str
)
def test_a_broken_store_fails_its_contract(broken, test):
    class Contract(StoreContract):
        def make(self):
            return broken()

    with pytest.raises(AssertionError):
        getattr(Contract(), test)()


SECOND_CLAIMS = "test_a_second_handle_sees_claims"
SECOND = "test_a_second_handle_sees_everything_at_once"


@pytest.mark.parametrize(
    "second", [RemembersDocuments, ClosesBoth, lambda store: MemoryStore()], ids=["remembers", "closes", "other"]
)
def test_a_second_handle_that_is_broken_fails_the_contract(second):
    class Contract(StoreContract):
        def make(self):
            return MemoryStore()

        def reopen(self, store):
            return second(store)

    with pytest.raises((AssertionError, StoreError)):
        getattr(Contract(), SECOND)()


@pytest.mark.parametrize("second", [ClaimsForItself, lambda store: MemoryStore()], ids=["itself", "other"])
def test_a_second_handle_that_does_not_see_claims_fails_the_contract(second):
    class Contract(StoreContract):
        def make(self):
            return MemoryStore()

        def reopen(self, store):
            return second(store)

    with pytest.raises((AssertionError, StoreError)):
        getattr(Contract(), SECOND_CLAIMS)()


WAITS = "test_a_wait_ends_with_a_change"


@pytest.mark.parametrize("answer", [True, False, None], ids=["always", "never", "not at all"])
def test_a_store_that_reports_wrongly_fails_the_contract(answer):
    class Reports(MemoryStore):
        def wait_for_change(self, timeout_s):
            return answer

    class Contract(StoreContract):
        def make(self):
            return Reports()

        def reopen(self, store):
            return store

    with pytest.raises(AssertionError):
        getattr(Contract(), WAITS)()


def test_every_test_of_the_contract_fails_on_some_broken_store():
    tests = {name for name in dir(StoreContract) if name.startswith("test_")}
    # These two are the plainest of all: what fails them fails the others, too.
    plain = {"test_it_begins_with_nothing", "test_a_swap_of_the_expected_revision_is_done"}
    assert plain | {SECOND, SECOND_CLAIMS, WAITS, "test_two_handles_have_one_winner"} == tests - set().union(*ZOO.values())


def test_two_handles_that_do_not_know_of_each_other_fail_the_contract():
    class Contract(StoreContract):
        def make(self):
            return MemoryStore()

        def reopen(self, store):
            return MemoryStore()

    with pytest.raises(AssertionError):
        Contract().test_two_handles_have_one_winner()


def test_a_store_that_is_not_new_fails_the_contract():
    store = MemoryStore()
    store.note("shop.rank", "verdict", "PASS")

    class Contract(StoreContract):
        def make(self):
            return store

    with pytest.raises(AssertionError):
        Contract().test_it_begins_with_nothing()


def test_a_store_that_merges_documents_fails_the_contract():
    class Merges(MemoryStore):
        def swap(self, key, expected, document, record):
            found = self.load(key)
            return super().swap(key, expected, {**(found.document if found else {}), **document}, record)

    class Contract(StoreContract):
        def make(self):
            return Merges()

    with pytest.raises(AssertionError):
        Contract().test_a_swap_of_the_expected_revision_is_done()
