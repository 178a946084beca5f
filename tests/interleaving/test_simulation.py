"""Simulated users: exact distributions against brute force, and figures that are known."""

import importlib.util
import math
import random
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError
from rollout_sdk.interleaving import (
    CascadeClicks,
    PositionClicks,
    Query,
    TeamDraft,
    simulate_ab,
    simulate_interleaving,
)

MODELS = {
    "perfect": CascadeClicks.perfect(),
    "navigational": CascadeClicks.navigational(),
    "informational": CascadeClicks.informational(),
    "position": PositionClicks((0.1, 0.4, 0.9), (1.0, 0.5, 0.25)),
    "perfect by position": PositionClicks.perfect(),
    "navigational by position": PositionClicks.navigational(),
    "informational by position": PositionClicks.informational(),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def users(request):
    return request.param


def by_hand(users, grades):
    """The distribution of the number of clicks, over every way that reading can go."""
    counts = Counter()
    for path in product([(0, 0), (1, 0), (1, 1)], repeat=len(grades)):
        probability, count, stopped = 1.0, 0, False
        for position, (clicks, stops) in enumerate(path):
            grade = grades[position]
            if stopped:
                # Nothing is read any more: one path stands for all.
                probability *= (clicks, stops) == (0, 0)
                continue
            if isinstance(users, PositionClicks):
                last = len(users.examination) - 1
                click = users.click[min(grade, len(users.click) - 1)] * users.examination[min(position, last)]
                stop = 0.0
            else:
                click, stop = users.click[grade], users.stop[grade]
            probability *= (click * (stop if stops else 1 - stop)) if clicks else 1 - click
            count += clicks
            stopped = bool(stops)
        counts[count] += probability
    return [counts[number] for number in range(len(grades) + 1)]


@given(st.lists(st.integers(0, 4), max_size=6), st.sampled_from(list(MODELS)))
def test_the_distribution_of_clicks_is_exact(grades, name):
    users = MODELS[name]
    assert users.distribution(grades) == pytest.approx(by_hand(users, grades))
    assert math.fsum(users.distribution(grades)) == pytest.approx(1.0)


def test_users_click_as_their_distribution_says(users):
    rng, grades, rounds = random.Random(3), [4, 0, 2, 3, 1], 20_000
    counts = Counter(len(users.clicks(grades, rng)) for _ in range(rounds))
    for count, probability in enumerate(users.distribution(grades)):
        assert abs(counts[count] / rounds - probability) <= 4 * math.sqrt(probability * (1 - probability) / rounds) + 1e-12


def test_a_perfect_user_reads_on_and_a_navigational_one_seldom():
    rng = random.Random(1)
    assert [0, 4] == CascadeClicks.perfect().clicks([4, 0, 0, 0, 4], rng)
    last = sum(4 in CascadeClicks.navigational().clicks([4, 4, 4, 4, 4], rng) for _ in range(2000))
    # It takes four items that are passed over, or clicked and not enough: .145 each.
    assert last / 2000 < 0.02


def test_users_of_both_models_click_alike_on_what_stands_first():
    for kind in ("perfect", "navigational", "informational"):
        by_position, cascade = (getattr(model, kind)() for model in (PositionClicks, CascadeClicks))
        assert by_position.click == cascade.click
        assert 1.0 == by_position.examination[0]


def test_the_deeper_the_less_it_is_looked_at():
    assert (1 / 2, 1 / 100) == tuple(PositionClicks.navigational().examination[at] for at in (1, 99))
    assert (1 / 2, 1 / 10) == tuple(PositionClicks.informational().examination[at] for at in (3, 99))


QUERIES = [
    Query({"A": [1, 2, 3, 4], "B": [2, 1, 5, 3]}, {1: 1, 2: 4, 3: 0, 4: 2, 5: 3}),
    Query({"A": [9, 8], "B": [8, 9]}, {9: 3}),
]


def test_an_ab_test_is_computed_exactly(users):
    found = simulate_ab(QUERIES, users, k=3)
    rng, rounds = random.Random(5), 40_000
    for metric, of in (("clicks", float), ("any click", lambda number: float(number > 0))):
        means, variances = [], []
        for name in ("A", "B"):
            values = []
            for _ in range(rounds):
                query = rng.choice(QUERIES)
                values.append(of(len(users.clicks(query.grades_of(query.rankings[name][:3]), rng))))
            means.append(math.fsum(values) / rounds)
            variances.append(math.fsum(value**2 for value in values) / rounds - means[-1] ** 2)
        error = math.sqrt(sum(variances) / rounds)
        assert found[metric].mean == pytest.approx(means[1] - means[0], abs=4.5 * error)
        assert found[metric].deviation == pytest.approx(math.sqrt(2 * sum(variances)), rel=0.05)


def test_the_lists_that_a_simulation_asks_for_have_the_power_it_says():
    users = CascadeClicks.navigational()
    credit, sign = simulate_interleaving(QUERIES, TeamDraft(), users, impressions=8000, k=4, seed=2)
    assert credit.mean > 0
    assert sign.mean > 0
    number = credit.needed(power=0.8)
    seen, rounds = 0, 200
    for seed in range(rounds):
        part, _ = simulate_interleaving(QUERIES, TeamDraft(), users, impressions=number, k=4, seed=1000 + seed)
        seen += part.z * math.sqrt(number) > 1.96
    # 4 standard errors of the power, and what 8,000 lists leave open.
    assert abs(seen / rounds - 0.8) <= 4 * math.sqrt(0.16 / rounds) + 0.05


def test_a_simulation_is_the_same_for_the_same_seed_and_says_how_far_it_is():
    said = []
    options = {"impressions": 300, "seed": 4, "progress": lambda done, of: said.append((done, of))}
    first, second = (simulate_interleaving(QUERIES, TeamDraft(), MODELS["perfect"], **options) for _ in range(2))
    assert first == second
    assert [(100, 300), (200, 300), (300, 300)] * 2 == said
    assert first[0].z_error == pytest.approx(math.sqrt((1 + first[0].z ** 2 / 2) / 300))


def test_identical_rankers_need_no_number_of_lists():
    same = [Query({"A": [1, 2], "B": [1, 2]}, {1: 4})]
    credit, sign = simulate_interleaving(same, TeamDraft(), MODELS["perfect"], impressions=100)
    assert (0.0, None, None) == (credit.z, credit.needed(), sign.needed())
    assert simulate_ab(same, MODELS["perfect"])["clicks"].needed() is None


@pytest.mark.parametrize("queries", [[], [Query({"A": [1]}, {})], [*QUERIES, Query({"A": [1], "C": [2]}, {})]])
def test_what_cannot_be_compared_is_refused(queries):
    with pytest.raises(ConfigurationError, match="same two rankers"):
        simulate_interleaving(queries, TeamDraft(), MODELS["perfect"])


@pytest.mark.parametrize("numbers", [(), (0.5, 1.5), (-0.1,), (math.nan,)])
def test_what_is_no_probability_is_refused(numbers):
    with pytest.raises(ConfigurationError, match="no probabilities"):
        CascadeClicks(numbers, (0.1,))


def test_taking_turns_invents_winners_and_a_draft_does_not(capsys):
    file = Path(__file__).parents[2] / "benchmarks" / "interleaving_sensitivity.py"
    spec = importlib.util.spec_from_file_location("interleaving_sensitivity", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["interleaving_sensitivity"] = module
    spec.loader.exec_module(module)
    naive, drafted = module.false_winners(60, 300)
    assert naive > 0.8
    assert drafted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert "a winner in" in capsys.readouterr().out
