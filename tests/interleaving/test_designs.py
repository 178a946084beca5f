"""Every design: what all of them promise, and each against its published figures or a second way to compute it."""

import json
import math
import random
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, UnknownItemError
from rollout_sdk.interleaving import Balanced, Interleaved, Optimized, PairwisePreference, Probabilistic, TeamDraft

DESIGNS = {
    "ties": TeamDraft(),
    "classic": TeamDraft(neutral="off"),
    "pairs": TeamDraft(coin="list"),
    "balanced": Balanced(),
    "probabilistic": Probabilistic(),
    "optimized": Optimized(),
    "linear": Optimized(credit="linear"),
    "binary": Optimized(credit="binary"),
    "pairwise": PairwisePreference(),
}
rankings = st.lists(st.integers(0, 8), max_size=7)
clicks_on = st.data()


@pytest.fixture(params=DESIGNS.values(), ids=DESIGNS.keys())
def design(request):
    return request.param


def pages(design, a, b, *, k=None, rounds=20_000):
    """How often each list comes, over so many seeds."""
    counts = Counter(design.merge({"A": a, "B": b}, k=k, seed=seed).keys for seed in range(rounds))
    return {page: number / rounds for page, number in counts.items()}


def close(expected, seen, rounds=20_000):
    """Whether shares are as expected, each within four standard errors."""
    assert set(expected) == set(seen)
    for page, share in expected.items():
        assert abs(float(share) - seen[page]) <= 4 * math.sqrt(float(share) * (1 - float(share)) / rounds), page


def unit(merged, *keys):
    return merged.credit(dict.fromkeys(keys, 1.0))


# What every design promises ----------------------------------------------------------------------------------------------


@given(
    a=rankings,
    b=rankings,
    k=st.one_of(st.none(), st.integers(0, 12)),
    seed=st.integers(0, 99),
    name=st.sampled_from(list(DESIGNS)),
)
def test_no_item_is_lost_doubled_or_invented(a, b, k, seed, name):
    merged = DESIGNS[name].merge({"A": a, "B": b}, k=k, seed=seed)
    assert len(set(merged.keys)) == len(merged.keys)
    assert set(merged.keys) <= set(a) | set(b)
    assert len(merged) == min(len(a) if k is None else k, len(set(a) | set(b)))
    assert merged.items == merged.keys
    assert merged.duplicates == len(a) + len(b) - len(set(a)) - len(set(b))
    assert merged.counted <= len(merged)
    assert merged.is_interleaved is bool(a and b)


@given(a=rankings, b=rankings, seed=st.integers(0, 99), name=st.sampled_from(list(DESIGNS)))
def test_the_same_seed_gives_the_same_page(a, b, seed, name):
    assert DESIGNS[name].merge({"A": a, "B": b}, seed=seed) == DESIGNS[name].merge({"A": a, "B": b}, seed=seed)


@given(a=rankings, seed=st.integers(0, 99), name=st.sampled_from(list(DESIGNS)), data=st.data())
def test_identical_rankers_tie_whatever_is_clicked(a, seed, name, data):
    merged = DESIGNS[name].merge({"A": a, "B": list(a)}, seed=seed)
    assert list(merged.keys) == list(dict.fromkeys(a))[: len(merged)] or name in ("probabilistic", "pairwise")
    clicked = data.draw(st.lists(st.sampled_from(merged.keys), unique=True)) if merged.keys else []
    if name != "classic":
        assert merged.winner(dict.fromkeys(clicked, 1.0)) is None
    if name not in ("classic", "probabilistic"):
        assert 0.0 == merged.preference(dict.fromkeys(clicked, 1.0))


@given(a=rankings, b=rankings, seed=st.integers(0, 99), name=st.sampled_from(list(DESIGNS)), data=st.data())
def test_a_page_survives_the_way_through_json(a, b, seed, name, data):
    merged = DESIGNS[name].merge({"A": a, "B": b}, seed=seed)
    read = Interleaved.from_dict(json.loads(json.dumps(merged.as_dict())))
    assert read.as_dict() == merged.as_dict()
    assert read.slots == merged.slots
    clicked = data.draw(st.lists(st.sampled_from(merged.keys), unique=True)) if merged.keys else []
    weights = {key: float(1 + key) for key in clicked}
    assert (read.credit(weights), read.preference(weights)) == (merged.credit(weights), merged.preference(weights))


@given(a=rankings, b=rankings, seed=st.integers(0, 99), name=st.sampled_from(list(DESIGNS)))
def test_after_a_ranking_is_used_up_nothing_is_credited(a, b, seed, name):
    merged = DESIGNS[name].merge({"A": a, "B": b}, k=16, seed=seed)
    rest = merged.keys[merged.counted :]
    assert {"A": 0.0, "B": 0.0} == unit(merged, *rest)
    if name != "linear":
        assert all(value >= 0 for value in merged.credit(dict.fromkeys(merged.keys, 1.0)).values()) or name == "pairwise"
    shown = set(merged.keys[: merged.counted])
    if rest and name in ("ties", "pairs"):
        # What either ranker has shown by then, the other could have shown, too: one of them has nothing left.
        assert set(a) <= shown or set(b) <= shown
    elif rest and name in ("classic", "probabilistic", "pairwise"):
        assert min(len(set(a)), len(set(b))) == merged.counted


def test_no_click_is_a_tie_and_a_click_elsewhere_is_refused(design):
    merged = design.merge({"A": "abc", "B": "bcd"}, seed=1)
    assert (None, 0.0) == (merged.winner({}), merged.preference({}))
    for question in (merged.credit, merged.winner, merged.preference):
        with pytest.raises(UnknownItemError, match="is not in the interleaved list"):
            question({"z": 1.0})


def test_an_empty_candidate_leaves_the_controls_list_and_says_nothing(design):
    merged = design.merge({"A": "abc", "B": ""}, seed=1)
    assert (tuple("abc"), 0, False) == (merged.keys, merged.counted, merged.is_interleaved)
    assert merged.winner(dict.fromkeys("abc", 1.0)) is None


def test_credit_counts_the_weights_of_clicks(design):
    merged = design.merge({"A": "abcd", "B": "badc"}, seed=2)
    once, thrice = (merged.credit({"b": weight}) for weight in (1.0, 3.0))
    assert {name: 3 * value for name, value in once.items()} == pytest.approx(thrice)


def test_a_page_stays_the_same_from_process_to_process_and_from_version_to_version(design, request):
    golden = {
        "ties": "a b c f d e",
        "classic": "a b c d f e",
        "pairs": "a b c d f e",
        "balanced": "b a c f d e",
        "probabilistic": "b a c d e f",
        "optimized": "b a c d e f",
        "linear": "b a c d f e",
        "binary": "a b c f d e",
        "pairwise": "a b c d f e",
    }
    name = request.node.callspec.id
    code = (
        "from rollout_sdk.interleaving import *\n"
        f"print(*{design!r}.merge({{'A': 'abcdef', 'B': 'bcafde'}}, seed='page 7').keys)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert golden[name] == printed.stdout.strip()


def test_keys_that_json_would_change_are_refused(design):
    merged = design.merge({"A": [(1, 2)], "B": [(3, 4)]}, seed=0)
    with pytest.raises(TypeError, match="JSON preserves only"):
        merged.as_dict()


def test_preference_is_between_two():
    merged = TeamDraft().merge({"A": "ab", "B": "ba", "C": "cd"}, seed=0)
    with pytest.raises(ValueError, match="compares two rankers, and this list has 3"):
        merged.preference({})


# Fairness: clicks that read nothing favour nobody --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ties", "classic", "pairs", "probabilistic", "optimized", "linear", "binary"])
@pytest.mark.parametrize(("a", "b"), [("abcd", "bdca"), ("abc", "bca"), ("abcdef", "fabcde"), ("abcd", "efgh")])
def test_a_click_on_any_one_position_favours_nobody_on_average(name, a, b):
    rounds = 4000
    sums, squares = Counter(), Counter()
    for seed in range(rounds):
        merged = DESIGNS[name].merge({"A": a, "B": b}, seed=seed)
        for position, key in enumerate(merged.keys):
            credit = unit(merged, key)
            sums[position] += credit["B"] - credit["A"]
            squares[position] += (credit["B"] - credit["A"]) ** 2
    for position in range(len(a)):
        assert abs(sums[position]) <= 4.5 * math.sqrt(squares[position]) + 1e-9, (position, sums[position] / rounds)


# Balanced ------------------------------------------------------------------------------------------------------------------


def test_balanced_is_one_of_two_lists():
    close({(1, 2, 3): 0.5, (2, 1, 3): 0.5}, pages(Balanced(), [1, 2], [2, 3], k=3))
    close({tuple("abcd"): 0.5, tuple("badc"): 0.5}, pages(Balanced(), "abcd", "badc"))


def test_balanced_credits_within_the_depth_of_the_lowest_click():
    # By hand (Chapelle et al., 2012): the lowest click is d, at depth 2 of B, so that both tops of 3 count.
    merged = next(m for seed in range(9) if (m := Balanced().merge({"A": "abcd", "B": "bdca"}, seed=seed)).keys[0] == "a")
    assert tuple("abdc") == merged.keys
    assert {"A": 1.0, "B": 2.0} == unit(merged, "b", "d")
    assert {"A": 1.0, "B": 0.0} == unit(merged, "a")
    # The lowest click is b, first in B: only the tops count.
    assert {"A": 1.0, "B": 1.0} == unit(merged, "a", "b")


def test_the_known_bias_of_balanced():
    wins = Counter()
    for seed in range(600):
        merged = Balanced().merge({"A": "abc", "B": "bca"}, seed=seed)
        wins.update(merged.winner({key: 1.0}) for key in merged.keys)
    assert abs(wins["B"] / wins.total() - 2 / 3) < 0.03
    assert abs(wins["A"] / wins.total() - 1 / 3) < 0.03


def test_balanced_is_for_two():
    with pytest.raises(ConfigurationError, match=r"got 3 rankings: A, B, C\. This design is defined for 2 only"):
        Balanced().merge({"A": "a", "B": "b", "C": "c"}, seed=0)


# Probabilistic -------------------------------------------------------------------------------------------------------------


def drawn_by_hand(orders, k, tau):
    """Every list with its probability, and for each position the chance that either ranker drew it, by the definition."""

    def go(page, probability, shares):
        if len(page) == k:
            yield tuple(page), probability, shares
            return
        chances = []
        for order in orders:
            left = {item: (rank + 1) ** -tau for rank, item in enumerate(order) if item not in page}
            chances.append({item: weight / sum(left.values()) for item, weight in left.items()})
        for item in sorted(set().union(*chances)):
            parts = [each.get(item, 0.0) for each in chances]
            share = [part / sum(parts) for part in parts]
            yield from go([*page, item], probability * sum(parts) / len(orders), [*shares, share])

    return list(go([], 1.0, []))


@pytest.mark.parametrize("orders", [("abc", "cab"), ("ab", "cd"), ("abc", "bca", "cab")])
def test_probabilistic_draws_and_shares_are_those_of_the_definition(orders):
    k = 2
    known = drawn_by_hand(orders, k, 3.0)
    named = dict(zip("ABC", orders, strict=False))
    seen = Counter()
    shares = {page: share for page, _, share in known}
    for seed in range(20_000):
        merged = Probabilistic().merge(named, k=k, seed=seed)
        seen[merged.keys] += 1
        if seed < 500:
            for mine, expected in zip(merged.shares, shares[merged.keys], strict=True):
                assert list(mine) == pytest.approx(expected, rel=1e-9)
    close({page: probability for page, probability, _ in known}, {page: number / 20_000 for page, number in seen.items()})


@given(st.permutations(range(9)), st.integers(0, 99), st.lists(st.integers(0, 8), unique=True, max_size=7), st.booleans())
def test_credit_and_preference_are_the_sums_over_all_assignments(order, seed, clicked, weighted):
    merged = Probabilistic().merge({"A": list(range(9)), "B": order}, seed=seed)
    weights = {key: 1.0 + weighted * key for key in clicked}
    share = {key: merged.shares[at][1] for at, key in enumerate(merged.keys)}
    expected, sign = 0.0, 0.0
    for sides in product((0, 1), repeat=len(clicked)):
        probability = math.prod(share[key] if side else 1 - share[key] for key, side in zip(clicked, sides, strict=True))
        difference = sum((1 if side else -1) * weights[key] for key, side in zip(clicked, sides, strict=True))
        expected += probability * difference
        sign += probability * ((difference > 0) - (difference < 0))
    credit = merged.credit(weights)
    assert credit["B"] - credit["A"] == pytest.approx(expected, abs=1e-9)
    assert merged.preference(weights) == pytest.approx(sign, abs=1e-9)
    assert sum(credit.values()) == pytest.approx(sum(weights.values()))


@pytest.mark.parametrize("tau", [0, 50])
def test_shares_are_probabilities_for_every_tau(tau):
    merged = Probabilistic(tau=tau).merge({"A": range(3000), "B": range(2999, -1, -1), "C": range(40)}, k=100, seed=1)
    for share in merged.shares:
        assert math.fsum(share) == pytest.approx(1.0)
        assert all(0 <= part <= 1 for part in share)


def test_a_tau_of_another_type_is_that_number_and_spoils_no_others():
    rankings = {"A": "abcdefghijk", "B": "kjihgfedcba"}
    assert Probabilistic(tau=Decimal(3)).merge(rankings, seed=1) == Probabilistic().merge(rankings, seed=1)
    assert {float} == {type(part) for share in Probabilistic().merge(rankings, seed=1).shares for part in share}


@pytest.mark.parametrize("tau", [-1, 51, math.inf, math.nan])
def test_a_tau_whose_weights_would_be_nothing_is_refused(tau):
    with pytest.raises(ValueError, match="'tau' must be"):
        Probabilistic(tau=tau)


def test_very_many_clicks_of_different_weights_take_no_longer_than_their_sums():
    merged = Probabilistic().merge({"A": range(60), "B": range(59, -1, -1)}, seed=5)
    weights = {key: 1.0 + math.sqrt(key) for key in merged.keys[:40]}
    shares = [merged.shares[at][1] for at in range(40)]
    rng, rounds = random.Random(3), 20_000
    drawn = [
        math.fsum(weight if rng.random() < share else -weight for weight, share in zip(weights.values(), shares, strict=True))
        for _ in range(rounds)
    ]
    expected = sum((value > 0) - (value < 0) for value in drawn) / rounds
    assert merged.preference(weights) == pytest.approx(expected, abs=4 / math.sqrt(rounds))


@given(st.integers(0, 99), st.lists(st.integers(0, 5), unique=True, max_size=5))
def test_of_three_rankers_what_the_third_may_have_placed_counts_for_neither_of_two(seed, clicked):
    merged = Probabilistic().merge({"A": range(6), "B": [3, 1, 5, 0, 2, 4], "C": [5, 4, 3, 2, 1, 0]}, seed=seed)
    keys = [merged.keys[at] for at in clicked]
    for two in (("A", "B"), ("A", "C"), ("C", "B")):
        sides = [merged.rankers.index(name) for name in two]
        expected = 0.0
        for placed in product(range(3), repeat=len(clicked)):
            probability = math.prod(merged.shares[at][who] for at, who in zip(clicked, placed, strict=True))
            difference = placed.count(sides[1]) - placed.count(sides[0])
            expected += probability * ((difference > 0) - (difference < 0))
        assert merged.between(*two).preference(dict.fromkeys(keys, 1.0)) == pytest.approx(expected, abs=1e-9)


# Optimized -----------------------------------------------------------------------------------------------------------------


def test_optimized_shows_the_published_distributions():
    close({(1, 2): 3 / 7, (2, 1): 13 / 35, (2, 3): 1 / 5}, pages(Optimized(), [1, 2], [2, 3]))
    expected = {tuple("abdc"): 0.25, tuple("badc"): 0.35, tuple("bdac"): 0.4}
    close(expected, pages(Optimized(credit="linear"), "abcd", "bdca"))


def test_optimized_credit_is_by_rank():
    merged = Optimized().merge({"A": "ab", "B": "bc"}, seed=0)
    assert {"A": 1 / 2, "B": 1.0} == unit(merged, "b")
    merged = Optimized(credit="linear").merge({"A": "ab", "B": "bc"}, seed=0)
    assert {"A": -2.0, "B": -1.0} == unit(merged, "b")
    merged = Optimized(credit="binary").merge({"A": "ab", "B": "bc"}, seed=0)
    assert {"A": 0.0, "B": 1.0} == unit(merged, "b")


@pytest.mark.parametrize(
    ("rankings_", "why"),
    [
        ({"A": "ab", "B": "ba", "C": "ab"}, "3 rankers, not two"),
        ({"A": range(11), "B": range(1, 12)}, "11 positions, more than 10"),
    ],
)
def test_where_it_cannot_optimize_it_drafts_and_says_so(rankings_, why):
    merged = Optimized().merge(rankings_, seed=5)
    plain = TeamDraft().merge(rankings_, seed=5)
    assert why in merged.fallback
    assert (plain.keys, plain.teams, "team_draft") == (merged.keys, merged.teams, merged.design)


def test_optimized_without_scipy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rollout-sdk\[interleaving\]'"):
        Optimized()


def test_rankings_of_one_shape_are_solved_once():
    from rollout_sdk.interleaving.optimized import _solve

    _solve.cache_clear()
    for number in range(20):
        Optimized().merge({"A": [number, number + 1, number + 2], "B": [number + 1, number, number + 2]}, seed=number)
    assert (1, 19) == (_solve.cache_info().misses, _solve.cache_info().hits)


# Pairwise preference -------------------------------------------------------------------------------------------------------


def test_pairwise_positions_are_uniform_over_the_tops():
    # Position 1: a or b. Position 2: what is left of the tops of two, {a, b, c}.
    expected = {("a", "b"): 1 / 4, ("a", "c"): 1 / 4, ("b", "a"): 1 / 4, ("b", "c"): 1 / 4}
    close(expected, pages(PairwisePreference(), "acx", "bca", k=2))


def infer_by_hand(merged, clicked, orders, tops):
    """Credit by the paper's definition: the probability that neither of two stood above r comes from all lists."""
    page, credit = merged.keys, dict.fromkeys(orders, 0.0)
    best = {key: min(order.index(key) for order in orders.values() if key in order) for key in page}
    for x, y in permutations(page, 2):
        if x not in clicked or y in clicked or page.index(y) > page.index(x) + 1:
            continue
        r = max(best[x], best[y])
        if min(page.index(x), page.index(y)) < r:
            continue
        first, chance = min(best[x], best[y]), 1.0
        for slot in range(first, r):
            open_ = set().union(*(order[: slot + 1] for order in tops)) - set(page[:slot])
            chance *= 1 - 1 / len(open_)
        for name, order in orders.items():
            places = [order.index(key) if key in order else math.inf for key in (x, y)]
            if places[0] != places[1]:
                credit[name] += (1 if places[0] < places[1] else -1) / chance
    return credit


@given(
    st.lists(st.permutations("abcdef"), min_size=2, max_size=4),
    st.integers(0, 99),
    st.sets(st.sampled_from("abcdef"), max_size=3),
)
def test_pairwise_credit_is_that_of_the_definition(orders, seed, clicked):
    named = dict(zip("WXYZ", orders, strict=False))
    merged = PairwisePreference().merge(named, k=5, seed=seed)
    clicked &= set(merged.keys)
    expected = infer_by_hand(merged, clicked, named, orders)
    assert unit(merged, *clicked) == pytest.approx(expected)


def test_an_item_that_a_short_ranking_lacks_is_below_all_that_it_has():
    merged = next(
        m
        for seed in range(99)
        if (m := PairwisePreference().merge({"A": "ab", "B": "cabd"}, k=2, seed=seed)).keys == ("c", "a")
    )
    # a is clicked and c above is not: A, which lacks c, prefers a; B has c first.
    credit = unit(merged, "a")
    assert credit["A"] > 0 > credit["B"]
