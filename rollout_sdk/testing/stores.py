"""The contract of stores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import SkipTest

from rollout_sdk.testing.store_claims import StoreClaims
from rollout_sdk.testing.store_tests import KEY, OTHER, PATIENCE_S, THREADS, at_once, document_of, refuses
from rollout_sdk.testing.store_writes import StoreWrites

__all__ = ["StoreContract"]


class StoreContract(StoreWrites, StoreClaims):
    """Subclass it in a test module, as `class TestMine(StoreContract)`, and implement `make`.

    Implement `reopen(store)` as well if another process can open the same state. `rounds` is the number of rounds in which
    threads compete for one document.
    """

    def test_notes_hold_the_last_word(self) -> None:
        """Notes are stored by key and name, overwritten, independent of document and epoch, and add no keys."""
        with self.made() as store:
            store.note(KEY, "verdict", "FAIL")
            store.note(KEY, "verdict", "PASS")
            store.note(KEY, "judge", "")
            store.note(OTHER, "verdict", "ERROR")
            assert store.keys() == [], "a note made a key"
            store.swap(KEY, None, document_of(1), {})
            store.swap(KEY, 1, document_of(2, epoch=1), {})
            found = [store.noted(KEY, "verdict"), store.noted(KEY, "judge"), store.noted(OTHER, "verdict")]
            assert found == ["PASS", "", "ERROR"]
            assert store.noted(OTHER, "judge") is None
            assert store.history(OTHER) == []

    def test_keys_are_sorted_and_distinct(self) -> None:
        """Keys of up to 200 characters of any script, which differ only in one character, case or accent, are distinct."""
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
        with self.made() as store:
            for number, key in enumerate(keys):
                assert store.swap(key, None, document_of(1, number=number), {"number": number}), (
                    f"{key!r:.40} was there already"
                )
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
            store.swap(KEY, None, document_of(1), {})
            for number, name in enumerate(keys):
                store.publish(KEY, 0, name, {"sums": str(number)})
                store.publish(KEY, 0, "w", {name: str(number)})
                store.note(KEY, name, str(number))
            expected = {(name, "sums"): str(number) for number, name in enumerate(keys)}
            expected |= {("w", name): str(number) for number, name in enumerate(keys)}
            assert dict(store.gather(KEY, 0).parts) == expected, "writers or parts are taken for each other"
            assert [store.noted(KEY, name) for name in keys] == [str(number) for number in range(len(keys))]

    def test_invalid_names_are_refused(self) -> None:
        """An empty name, one of more than 200 characters, with surrogates, or not a text raises StoreError."""
        with self.made() as store:
            store.swap(KEY, None, document_of(1), {})
            for odd in ("", "x" * 201, "\ud800", None, 7):
                name: Any = odd
                uses: Mapping[str, Callable[[], object]] = {
                    "load": lambda name=name: store.load(name),  # type: ignore[misc]
                    "swap": lambda name=name: store.swap(name, None, document_of(1), {}),  # type: ignore[misc]
                    "writer": lambda name=name: store.publish(KEY, 0, name, {"a": "1"}),  # type: ignore[misc]
                    "part": lambda name=name: store.publish(KEY, 0, "w", {name: "1"}),  # type: ignore[misc]
                    "note": lambda name=name: store.note(KEY, name, "1"),  # type: ignore[misc]
                    "claim": lambda name=name: store.claim(KEY, 0, "w", ["a", name]),  # type: ignore[misc]
                    "claimant": lambda name=name: store.claim(KEY, 0, name, ["a"]),  # type: ignore[misc]
                }
                for use, call in uses.items():
                    refuses(f"{use} named {odd!r:.20}", call)
            assert store.keys() == [KEY]
            assert dict(store.gather(KEY, 0).parts) == {}, "a name that was refused was written"
            assert store.claim(KEY, 0, "w", ["a"]) == {"a"}, "a claim that was refused was made"

    def test_a_second_handle_sees_everything_at_once(self) -> None:
        """Handles see each other's changes; one of two swaps wins; the fence holds; closing one leaves the other open."""
        with self.made() as store, self.reopened(store) as other:
            assert store.swap(KEY, None, document_of(1), {"by": "one"})
            found = other.load(KEY)
            assert found is not None, "the second handle does not see the document"
            assert found.revision == 1
            assert other.swap(KEY, None, document_of(1), {"by": "two"}) is False, "two handles began the same document"
            assert other.publish(KEY, 0, "w2", {"a": "2"})
            gathered = store.gather(KEY, 0)
            assert dict(gathered.parts) == {("w2", "a"): "2"}, "the first handle does not see the part"
            assert store.publish(KEY, 0, "w1", {"a": "1"})
            assert dict(other.gather(KEY, 0, gathered.cursor).parts) == {("w1", "a"): "1"}, "cursors are not shared"
            other.note(KEY, "verdict", "PASS")
            assert store.noted(KEY, "verdict") == "PASS"
            assert other.swap(KEY, 1, document_of(2, epoch=1), {"by": "two"})
            assert store.swap(KEY, 1, document_of(2), {"by": "one"}) is False, "the first handle has an old document"
            assert store.publish(KEY, 0, "w1", {"a": "9"}) is False, "the fence does not hold for the first handle"
            store.close()
            assert other.history(KEY) == [{"by": "one"}, {"by": "two"}]
            assert other.keys() == [KEY]

    def test_a_wait_ends_with_a_change(self) -> None:
        """Where the store can report changes: another handle's swap ends a wait, and nothing else does."""
        with self.made() as store, self.reopened(store) as other:
            wait: Callable[[float], bool] | None = getattr(store, "wait_for_change", None)
            if wait is None:
                raise SkipTest("the store has no wait_for_change: processes see a change at their next look")
            wait(0.0)  # from now on it listens
            assert wait(0.05) is False, "a change was reported where nothing was done"
            with ThreadPoolExecutor(1) as waiting:
                waits = waiting.submit(wait, PATIENCE_S)
                assert other.swap(KEY, None, document_of(1), {})
                assert waits.result(PATIENCE_S) is True, "a change was not reported"
            other.swap(KEY, None, document_of(1), {})
            other.publish(KEY, 0, "w", {"a": "1"})
            other.note(KEY, "verdict", "PASS")
            assert wait(0.05) is False, "a change was reported where no document was changed"

    def test_two_handles_have_one_winner(self) -> None:
        """Threads that swap through two handles have one winner in every round, too."""
        barrier = threading.Barrier(THREADS)
        with self.made() as store, self.reopened(store) as other:

            def fight(thread: int) -> int:
                won, mine = 0, (store, other)[thread % 2]
                for number in range(self.rounds):
                    barrier.wait(PATIENCE_S)
                    won += mine.swap(KEY, number or None, document_of(number + 1), {"round": number})
                return won

            assert sum(at_once(fight, barrier)) == self.rounds, "not one winner in every round"
            for each in (store, other):
                assert each.history(KEY) == [{"round": number} for number in range(self.rounds)]

    def test_nothing_works_after_close(self) -> None:
        """Every use of a closed store raises StoreError; closing it again does not."""
        with self.made() as store:
            store.swap(KEY, None, document_of(1), {})
            store.close()
            uses: Mapping[str, Callable[[], object]] = {
                "load": lambda: store.load(KEY),
                "swap": lambda: store.swap(KEY, 1, document_of(2), {}),
                "publish": lambda: store.publish(KEY, 0, "w", {"a": "1"}),
                "gather": lambda: store.gather(KEY, 0),
                "claim": lambda: store.claim(KEY, 0, "w", ["a"]),
                "note": lambda: store.note(KEY, "verdict", "PASS"),
                "noted": lambda: store.noted(KEY, "verdict"),
                "history": lambda: store.history(KEY),
                "keys": store.keys,
            }
            wait: Callable[[float], bool] | None = getattr(store, "wait_for_change", None)
            if wait is not None:
                uses = {**uses, "wait_for_change": lambda wait=wait: wait(0.0)}  # type: ignore[misc]
            for use, call in uses.items():
                refuses(f"{use} after close", call)
