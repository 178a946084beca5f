"""Team draft: exact distributions by enumeration, invariants, and the rules for uneven lists."""

import random
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, UnknownItemError
from rollout_sdk.interleaving import Interleaved, TeamDraft
from rollout_sdk.interleaving.pages import read_page

rankings = st.lists(st.integers(0, 15), max_size=12)
designs = st.builds(TeamDraft, neutral=st.sampled_from(["ties", "prefix", "off"]), coin=st.sampled_from(["pair", "list"]))


def shown(a, b, seed, design=TeamDraft(), k=None):
    merged = design.merge({"A": a, "B": b}, k=k, seed=seed)
    return tuple((slot.key, slot.team) for slot in merged.slots)


def distribution(a, b, *, design=TeamDraft(), k=None, rounds=4000):
    counts = Counter(shown(a, b, seed, design, k) for seed in range(rounds))
    return {page: number / rounds for page, number in counts.items()}


def test_agreed_items_are_neutral_and_pairs_come_in_either_order():
    expected = {
        ((1, None), (2, "A"), (3, "B"), (4, None)),
        ((1, None), (3, "B"), (2, "A"), (4, None)),
    }
    pages = distribution([1, 2, 3, 4], [1, 3, 2, 4])
    assert expected == set(pages)
    assert all(abs(share - 0.5) < 0.04 for share in pages.values())


def test_the_published_example_of_competitive_pairs():
    pages = [shown("abcde", "bcafg", seed, TeamDraft(coin="list"), k=6) for seed in range(20)]
    page = next(page for page in pages if page[0][1] == "A")
    assert (("a", "A"), ("b", "B"), ("c", None), ("d", "A"), ("f", "B"), ("e", "A")) == page


def test_a_coin_for_the_list_never_changes_sides():
    for seed in range(50):
        teams = [team for _, team in shown([1, 2, 3], [4, 5, 6], seed, TeamDraft(coin="list"), k=6)]
        assert teams == teams[:2] * 3


def test_a_coin_for_each_pair_gives_all_orders_alike():
    pages = distribution([1, 2], [3, 4], k=4)
    orders = {tuple(team for _, team in page): share for page, share in pages.items()}
    expected = {first + second for first, second in product([("A", "B"), ("B", "A")], repeat=2)}
    assert expected == set(orders)
    assert all(abs(share - 0.25) < 0.03 for share in orders.values())


def exact_classic(a, b, k):
    """The classic design, written as a recursion over coins with exact probabilities."""

    def best(ranking, seen):
        return next((item for item in ranking if item not in seen), None)

    def go(page, picks, probability):
        seen = [item for item, _ in page]
        x, y = best(a, seen), best(b, seen)
        if len(page) == k or x is None or y is None:
            yield tuple(page), probability
        elif picks[0] != picks[1]:
            team = "A" if picks[0] < picks[1] else "B"
            yield from go([*page, (x if team == "A" else y, team)], (max(picks), max(picks)), probability)
        else:
            yield from go([*page, (x, "A")], (picks[0] + 1, picks[1]), probability / 2)
            yield from go([*page, (y, "B")], (picks[0], picks[1] + 1), probability / 2)

    pages = Counter()
    for page, probability in go([], (0, 0), Fraction(1)):
        pages[page] += probability
    return pages


@pytest.mark.parametrize(("a", "b"), [("abcd", "bdca"), ("abc", "abc"), ("abcd", "efgh"), ("abcd", "acbd")])
def test_without_neutral_ties_it_is_the_classic_team_draft(a, b):
    exact = exact_classic(a, b, 4)
    pages = distribution(a, b, design=TeamDraft(neutral="off"), k=4)
    assert set(exact) == set(pages)
    assert all(abs(float(exact[page]) - share) < 0.04 for page, share in pages.items())


def test_only_the_common_top_is_neutral_with_prefix():
    for seed in range(40):
        page = shown([1, 2, 3, 4], [1, 3, 2, 4], seed, TeamDraft(neutral="prefix"))
        assert [team is None for _, team in page] == [True, False, False, False]


@given(rankings, rankings, designs, st.integers(0, 9), st.one_of(st.none(), st.integers(0, 20)))
def test_no_item_is_lost_doubled_or_invented(a, b, design, seed, k):
    page = [key for key, _ in shown(a, b, seed, design, k)]
    union = set(a) | set(b)
    assert len(set(page)) == len(page)
    assert set(page) <= union
    assert len(page) == min(len(a) if k is None else k, len(union))


@given(rankings, rankings, designs, st.integers(0, 9), st.integers(0, 10))
def test_a_shorter_list_is_the_beginning_of_the_longer(a, b, design, seed, k):
    assert shown(a, b, seed, design, k + 5)[:k] == shown(a, b, seed, design, k)


@given(rankings, rankings, designs, st.integers(0, 9))
def test_the_same_seed_gives_the_same_page(a, b, design, seed):
    assert shown(a, b, seed, design) == shown(a, b, seed, design)


@given(rankings, designs, st.integers(0, 9))
def test_identical_rankers_always_tie_when_ties_are_neutral(a, design, seed):
    merged = TeamDraft(coin=design.coin).merge({"A": a, "B": a}, seed=seed)
    assert merged.winner(dict.fromkeys(merged.items, 1.0)) is None
    assert {slot.team for slot in merged.slots} <= {None}


@given(rankings, rankings, rankings, designs, st.integers(0, 9), st.data())
def test_credit_is_the_clicks_on_drafted_items(a, b, c, design, seed, data):
    merged = design.merge({"A": a, "B": b, "C": c}, seed=seed)
    clicked = data.draw(st.sets(st.sampled_from(merged.items))) if merged.items else set()
    drafted = [slot.key for slot in merged.slots if slot.team is not None]
    assert sum(item in clicked for item in drafted) == sum(merged.credit(dict.fromkeys(clicked, 1.0)).values())


def test_at_every_position_both_teams_are_as_likely():
    rng = random.Random(3)
    counts = Counter()
    for seed in range(6000):
        a = rng.sample(range(12), 8)
        b = rng.sample(range(12), 8)
        counts.update((slot.position, slot.team) for slot in TeamDraft().merge({"A": a, "B": b}, k=8, seed=seed).slots)
    for position in range(8):
        first, second = counts[position, "A"], counts[position, "B"]
        # 4 standard errors of a fair coin.
        assert abs(first - second) <= 4 * (first + second) ** 0.5


def test_what_a_longer_list_has_more_is_neutral():
    for seed in range(40):
        page = shown([1, 2, 3, 4, 5], [9], seed)
        assert {"A": 1, "B": 1, None: 3} == Counter(team for _, team in page)


def test_an_empty_candidate_leaves_the_controls_list():
    assert ((1, None), (2, None), (3, None)) == shown([1, 2, 3], [], 0)


def test_the_list_is_as_long_as_the_controls_even_when_it_repeats_items():
    merged = TeamDraft().merge({"A": [1, 1, 2], "B": [3, 4, 5]}, seed=1)
    assert (3, 1) == (len(merged), merged.duplicates)


def test_items_are_the_callers_own_objects_by_key():
    first, second = {"id": 1, "from": "A"}, {"id": 1, "from": "B"}
    merged = TeamDraft().merge({"A": [first], "B": [second]}, key=lambda item: item["id"], seed=0)
    assert merged.items[0] is first
    assert {"A": 0, "B": 0} == merged.slots[0].ranks


def test_three_rankers_are_drafted_in_rounds_of_all_three():
    for seed in range(30):
        merged = TeamDraft().merge({"A": "abc", "B": "def", "C": "ghi"}, k=9, seed=seed)
        teams = [slot.team for slot in merged.slots]
        assert all(sorted(teams[start : start + 3]) == ["A", "B", "C"] for start in (0, 3, 6))
        assert [0, 0, 0, 1, 1, 1, 2, 2, 2] == [slot.pair for slot in merged.slots]


def test_a_click_on_an_item_that_was_not_shown_is_refused():
    merged = TeamDraft().merge({"A": [1], "B": [2]}, seed=0)
    with pytest.raises(UnknownItemError, match="is not in the interleaved list"):
        merged.credit({3: 1.0})


@pytest.mark.parametrize(
    "arguments", [{"rankings": {"A": [1]}}, *({"rankings": {"A": [1], "B": [2]}, "k": k} for k in (-1, 1.5))]
)
def test_too_few_rankings_or_what_is_no_length_are_refused(arguments):
    with pytest.raises(ConfigurationError, match="at least two rankings"):
        TeamDraft().merge(**arguments, seed=0)


def test_any_whole_number_is_a_length():
    assert 2 == len(TeamDraft().merge({"A": [1, 2, 3], "B": [3, 2, 1]}, k=np.int64(2), seed=0))


def test_an_item_without_a_hash_needs_a_key():
    rankings_ = {"A": [{"id": 1}], "B": [{"id": 2}]}
    with pytest.raises(ConfigurationError, match=r"item of 'A' cannot be distinguished .* unhashable type: 'dict'.* Pass key="):
        TeamDraft().merge(rankings_, seed=0)
    assert 1 == len(TeamDraft().merge(rankings_, key=lambda item: item["id"], seed=0))


@pytest.mark.parametrize("seed", [None, 1.5, ("ann", "shoes")])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ConfigurationError, match="text, bytes or a whole number"):
        TeamDraft().merge({"A": [1], "B": [2]}, seed=seed)


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="neutral"):
        TeamDraft(neutral="always")


@pytest.mark.parametrize(
    ("items", "teams"), [(["a", "b"], ["control"]), (["a"], ["v9"]), (["a"], [7]), (None, ["control"]), (["a"], None)]
)
def test_a_recorded_list_that_cannot_credit_its_clicks_is_none(items, teams):
    rankers = ["control", "v2"]
    assert {"control": 0.0, "v2": 1.0} == read_page(["a", "b"], rankers, ["control", "v2"], None).credit({"b": 1.0})
    assert read_page(items, rankers, teams, None) is None


@pytest.mark.parametrize("teams", [[0], [0, 1, 0]])
def test_a_list_with_a_team_too_few_or_too_many_is_refused_and_not_cut(teams):
    table = TeamDraft(neutral="off").merge({"control": "ab", "v2": "ba"}, seed=0).as_dict()
    assert 2 == len(Interleaved.from_dict(table).slots)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Interleaved.from_dict({**table, "teams": teams}).slots
