"""The contract of stores for writes: documents, their history, and the parts that writers publish."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rollout_sdk.concurrency.clocks import sleep
from rollout_sdk.testing.store_tests import KEY, OTHER, PATIENCE_S, THREADS, StoreTests, at_once, document_of, refuses

__all__ = ["StoreWrites"]


class StoreWrites(StoreTests):
    """Tests of documents, of the history of their swaps, and of parts."""

    # Documents --------------------------------------------------------------------------------------------------------

    def test_it_begins_with_nothing(self) -> None:
        """A new store has no document, history, part or note."""
        with self.made() as store:
            assert store.load(KEY) is None
            assert store.history(KEY) == []
            assert store.keys() == []
            assert store.noted(KEY, "verdict") is None
            assert dict(store.gather(KEY, 0).parts) == {}

    def test_json_comes_back_equal(self) -> None:
        """Documents, records and texts come back equal: any JSON, any Unicode, the order and the types of numbers."""
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
        with self.made() as store:
            document, record = document_of(1, odd=odd), {"odd": odd}
            assert store.swap(KEY, None, document, record)
            found = store.load(KEY)
            assert found is not None
            assert found.revision == 1
            assert dict(found.document) == document, "another document came back"
            types = [type(number) for number in found.document["odd"]["numbers"]]
            assert types == [int, int, int, float, float, float, float], "a number changed its type"
            assert [dict(each) for each in store.history(KEY)] == [record], "another record came back"
            text = "".join(odd["texts"])
            assert store.publish(KEY, 0, "w", {"sums": text})
            store.note(KEY, "verdict", text)
            assert dict(store.gather(KEY, 0).parts) == {("w", "sums"): text}, "another part came back"
            assert store.noted(KEY, "verdict") == text, "another note came back"

    def test_stored_values_cannot_be_mutated_from_outside(self) -> None:
        """Mutating a value after it was stored or loaded does not change the store."""
        with self.made() as store:
            document, record = document_of(1, shares=[0.1]), {"who": ["Ann"]}
            store.swap(KEY, None, document, record)
            document["shares"].append(0.2)
            record["who"].append("Bob")
            for _ in range(2):
                found = store.load(KEY)
                assert found is not None
                assert found.document["shares"] == [0.1], "the document was changed from outside"
                assert [each["who"] for each in store.history(KEY)] == [["Ann"]], "the history was changed from outside"
                found.document["shares"].append(0.3)
                store.history(KEY)[0]["who"].append("Eve")

    def test_a_swap_of_the_expected_revision_is_done(self) -> None:
        """The document is replaced as a whole, and the next swap expects its revision, which may skip numbers."""
        with self.made() as store:
            assert store.swap(KEY, None, document_of(1, a=1), {})
            assert store.swap(KEY, 1, document_of(5, b=2), {})
            found = store.load(KEY)
            assert found is not None
            assert (found.revision, dict(found.document)) == (5, document_of(5, b=2))

    def test_a_lost_swap_changes_nothing(self) -> None:
        """A swap with the wrong expected revision returns False and changes no document, record or part."""
        with self.made() as store:
            assert store.swap(KEY, 3, document_of(4), {"lost": 1}) is False, "it swapped a missing document"
            assert (store.load(KEY), store.history(KEY), store.keys()) == (None, [], [])
            store.swap(KEY, None, document_of(2), {"won": 1})
            store.publish(KEY, 0, "w", {"sums": "1"})
            for expected in (None, 0, 1, 3):
                lost = store.swap(KEY, expected, document_of(9, epoch=9), {"lost": expected})
                assert lost is False, f"a swap that expected {expected} replaced revision 2"
            found = store.load(KEY)
            assert found is not None
            assert dict(found.document) == document_of(2), "a lost swap changed the document"
            assert store.history(KEY) == [{"won": 1}], "a lost swap left a record"
            assert dict(store.gather(KEY, 0).parts) == {("w", "sums"): "1"}, "a lost swap deleted parts"

    def test_of_many_swaps_one_wins(self) -> None:
        """In every round, eight threads swap the same revision; exactly one succeeds, and the history has its record."""
        barrier = threading.Barrier(THREADS)
        with self.made() as store:

            def fight(thread: int) -> list[int]:
                won = []
                for number in range(self.rounds):
                    barrier.wait(PATIENCE_S)
                    mine = {"round": number, "thread": thread}
                    if store.swap(KEY, number or None, document_of(number + 1, **mine), mine):
                        won.append(number)
                return won

            won = at_once(fight, barrier)
            winners = [[thread for thread in range(THREADS) if number in won[thread]] for number in range(self.rounds)]
            crowded = {number: who for number, who in enumerate(winners) if len(who) != 1}
            assert not crowded, f"rounds without exactly one winner: {crowded}"
            records = [{"round": number, "thread": who[0]} for number, who in enumerate(winners)]
            assert [dict(each) for each in store.history(KEY)] == records, "the history has records of others than the winners"
            found = store.load(KEY)
            assert found is not None
            assert dict(found.document) == document_of(self.rounds, **records[-1])

    def test_what_threads_add_by_swaps_is_all_there(self) -> None:
        """Threads that load, add one and swap until it succeeds lose nothing."""
        each_adds = max(self.rounds // 5, 1)
        with self.made() as store:
            store.swap(KEY, None, document_of(1, total=0), {})

            def add(_: int) -> int:
                tries = 0
                for _ in range(each_adds):
                    while True:
                        tries += 1
                        found = store.load(KEY)
                        assert found is not None
                        sleep(0.0005)  # so that other threads come in between
                        document = document_of(found.revision + 1, total=found.document["total"] + 1)
                        if store.swap(KEY, found.revision, document, {"total": document["total"]}):
                            break
                return tries

            at_once(add)
            found = store.load(KEY)
            assert found is not None
            total = THREADS * each_adds
            assert (found.document["total"], found.revision) == (total, total + 1), "what went in is not what came out"
            assert [each.get("total") for each in store.history(KEY)] == [None, *range(1, total + 1)]

    def test_history_is_complete_and_in_order(self) -> None:
        """Every successful swap has its record, in the order of the swaps, in the history of its own key only."""
        with self.made() as store:
            for number in range(12):
                store.swap(KEY, number or None, document_of(number + 1, epoch=number // 3), {"number": number})
                store.swap(OTHER, number or None, document_of(number + 1), {"other": number})
            assert store.history(KEY) == [{"number": number} for number in range(12)]
            assert store.history(OTHER) == [{"other": number} for number in range(12)]

    def test_what_cannot_be_kept_is_refused(self) -> None:
        """A value that is not plain JSON, a revision that does not grow, or an epoch that falls raises StoreError."""
        with self.made() as store:
            store.swap(KEY, None, document_of(2, epoch=2), {"first": 1})
            not_plain: list[Any] = [float("nan"), float("inf"), {1, 2}, b"x", object(), {1: 2}, (1, 2)]
            documents = [document_of(3, epoch=2, odd=odd) for odd in not_plain]
            documents += [document_of(2, epoch=2), document_of(1, epoch=2), document_of(3, epoch=1), document_of(3, epoch=-1)]
            documents += [{"revision": 3}, {"epoch": 2}, {"revision": "3", "epoch": 2}, {"revision": 3, "epoch": True}]
            for document in documents:
                refuses(f"document {document!r:.60}", lambda it=document: store.swap(KEY, 2, it, {}))  # type: ignore[misc]
            for odd in not_plain:
                record = {"odd": odd}
                refuses(f"record {record!r:.60}", lambda it=record: store.swap(KEY, 2, document_of(3, 2), it))  # type: ignore[misc]
            found = store.load(KEY)
            assert found is not None
            assert dict(found.document) == document_of(2, epoch=2), "something refused changed the document"
            assert store.history(KEY) == [{"first": 1}], "something refused left a record"

    # Parts ------------------------------------------------------------------------------------------------------------

    def test_publishing_three_times_changes_nothing(self) -> None:
        """Sums are absolute: a write that is repeated, because it may not have arrived, counts once."""
        with self.made() as store:
            store.swap(KEY, None, document_of(1), {})
            parts = {"click": "17", "latency": "3.5"}
            assert store.publish(KEY, 0, "w1", parts)
            once = store.gather(KEY, 0)
            assert dict(once.parts) == {("w1", "click"): "17", ("w1", "latency"): "3.5"}
            for _ in range(2):
                assert store.publish(KEY, 0, "w1", parts)
            assert dict(store.gather(KEY, 0).parts) == dict(once.parts), "a second publish counted again"
            assert dict(store.gather(KEY, 0, once.cursor).parts) == {}, "what did not change was gathered as changed"

    def test_a_writer_replaces_its_own_named_parts_only(self) -> None:
        """Its other parts, those of other writers, and those of other keys stay."""
        with self.made() as store:
            for key in (KEY, OTHER):
                store.swap(key, None, document_of(1), {})
                store.publish(key, 0, "w1", {"a": "1", "b": "2"})
                store.publish(key, 0, "w2", {"a": "3"})
            assert store.publish(KEY, 0, "w1", {"a": "10"})
            assert store.publish(KEY, 0, "w1", {})
            assert dict(store.gather(KEY, 0).parts) == {("w1", "a"): "10", ("w1", "b"): "2", ("w2", "a"): "3"}
            assert dict(store.gather(OTHER, 0).parts) == {("w1", "a"): "1", ("w1", "b"): "2", ("w2", "a"): "3"}

    def test_the_fence_refuses_another_epoch(self) -> None:
        """Parts are written only if the document exists and has their epoch."""
        with self.made() as store:
            assert store.publish(KEY, 0, "w", {"a": "1"}) is False, "it published where there is no document"
            store.swap(KEY, None, document_of(1, epoch=4), {})
            assert dict(store.gather(KEY, 0).parts) == {}, "what was refused was written"
            for epoch in (0, 3, 5):
                assert store.publish(KEY, epoch, "w", {"a": "1"}) is False, f"it published epoch {epoch} beside epoch 4"
                assert dict(store.gather(KEY, epoch).parts) == {}, "what was refused was written"
            assert dict(store.gather(KEY, 4).parts) == {}, "what was refused was written to the current epoch"
            assert store.publish(KEY, 4, "w", {"a": "1"})

    def test_a_new_epoch_removes_the_parts_of_the_last(self) -> None:
        """The swap removes them, a late publish is refused, and a swap within the epoch keeps them."""
        with self.made() as store:
            store.swap(KEY, None, document_of(1, epoch=1), {})
            store.swap(OTHER, None, document_of(1, epoch=1), {})
            for key in (KEY, OTHER):
                store.publish(key, 1, "w", {"a": "1"})
            store.swap(KEY, 1, document_of(2, epoch=1), {})
            assert dict(store.gather(KEY, 1).parts) == {("w", "a"): "1"}, "a swap within the epoch deleted its parts"
            store.swap(KEY, 2, document_of(3, epoch=2), {})
            assert store.publish(KEY, 1, "late", {"a": "9"}) is False, "the fence let a late publish through"
            assert [dict(store.gather(KEY, epoch).parts) for epoch in (1, 2)] == [{}, {}], "old parts are there still"
            assert dict(store.gather(OTHER, 1).parts) == {("w", "a"): "1"}, "another key lost its parts"

    def test_a_cursor_gives_exactly_what_changed(self) -> None:
        """Gathering from cursor to cursor returns each change once, across epochs, and ends with the complete state."""
        with self.made() as store:
            store.swap(KEY, None, document_of(1), {})
            empty = store.gather(KEY, 0)
            store.publish(KEY, 0, "w1", {"a": "1", "b": "1"})
            first = store.gather(KEY, 0, empty.cursor)
            assert dict(first.parts) == {("w1", "a"): "1", ("w1", "b"): "1"}
            store.publish(KEY, 0, "w2", {"a": "2"})
            store.publish(KEY, 0, "w1", {"a": "1", "b": "3"})
            second = store.gather(KEY, 0, first.cursor)
            assert dict(second.parts) == {("w2", "a"): "2", ("w1", "b"): "3"}, "not what changed between two cursors"
            assert second.cursor >= first.cursor >= empty.cursor, "a cursor went back"
            assert dict(store.gather(KEY, 0, second.cursor).parts) == {}, "nothing changed, and something was gathered"
            store.swap(KEY, 1, document_of(2, epoch=1), {})
            store.publish(KEY, 1, "w1", {"a": "7"})
            assert dict(store.gather(KEY, 1, second.cursor).parts) == {("w1", "a"): "7"}, "a cursor missed the next epoch"
            assert dict(store.gather(KEY, 1).parts) == {("w1", "a"): "7"}

    def test_threads_publish_and_a_reader_misses_nothing(self) -> None:
        """Eight writers publish while one reads from cursor to cursor: it ends with every writer's last sums."""
        over = threading.Event()
        with self.made() as store:
            store.swap(KEY, None, document_of(1), {})

            def read() -> dict[tuple[str, str], str]:
                seen: dict[tuple[str, str], str] = {}
                cursor = 0
                while True:
                    last = over.is_set()
                    found = store.gather(KEY, 0, cursor)
                    seen.update(found.parts)
                    cursor = found.cursor
                    if last:
                        return seen

            def write(thread: int) -> None:
                for number in range(self.rounds):
                    assert store.publish(KEY, 0, f"w{thread}", {"n": str(number), f"only-{number % 3}": str(number)})

            with ThreadPoolExecutor(1) as reading:
                reader = reading.submit(read)
                try:
                    at_once(write)
                finally:
                    over.set()
                seen = reader.result(PATIENCE_S)
            last = {f"only-{number % 3}": str(number) for number in range(self.rounds)} | {"n": str(self.rounds - 1)}
            expected = {(f"w{thread}", part): text for thread in range(THREADS) for part, text in last.items()}
            assert dict(store.gather(KEY, 0).parts) == expected, "a publish was lost"
            assert seen == expected, "the reader missed something"
