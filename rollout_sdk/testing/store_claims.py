"""The contract of stores for claims: each name has exactly one claimant."""

from __future__ import annotations

import threading

from rollout_sdk.testing.store_tests import KEY, OTHER, PATIENCE_S, THREADS, StoreTests, at_once, document_of

__all__ = ["StoreClaims"]


class StoreClaims(StoreTests):
    """Tests of claims."""

    def test_a_name_is_its_first_claimants(self) -> None:
        """A later claimant gets only unclaimed names, and the first keeps its own, however often it claims them."""
        with self.made() as store:
            store.swap(KEY, None, document_of(1), {})
            assert store.claim(KEY, 0, "w1", ["a", "b"]) == {"a", "b"}, "it could not claim unclaimed names"
            assert store.claim(KEY, 0, "w2", ["b", "c", "a"]) == {"c"}, "not exactly the unclaimed names"
            for _ in range(2):
                assert store.claim(KEY, 0, "w1", ["a", "b", "c"]) == {"a", "b"}, "another answer to the same claim"
            assert store.claim(KEY, 0, "w3", []) == frozenset()
            assert store.claim(KEY, 0, "w3", ["d", "d"]) == {"d"}, "a name that is asked for twice is one"

    def test_claimed_names_are_distinct(self) -> None:
        """Thousands of names at once, names that differ only in case or accent, and names of other keys, are distinct."""
        many = [f"{number:x}" for number in range(3_000)]
        with self.made() as store:
            for key in (KEY, OTHER):
                store.swap(key, None, document_of(1), {})
                own = store.claim(key, 0, f"of {key}", many[:2_000])
                assert own == set(many[:2_000]), "names were lost, or are another key's"
            assert store.claim(KEY, 0, "w2", many) == set(many[2_000:])
            odd = ["A", "é", "e\u0301", "x" * 199 + "a", "x" * 199 + "b", "%s", "日" * 200]
            assert store.claim(KEY, 0, "w1", [name for name in odd if name != "A"]) == set(odd) - {"A"}
            assert store.claim(KEY, 0, "w2", ["a" * 200, *odd]) == {"a" * 200, "A"}, "names are taken for each other"
            assert store.claim(KEY, 0, "W1", odd) == frozenset(), "claimants are taken for each other"

    def test_the_fence_holds_for_claims(self) -> None:
        """In another epoch than the document's, and without one, nothing is claimed; with a new epoch all begins anew."""
        with self.made() as store:
            assert store.claim(KEY, 0, "w", ["a"]) == frozenset(), "it claimed where there is no document"
            store.swap(KEY, None, document_of(1, epoch=4), {})
            for epoch in (0, 3, 5):
                assert store.claim(KEY, epoch, "w", ["a"]) == frozenset(), f"it claimed in epoch {epoch} beside epoch 4"
            assert store.claim(KEY, 4, "w1", ["a"]) == {"a"}, "what was refused was claimed"
            store.swap(KEY, 1, document_of(2, epoch=4), {})
            assert store.claim(KEY, 4, "w2", ["a"]) == frozenset(), "a swap within the epoch forgot the claims"
            store.swap(KEY, 2, document_of(3, epoch=5), {})
            assert store.claim(KEY, 4, "w1", ["a"]) == frozenset(), "the fence let a late claim through"
            assert store.claim(KEY, 5, "w2", ["a"]) == {"a"}, "a claim of the last epoch is there still"

    def test_of_many_who_claim_a_name_one_has_it(self) -> None:
        """In every round eight threads claim the same names, each in another order."""
        barrier = threading.Barrier(THREADS)
        with self.made() as store:
            store.swap(KEY, None, document_of(1), {})

            def fight(thread: int) -> list[str]:
                own: list[str] = []
                for number in range(self.rounds):
                    names = [f"{number}-{(place + thread) % THREADS}" for place in range(THREADS)]
                    barrier.wait(PATIENCE_S)
                    own += store.claim(KEY, 0, f"w{thread}", names)
                return own

            won = [name for own in at_once(fight, barrier) for name in own]
            expected = {f"{number}-{place}" for number in range(self.rounds) for place in range(THREADS)}
            assert len(won) == len(set(won)), "a name has two claimants"
            assert set(won) == expected, "a name has no claimant"

    def test_a_second_handle_sees_claims(self) -> None:
        """What was claimed by one handle is not claimed by the other."""
        with self.made() as store, self.reopened(store) as other:
            store.swap(KEY, None, document_of(1), {})
            assert store.claim(KEY, 0, "w1", ["a"]) == {"a"}
            assert other.claim(KEY, 0, "w2", ["a", "b"]) == {"b"}, "the second handle does not see the claim"
            assert store.claim(KEY, 0, "w1", ["a", "b"]) == {"a"}, "the first handle does not see the claim"
