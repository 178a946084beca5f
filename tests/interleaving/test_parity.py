"""Team draft favours nobody at any position: exactly, over all that its coins can decide, whatever the rankings' lengths."""

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError
from rollout_sdk.interleaving import Balanced, Optimized, TeamDraft
from rollout_sdk.interleaving.rankings import Coins, Rankings

NAMES = ("A", "B", "C")
designs = st.builds(TeamDraft, neutral=st.sampled_from(["ties", "prefix", "off"]), coin=st.sampled_from(["pair", "list"]))
rankings = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True), min_size=2, max_size=3)


class Foretold(Coins):
    """Coins whose every toss is given, as the number of one of its outcomes; the first outcome beyond those given."""

    def __init__(self, tosses):
        super().__init__(b"")
        self.tosses, self.outcomes = tosses, []

    def _toss(self, outcomes):
        self.outcomes.append(outcomes)
        return self.tosses[len(self.outcomes) - 1] if len(self.outcomes) <= len(self.tosses) else 0

    def bits(self, count):
        # A draft of two takes its coins from one number: six of them are more than these lists need.
        return self._toss(2 ** min(count, 6))

    def order(self, count):
        orders = list(permutations(range(count)))
        return list(orders[self._toss(len(orders))])


def test_the_coins_of_a_seed_are_the_same_in_every_version():
    coins = Coins(b"seed")
    assert [[0, 1], [1, 0], [0, 1], [0, 1], [1, 0], [0, 1]] == [coins.order(2) for _ in range(6)]
    assert [[0, 1, 2, 3], [0, 2, 3, 1], [1, 2, 3, 0]] == [coins.order(4) for _ in range(3)]
    assert (2, [0.5785589392109353, 0.3971223887594574]) == (coins.below(10), coins.units(2))


def all_pages(design, orders, k):
    """Every page that the coins can make, with its exact probability."""
    waiting = [[]]
    while waiting:
        tosses = waiting.pop()
        coins = Foretold(tosses)
        page = design.drafted(Rankings(dict(zip(NAMES, orders, strict=False)), k, None), coins)
        probability = Fraction(1)
        for outcomes in coins.outcomes:
            probability /= outcomes
        yield page, probability
        told = tosses + [0] * (len(coins.outcomes) - len(tosses))
        for at in range(len(tosses), len(told)):
            waiting += [[*told[:at], other] for other in range(1, coins.outcomes[at])]


def shares(design, orders, k):
    """For every position, the probability that each ranker is credited for what stands there."""
    credited = defaultdict(Counter)
    for page, probability in all_pages(design, orders, k):
        for slot in page.slots:
            credited[slot.position][slot.team] += probability
    return credited


@given(rankings, designs, st.integers(1, 6))
# The second ranker has one item, which the first may take.
@example(["ab", "a"], TeamDraft(neutral="off"), 5)
@example(["bdec", "ebd"], TeamDraft(neutral="prefix"), 6)
@example(["ab", "a", "ba"], TeamDraft(), 2)
# One coin decides where the draft ends.
@example(["cdb", "ca"], TeamDraft(neutral="off", coin="list"), 3)
# What three agree on after a round depends on its order.
@example(["cebda", "cbeda", "bcdae"], TeamDraft(coin="list"), 4)
def test_at_every_position_every_ranker_is_as_likely_to_be_credited(orders, design, k):
    credited = shares(design, orders, k)
    names = NAMES[: len(orders)]
    assert {1} == {sum(teams.values()) for teams in credited.values()}
    assert all(len({teams[name] for name in names}) == 1 for teams in credited.values())


@pytest.mark.parametrize("coin", ["pair", "list"])
def test_rankings_as_long_as_the_page_are_credited_down_to_its_end(coin):
    credited = shares(TeamDraft(neutral="off", coin=coin), ["abc", "bcd"], 3)
    assert [{"A": Fraction(1, 2), "B": Fraction(1, 2)}] * 3 == [credited[position] for position in range(3)]


def test_three_rankers_with_nothing_in_common_are_credited_to_the_last_item_of_the_shortest():
    credited = shares(TeamDraft(), ["abc", "de", "fgh"], 8)
    expected = [dict.fromkeys(NAMES, Fraction(1, 3))] * 6 + [{None: 1}] * 2
    assert expected == [credited[position] for position in range(8)]


def test_a_round_in_which_one_of_three_may_have_nothing_left_credits_nobody():
    credited = shares(TeamDraft(), ["ab", "a", "cd"], 4)
    assert [{None: 1}] * 4 == [credited[position] for position in range(4)]


@pytest.mark.parametrize(
    ("orders", "k", "credited"),
    [
        # The others take at most two of its three items before its turn, whatever the order.
        (("abc", "bcad", "cabd"), 4, 3),
        # Of two free positions, the others take at most one.
        (("abpq", "bqpc", "cpqa"), 5, 5),
        # Its only item may be taken.
        (("a", "bac", "cabd"), 4, 0),
        # The others lack its last item.
        (("ax", "bace", "cabd"), 4, 4),
    ],
)
def test_a_round_in_which_each_of_three_has_an_item_at_its_turn_is_credited(orders, k, credited):
    for page, _ in all_pages(TeamDraft(), orders, k):
        assert credited == sum(team >= 0 for team in page.teams)


def test_two_who_disagree_are_credited_to_the_last_item_of_the_shorter():
    credited = shares(TeamDraft(), ["abc", "de"], 5)
    assert [dict.fromkeys("AB", Fraction(1, 2))] * 4 + [{None: 1}] == [credited[position] for position in range(5)]


@given(rankings, designs | st.just(Balanced()), st.integers(1, 6))
def test_the_distribution_has_every_list_of_two_rankers(orders, design, k):
    expected, found = Counter(), Counter()
    for page, probability in all_pages(design, orders[:2], k):
        expected[page.keys, tuple(page.teams)] += probability
    for page, probability in design.distribution(dict(zip(NAMES, orders[:2], strict=False)), k=k):
        found[page.keys, tuple(page.teams)] += Fraction(probability)
    assert expected == found


def test_there_is_no_distribution_of_three_rankers():
    for design in (TeamDraft(), Balanced(), Optimized()):
        with pytest.raises(ConfigurationError, match=r"got 3 rankings: A, B, C\. More than two have too many"):
            design.distribution({"A": "a", "B": "b", "C": "c"})


@pytest.mark.parametrize("credit", ["inverse", "linear", "binary"])
@pytest.mark.parametrize("orders", ["abcd bdca", "abcd bcad", "abcd cefa", "abc bcade", "abcd efgh", "abcd abcd"])
def test_the_distribution_of_optimized_is_that_of_its_lists(orders, credit):
    design, rankings = Optimized(credit=credit), dict(zip("AB", orders.split(), strict=True))
    expected = {page.keys: probability for page, probability in design.distribution(rankings, k=4)}
    assert sum(expected.values()) == pytest.approx(1.0)
    seen = Counter(design.merge(rankings, k=4, seed=seed).keys for seed in range(2000))
    assert set(seen) <= set(expected)
    for keys, probability in expected.items():
        assert abs(seen[keys] / 2000 - probability) <= 4 * (probability * (1 - probability) / 2000) ** 0.5 + 1e-9
