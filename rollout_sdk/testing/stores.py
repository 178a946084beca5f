"""What every store must hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import SkipTest

from rollout_sdk.control.stores import StateStore
from rollout_sdk.exceptions import StoreError

__all__ = ["StoreContract"]

T = TypeVar("T")

_THREADS = 8
_PATIENCE_S = 60.0
_KEY = "shop.rank"
_OTHER = "shop.search"


def _document(revision: int, epoch: int = 0, **more: Any) -> dict[str, Any]:
    return {"revision": revision, "epoch": epoch, **more}


class StoreContract:
    """Subclass it in a test module, as `class TestMine(StoreContract)`, and say how the store is made.

    Attributes:
        rounds: How many rounds threads fight over one document; more find rarer races.
    """

    rounds = 25

    def make(self) -> StateStore:
        """A new store with nothing in it. Let it wait long enough for eight threads on a slow machine."""
        raise NotImplementedError

    def reopen(self, store: StateStore) -> StateStore | None:
        """Another handle on the same state, as another process would open it; None when nobody else can."""
        _ = store
        return None

    # Documents --------------------------------------------------------------------------------------------------------

    def test_it_begins_with_nothing(self) -> None:
        """There is no document, no history, no part and no note."""
        with self._made() as store:
            assert store.load(_KEY) is None
            assert store.history(_KEY) == []
            assert store.keys() == []
            assert store.noted(_KEY, "verdict") is None
            assert dict(store.gather(_KEY, 0).parts) == {}

    def test_json_comes_back_equal(self) -> None:
        """Documents, records and texts are what they were: any JSON, any Unicode, order and types of numbers."""
        odd: dict[str, Any] = {
            "none": None,
            "booleans": [True, False],
            "numbers": [0, -1, 2**53 - 1, 0.1, -1.5e300, 5e-324, 1.0],
            "texts": ["", "é", "\u2028", "日本", "🦔", "\x00", '"\\', "a" * 10_000],
            "empty": [{}, []],
            "nested": {"a": {"b": [{"c": 1}]}},
            "": 1,
            "ключ": "значение",
        }
        with self._made() as store:
            document, record = _document(1, odd=odd), {"odd": odd}
            assert store.swap(_KEY, None, document, record)
            found = store.load(_KEY)
            assert found is not None
            assert found.revision == 1
            assert dict(found.document) == document, "another document came back"
            types = [type(number) for number in found.document["odd"]["numbers"]]
            assert types == [int, int, int, float, float, float, float], "a number changed its type"
            assert [dict(each) for each in store.history(_KEY)] == [record], "another record came back"
            text = "".join(odd["texts"])
            assert store.publish(_KEY, 0, "w", {"sums": text})
            store.note(_KEY, "verdict", text)
            assert dict(store.gather(_KEY, 0).parts) == {("w", "sums"): text}, "another part came back"
            assert store.noted(_KEY, "verdict") == text, "another note came back"

    def test_nobody_shares_what_can_change(self) -> None:
        """What is changed after it was given, or after it was got, is not changed in the store."""
        with self._made() as store:
            document, record = _document(1, shares=[0.1]), {"who": ["Ann"]}
            store.swap(_KEY, None, document, record)
            document["shares"].append(0.2)
            record["who"].append("Bob")
            for _ in range(2):
                found = store.load(_KEY)
                assert found is not None
                assert found.document["shares"] == [0.1], "the document was changed from outside"
                assert [each["who"] for each in store.history(_KEY)] == [["Ann"]], "the history was changed from outside"
                found.document["shares"].append(0.3)
                store.history(_KEY)[0]["who"].append("Eve")

    def test_a_swap_of_the_expected_revision_is_done(self) -> None:
        """The document is replaced as a whole, and the next swap expects its revision, which may skip numbers."""
        with self._made() as store:
            assert store.swap(_KEY, None, _document(1, a=1), {})
            assert store.swap(_KEY, 1, _document(5, b=2), {})
            found = store.load(_KEY)
            assert found is not None
            assert (found.revision, dict(found.document)) == (5, _document(5, b=2))

    def test_a_lost_swap_changes_nothing(self) -> None:
        """Whoever expects a revision that is not there gets False, and leaves no document, no record, and all parts."""
        with self._made() as store:
            assert store.swap(_KEY, 3, _document(4), {"lost": 1}) is False, "it swapped a document that is not there"
            assert (store.load(_KEY), store.history(_KEY), store.keys()) == (None, [], [])
            store.swap(_KEY, None, _document(2), {"won": 1})
            store.publish(_KEY, 0, "w", {"sums": "1"})
            for expected in (None, 0, 1, 3):
                lost = store.swap(_KEY, expected, _document(9, epoch=9), {"lost": expected})
                assert lost is False, f"a swap that expected {expected} replaced revision 2"
            found = store.load(_KEY)
            assert found is not None
            assert dict(found.document) == _document(2), "a lost swap changed the document"
            assert store.history(_KEY) == [{"won": 1}], "a lost swap left a record"
            assert dict(store.gather(_KEY, 0).parts) == {("w", "sums"): "1"}, "a lost swap deleted parts"

    def test_of_many_swaps_one_wins(self) -> None:
        """In every round eight threads swap the same revision; exactly one is told so, and it is the one in the history."""
        barrier = threading.Barrier(_THREADS)
        with self._made() as store:

            def fight(thread: int) -> list[int]:
                won = []
                for number in range(self.rounds):
                    barrier.wait(_PATIENCE_S)
                    mine = {"round": number, "thread": thread}
                    if store.swap(_KEY, number or None, _document(number + 1, **mine), mine):
                        won.append(number)
                return won

            won = _at_once(fight, barrier)
            winners = [[thread for thread in range(_THREADS) if number in won[thread]] for number in range(self.rounds)]
            crowded = {number: who for number, who in enumerate(winners) if len(who) != 1}
            assert not crowded, f"winners by round, where they are not one: {crowded}"
            records = [{"round": number, "thread": who[0]} for number, who in enumerate(winners)]
            assert [dict(each) for each in store.history(_KEY)] == records, "the history has others than the winners"
            found = store.load(_KEY)
            assert found is not None
            assert dict(found.document) == _document(self.rounds, **records[-1])

    def test_what_threads_add_by_swaps_is_all_there(self) -> None:
        """Threads that load, add one and swap until it is done lose nothing."""
        each_adds = max(self.rounds // 5, 1)
        with self._made() as store:
            store.swap(_KEY, None, _document(1, total=0), {})

            def add(_: int) -> int:
                tries = 0
                for _ in range(each_adds):
                    while True:
                        tries += 1
                        found = store.load(_KEY)
                        assert found is not None
                        time.sleep(0.0005)  # so that somebody else comes in between
                        document = _document(found.revision + 1, total=found.document["total"] + 1)
                        if store.swap(_KEY, found.revision, document, {"total": document["total"]}):
                            break
                return tries

            _at_once(add)
            found = store.load(_KEY)
            assert found is not None
            total = _THREADS * each_adds
            assert (found.document["total"], found.revision) == (total, total + 1), "what went in is not what came out"
            assert [each.get("total") for each in store.history(_KEY)] == [None, *range(1, total + 1)]

    def test_history_is_complete_and_in_order(self) -> None:
        """Every swap that was done has its record, in the order of the swaps, of its own key only."""
        with self._made() as store:
            for number in range(12):
                store.swap(_KEY, number or None, _document(number + 1, epoch=number // 3), {"number": number})
                store.swap(_OTHER, number or None, _document(number + 1), {"other": number})
            assert store.history(_KEY) == [{"number": number} for number in range(12)]
            assert store.history(_OTHER) == [{"other": number} for number in range(12)]

    def test_what_cannot_be_kept_is_refused(self) -> None:
        """What is no plain JSON, a revision that does not grow, an epoch that falls: a StoreError, and nothing is changed."""
        with self._made() as store:
            store.swap(_KEY, None, _document(2, epoch=2), {"first": 1})
            not_plain: list[Any] = [float("nan"), float("inf"), {1, 2}, b"x", object(), {1: 2}, (1, 2)]
            documents = [_document(3, epoch=2, odd=odd) for odd in not_plain]
            documents += [_document(2, epoch=2), _document(1, epoch=2), _document(3, epoch=1), _document(3, epoch=-1)]
            documents += [{"revision": 3}, {"epoch": 2}, {"revision": "3", "epoch": 2}, {"revision": 3, "epoch": True}]
            for document in documents:
                _refuses(f"document {document!r:.60}", lambda it=document: store.swap(_KEY, 2, it, {}))  # type: ignore[misc]
            for odd in not_plain:
                record = {"odd": odd}
                _refuses(f"record {record!r:.60}", lambda it=record: store.swap(_KEY, 2, _document(3, 2), it))  # type: ignore[misc]
            found = store.load(_KEY)
            assert found is not None
            assert dict(found.document) == _document(2, epoch=2), "something refused changed the document"
            assert store.history(_KEY) == [{"first": 1}], "something refused left a record"

    # Parts ------------------------------------------------------------------------------------------------------------

    def test_publishing_three_times_changes_nothing(self) -> None:
        """Sums are absolute: a write that is repeated, because nobody knew whether it arrived, counts once."""
        with self._made() as store:
            store.swap(_KEY, None, _document(1), {})
            parts = {"click": "17", "latency": "3.5"}
            assert store.publish(_KEY, 0, "w1", parts)
            once = store.gather(_KEY, 0)
            assert dict(once.parts) == {("w1", "click"): "17", ("w1", "latency"): "3.5"}
            for _ in range(2):
                assert store.publish(_KEY, 0, "w1", parts)
            assert dict(store.gather(_KEY, 0).parts) == dict(once.parts), "a second publish counted again"
            assert dict(store.gather(_KEY, 0, once.cursor).parts) == {}, "what did not change was gathered as changed"

    def test_a_writer_replaces_its_own_named_parts_only(self) -> None:
        """Its other parts, those of other writers, and those of other keys stay."""
        with self._made() as store:
            for key in (_KEY, _OTHER):
                store.swap(key, None, _document(1), {})
                store.publish(key, 0, "w1", {"a": "1", "b": "2"})
                store.publish(key, 0, "w2", {"a": "3"})
            assert store.publish(_KEY, 0, "w1", {"a": "10"})
            assert store.publish(_KEY, 0, "w1", {})
            assert dict(store.gather(_KEY, 0).parts) == {("w1", "a"): "10", ("w1", "b"): "2", ("w2", "a"): "3"}
            assert dict(store.gather(_OTHER, 0).parts) == {("w1", "a"): "1", ("w1", "b"): "2", ("w2", "a"): "3"}

    def test_the_fence_refuses_another_epoch(self) -> None:
        """Sums of another epoch than the document's, or of no document at all, are not written."""
        with self._made() as store:
            assert store.publish(_KEY, 0, "w", {"a": "1"}) is False, "it published where there is no document"
            store.swap(_KEY, None, _document(1, epoch=4), {})
            assert dict(store.gather(_KEY, 0).parts) == {}, "what was refused was written"
            for epoch in (0, 3, 5):
                assert store.publish(_KEY, epoch, "w", {"a": "1"}) is False, f"it published epoch {epoch} beside epoch 4"
                assert dict(store.gather(_KEY, epoch).parts) == {}, "what was refused was written"
            assert dict(store.gather(_KEY, 4).parts) == {}, "what was refused was written to the current epoch"
            assert store.publish(_KEY, 4, "w", {"a": "1"})

    def test_another_epoch_takes_the_parts_of_the_last_away(self) -> None:
        """With the swap they are gone, a late publish is refused, and a swap within the epoch keeps them."""
        with self._made() as store:
            store.swap(_KEY, None, _document(1, epoch=1), {})
            store.swap(_OTHER, None, _document(1, epoch=1), {})
            for key in (_KEY, _OTHER):
                store.publish(key, 1, "w", {"a": "1"})
            store.swap(_KEY, 1, _document(2, epoch=1), {})
            assert dict(store.gather(_KEY, 1).parts) == {("w", "a"): "1"}, "a swap within the epoch deleted its parts"
            store.swap(_KEY, 2, _document(3, epoch=2), {})
            assert store.publish(_KEY, 1, "late", {"a": "9"}) is False, "the fence let a late publish through"
            assert [dict(store.gather(_KEY, epoch).parts) for epoch in (1, 2)] == [{}, {}], "old parts are there still"
            assert dict(store.gather(_OTHER, 1).parts) == {("w", "a"): "1"}, "another key lost its parts"

    def test_a_cursor_gives_exactly_what_changed(self) -> None:
        """Whoever gathers from cursor to cursor sees each change once, across epochs, and ends with the whole."""
        with self._made() as store:
            store.swap(_KEY, None, _document(1), {})
            empty = store.gather(_KEY, 0)
            store.publish(_KEY, 0, "w1", {"a": "1", "b": "1"})
            first = store.gather(_KEY, 0, empty.cursor)
            assert dict(first.parts) == {("w1", "a"): "1", ("w1", "b"): "1"}
            store.publish(_KEY, 0, "w2", {"a": "2"})
            store.publish(_KEY, 0, "w1", {"a": "1", "b": "3"})
            second = store.gather(_KEY, 0, first.cursor)
            assert dict(second.parts) == {("w2", "a"): "2", ("w1", "b"): "3"}, "not what changed between two cursors"
            assert second.cursor >= first.cursor >= empty.cursor, "a cursor went back"
            assert dict(store.gather(_KEY, 0, second.cursor).parts) == {}, "nothing changed, and something was gathered"
            store.swap(_KEY, 1, _document(2, epoch=1), {})
            store.publish(_KEY, 1, "w1", {"a": "7"})
            assert dict(store.gather(_KEY, 1, second.cursor).parts) == {("w1", "a"): "7"}, "a cursor missed the next epoch"
            assert dict(store.gather(_KEY, 1).parts) == {("w1", "a"): "7"}

    def test_threads_publish_and_a_reader_misses_nothing(self) -> None:
        """Eight writers publish while one reads from cursor to cursor: it ends with everybody's last sums."""
        over = threading.Event()
        with self._made() as store:
            store.swap(_KEY, None, _document(1), {})

            def read() -> dict[tuple[str, str], str]:
                seen: dict[tuple[str, str], str] = {}
                cursor = 0
                while True:
                    last = over.is_set()
                    found = store.gather(_KEY, 0, cursor)
                    seen.update(found.parts)
                    cursor = found.cursor
                    if last:
                        return seen

            def write(thread: int) -> None:
                for number in range(self.rounds):
                    assert store.publish(_KEY, 0, f"w{thread}", {"n": str(number), f"only-{number % 3}": str(number)})

            with ThreadPoolExecutor(1) as reading:
                reader = reading.submit(read)
                try:
                    _at_once(write)
                finally:
                    over.set()
                seen = reader.result(_PATIENCE_S)
            last = {f"only-{number % 3}": str(number) for number in range(self.rounds)} | {"n": str(self.rounds - 1)}
            expected = {(f"w{thread}", part): text for thread in range(_THREADS) for part, text in last.items()}
            assert dict(store.gather(_KEY, 0).parts) == expected, "a publish was lost"
            assert seen == expected, "the reader missed something"

    # Names, notes and ends --------------------------------------------------------------------------------------------

    def test_notes_hold_the_last_word(self) -> None:
        """By key and name, overwritten, with a document or without, in every epoch; they are no keys."""
        with self._made() as store:
            store.note(_KEY, "verdict", "FAIL")
            store.note(_KEY, "verdict", "PASS")
            store.note(_KEY, "judge", "")
            store.note(_OTHER, "verdict", "ERROR")
            assert store.keys() == [], "a note made a key"
            store.swap(_KEY, None, _document(1), {})
            store.swap(_KEY, 1, _document(2, epoch=1), {})
            found = [store.noted(_KEY, "verdict"), store.noted(_KEY, "judge"), store.noted(_OTHER, "verdict")]
            assert found == ["PASS", "", "ERROR"]
            assert store.noted(_OTHER, "judge") is None
            assert store.history(_OTHER) == []

    def test_keys_are_sorted_and_told_apart(self) -> None:
        """Keys of up to 200 characters of any script, which differ in one character, case or accent only."""
        keys = [
            "x" * 199 + "a",
            "x" * 199 + "b",
            "日" * 200,
            "🦔" * 200,
            "A",
            "a",
            "é",
            "e\u0301",
            " a",
            "a ",
            "a:b",
            "a/b",
            "%s",
        ]
        with self._made() as store:
            for number, key in enumerate(keys):
                assert store.swap(key, None, _document(1, number=number), {"number": number}), f"{key!r:.40} was there already"
                assert store.publish(key, 0, "w", {"sums": str(number)})
                store.note(key, "verdict", str(number))
            assert store.keys() == sorted(keys)
            for number, key in enumerate(keys):
                found = store.load(key)
                assert found is not None
                assert found.document["number"] == number, f"{key!r:.40} has another's document"
                assert store.history(key) == [{"number": number}], f"{key!r:.40} has another's history"
                assert dict(store.gather(key, 0).parts) == {("w", "sums"): str(number)}, f"{key!r:.40} has another's parts"
                assert store.noted(key, "verdict") == str(number), f"{key!r:.40} has another's note"
            # Writers, parts and notes are named alike.
            store.swap(_KEY, None, _document(1), {})
            for number, name in enumerate(keys):
                store.publish(_KEY, 0, name, {"sums": str(number)})
                store.publish(_KEY, 0, "w", {name: str(number)})
                store.note(_KEY, name, str(number))
            expected = {(name, "sums"): str(number) for number, name in enumerate(keys)}
            expected |= {("w", name): str(number) for number, name in enumerate(keys)}
            assert dict(store.gather(_KEY, 0).parts) == expected, "writers or parts are taken for each other"
            assert [store.noted(_KEY, name) for name in keys] == [str(number) for number in range(len(keys))]

    def test_names_that_are_none_are_refused(self) -> None:
        """An empty name, one of more than 200 characters, of surrogates or no text at all is a StoreError."""
        with self._made() as store:
            store.swap(_KEY, None, _document(1), {})
            for odd in ("", "x" * 201, "\ud800", None, 7):
                name: Any = odd
                uses: Mapping[str, Callable[[], object]] = {
                    "load": lambda name=name: store.load(name),  # type: ignore[misc]
                    "swap": lambda name=name: store.swap(name, None, _document(1), {}),  # type: ignore[misc]
                    "writer": lambda name=name: store.publish(_KEY, 0, name, {"a": "1"}),  # type: ignore[misc]
                    "part": lambda name=name: store.publish(_KEY, 0, "w", {name: "1"}),  # type: ignore[misc]
                    "note": lambda name=name: store.note(_KEY, name, "1"),  # type: ignore[misc]
                }
                for use, call in uses.items():
                    _refuses(f"{use} named {odd!r:.20}", call)
            assert store.keys() == [_KEY]
            assert dict(store.gather(_KEY, 0).parts) == {}, "a name that was refused was written"

    def test_a_second_handle_sees_everything_at_once(self) -> None:
        """What one handle did, the other finds; of their swaps one wins; the fence holds; closing one leaves the other."""
        with self._made() as store, self._reopened(store) as other:
            assert store.swap(_KEY, None, _document(1), {"by": "one"})
            found = other.load(_KEY)
            assert found is not None, "the second handle does not see the document"
            assert found.revision == 1
            assert other.swap(_KEY, None, _document(1), {"by": "two"}) is False, "two handles began the same document"
            assert other.publish(_KEY, 0, "w2", {"a": "2"})
            gathered = store.gather(_KEY, 0)
            assert dict(gathered.parts) == {("w2", "a"): "2"}, "the first handle does not see the part"
            assert store.publish(_KEY, 0, "w1", {"a": "1"})
            assert dict(other.gather(_KEY, 0, gathered.cursor).parts) == {("w1", "a"): "1"}, "cursors are not shared"
            other.note(_KEY, "verdict", "PASS")
            assert store.noted(_KEY, "verdict") == "PASS"
            assert other.swap(_KEY, 1, _document(2, epoch=1), {"by": "two"})
            assert store.swap(_KEY, 1, _document(2), {"by": "one"}) is False, "the first handle has an old document"
            assert store.publish(_KEY, 0, "w1", {"a": "9"}) is False, "the fence does not hold for the first handle"
            store.close()
            assert other.history(_KEY) == [{"by": "one"}, {"by": "two"}]
            assert other.keys() == [_KEY]

    def test_two_handles_have_one_winner(self) -> None:
        """Threads that swap by two handles are told the truth, too."""
        barrier = threading.Barrier(_THREADS)
        with self._made() as store, self._reopened(store) as other:

            def fight(thread: int) -> int:
                won, mine = 0, (store, other)[thread % 2]
                for number in range(self.rounds):
                    barrier.wait(_PATIENCE_S)
                    won += mine.swap(_KEY, number or None, _document(number + 1), {"round": number})
                return won

            assert sum(_at_once(fight, barrier)) == self.rounds, "not one winner in every round"
            for each in (store, other):
                assert each.history(_KEY) == [{"round": number} for number in range(self.rounds)]

    def test_nothing_works_after_close(self) -> None:
        """Every use of a closed store is a StoreError; closing it again is well."""
        with self._made() as store:
            store.swap(_KEY, None, _document(1), {})
            store.close()
            uses: Mapping[str, Callable[[], object]] = {
                "load": lambda: store.load(_KEY),
                "swap": lambda: store.swap(_KEY, 1, _document(2), {}),
                "publish": lambda: store.publish(_KEY, 0, "w", {"a": "1"}),
                "gather": lambda: store.gather(_KEY, 0),
                "note": lambda: store.note(_KEY, "verdict", "PASS"),
                "noted": lambda: store.noted(_KEY, "verdict"),
                "history": lambda: store.history(_KEY),
                "keys": store.keys,
            }
            for use, call in uses.items():
                _refuses(f"{use} after close", call)

    # What they need ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _made(self) -> Iterator[StateStore]:
        store = self.make()
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def _reopened(self, store: StateStore) -> Iterator[StateStore]:
        other = self.reopen(store)
        if other is None:
            raise SkipTest("reopen() gives None: the store is of one process")
        try:
            yield other
        finally:
            other.close()


def _refuses(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except StoreError:
        return
    raise AssertionError(f"{what} is no StoreError")


def _at_once(work: Callable[[int], T], barrier: threading.Barrier | None = None) -> list[T]:
    """What eight threads came to; the first error of one of them is raised here."""

    def run(thread: int) -> T:
        try:
            return work(thread)
        except BaseException:
            if barrier is not None:
                barrier.abort()
            raise

    with ThreadPoolExecutor(_THREADS) as pool:
        running = [pool.submit(run, thread) for thread in range(_THREADS)]
    errors = [error for each in running if (error := each.exception()) is not None]
    # The others only say that the first has left them waiting.
    for error in sorted(errors, key=lambda each: isinstance(each, threading.BrokenBarrierError)):
        raise error
    return [each.result() for each in running]
