"""The clicks that each ranking would have had: unbiased, by enumeration of every list and of every click."""

import math
import random
import statistics
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError
from rollout_sdk.interleaving import (
    Balanced,
    Interleaved,
    Optimized,
    PositionClicks,
    Probabilistic,
    TeamDraft,
    counterfactual_clicks,
)

DESIGNS = [
    Balanced(),
    *[TeamDraft(neutral, coin) for neutral in ("ties", "prefix", "off") for coin in ("list", "pair")],
    Optimized(),
]
THETA = [1.0, 0.6, 0.45, 0.3, 0.2, 0.15]
orders = st.integers(1, 6).flatmap(lambda k: st.tuples(*[st.permutations("abcdefgh").map(lambda p, k=k: p[:k])] * 2))


@pytest.mark.parametrize("design", DESIGNS, ids=repr)
@given(orders=orders, draws=st.lists(st.floats(0, 1), min_size=8, max_size=8))
@settings(deadline=None)
def test_its_expectation_is_the_clicks_on_each_rankings_own_list(design, orders, draws):
    attraction = dict(zip("abcdefgh", draws, strict=True))
    rankings = dict(zip(("A", "B"), orders, strict=True))
    expected, depths = {"A": 0.0, "B": 0.0}, set()
    for page, probability in design.distribution(rankings, k=len(orders[0])):
        for position, key in enumerate(page.keys):
            # Linear in the clicks, so one at a time is enough.
            found = counterfactual_clicks(page, {key: 1.0}, design=design, examination=THETA)
            depths.add(found.depth)
            for name, clicks in found.clicks.items():
                expected[name] += probability * THETA[min(position, 5)] * attraction[key] * clicks
    (depth,) = depths
    assert depth >= 1
    for name, order in rankings.items():
        own = math.fsum(THETA[min(rank, 5)] * attraction[key] for rank, key in enumerate(order[:depth]))
        assert own == pytest.approx(expected[name], abs=1e-9)


@pytest.mark.parametrize("design", [TeamDraft(), TeamDraft(coin="list")], ids=repr)
def test_the_lift_is_found_from_clicks(design):
    rng = random.Random(3)
    users = PositionClicks((0.1, 0.6), THETA)
    rankings, grades = {"A": list("abcdef"), "B": list("bagcdh")}, {"b": 1, "g": 1}
    estimates = {"A": [], "B": []}
    for _ in range(8_000):
        page = design.merge(rankings, k=6, seed=rng.getrandbits(60))
        clicked = users.clicks([grades.get(key, 0) for key in page.keys], rng)
        found = counterfactual_clicks(
            page, dict.fromkeys([page.keys[at] for at in clicked], 1.0), design=design, examination=THETA, depth=3
        )
        for name, clicks in found.clicks.items():
            estimates[name].append(clicks)
    for name, order in rankings.items():
        own = sum(THETA[rank] * (0.6 if grades.get(key) else 0.1) for rank, key in enumerate(order[:3]))
        error = statistics.stdev(estimates[name]) / math.sqrt(len(estimates[name]))
        assert error < 0.02 * own
        assert own == pytest.approx(statistics.fmean(estimates[name]), abs=4 * error)


def test_it_is_as_deep_as_the_lists_can_show():
    page = TeamDraft(coin="list").merge({"A": list("abcdef"), "B": list("uvwxyz")}, k=6, seed=1)
    assert 3 == counterfactual_clicks(page, {}, design=TeamDraft(coin="list"), examination=THETA).depth
    same = TeamDraft(coin="list").merge({"A": list("abcdef"), "B": list("abcdef")}, k=6, seed=1)
    found = counterfactual_clicks(same, {"c": 2.0}, design=TeamDraft(coin="list"), examination=THETA)
    assert (6, {"A": 2.0, "B": 2.0}) == (found.depth, found.clicks)


@pytest.mark.parametrize(
    ("orders", "k"),
    # More than ten positions, and twelve of which there are but eight items.
    [((range(14), [*range(10, 0, -1), 0, 20, 21, 22]), 14), (("abcdef", "bcadgh"), 12)],
)
def test_lists_that_team_draft_made_for_optimized_are_estimated_as_its_own(orders, k):
    rankings = dict(zip("AB", map(list, orders), strict=True))
    page = Optimized().merge(rankings, k=k, seed=5)
    assert page.fallback
    clicks = dict.fromkeys(page.keys[:3], 1.0)
    found = counterfactual_clicks(page, clicks, design=Optimized(), examination=THETA)
    assert found == counterfactual_clicks(page, clicks, design=TeamDraft(), examination=THETA)


def test_what_cannot_be_estimated_is_refused():
    rankings = {"A": list("abcdef"), "B": list("uvwxyz")}
    design = TeamDraft(coin="list")
    page = design.merge(rankings, k=6, seed=1)
    with pytest.raises(ConfigurationError, match="cannot all be enumerated"):
        counterfactual_clicks(page, {}, design=Probabilistic(), examination=THETA)
    for length, made_by in product((26, 3000), (TeamDraft(), Optimized())):
        long = made_by.merge({"A": range(length), "B": range(length, 2 * length)}, k=length, seed=1)
        with pytest.raises(ConfigurationError, match="can make more than 4,096 lists"):
            counterfactual_clicks(long, {}, design=made_by, examination=THETA)
    with pytest.raises(ConfigurationError, match="does not make this list"):
        counterfactual_clicks(TeamDraft().merge(rankings, k=6, seed=3), {}, design=Balanced(), examination=THETA)
    with pytest.raises(ConfigurationError, match="deeper than the 3 positions"):
        counterfactual_clicks(page, {}, design=design, examination=THETA, depth=4)
    for examination in ([], [1.0, 0.0], [1.0, math.nan], [math.inf]):
        with pytest.raises(ConfigurationError, match="not a probability above 0"):
            counterfactual_clicks(page, {}, design=design, examination=examination)
    with pytest.raises(ConfigurationError, match="was read back"):
        counterfactual_clicks(Interleaved.from_dict(page.as_dict()), {}, design=design, examination=THETA)
    three = design.merge({**rankings, "C": list("mnopqr")}, k=6, seed=1)
    for of_three in (three, three.between("A", "B")):
        with pytest.raises(ConfigurationError, match="more than two rankers"):
            counterfactual_clicks(of_three, {}, design=design, examination=THETA)
