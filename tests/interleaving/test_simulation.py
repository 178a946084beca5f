"""Simulated users: exact distributions against brute force, and figures that are known."""

import importlib.util
import math
import random
import statistics
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError
from rollout_sdk.interleaving import (
    Balanced,
    CascadeClicks,
    PairwisePreference,
    PositionClicks,
    Probabilistic,
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


def clicked_by_hand(users, grades):
    """Every set of positions that can be clicked, with its probability, over every way that reading can go."""
    for path in product([(0, 0), (1, 0), (1, 1)], repeat=len(grades)):
        probability, clicked, stopped = 1.0, [], False
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
            if clicks:
                clicked.append(position)
            stopped = bool(stops)
        yield clicked, probability


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 2)), max_size=6), st.sampled_from(list(MODELS)))
def test_the_distribution_of_the_sum_over_the_clicks_is_exact(positions, name):
    grades, values = [grade for grade, _ in positions], [value for _, value in positions]
    expected = Counter()
    for clicked, probability in clicked_by_hand(MODELS[name], grades):
        expected[sum(values[at] for at in clicked)] += probability
    found = MODELS[name].totals(grades, values)
    assert {total: chance for total, chance in expected.items() if chance} == pytest.approx(
        {total: chance for total, chance in found.items() if chance}
    )
    assert math.fsum(found.values()) == pytest.approx(1.0)


def test_users_click_as_their_distribution_says(users):
    rng, grades, rounds = random.Random(3), [4, 0, 2, 3, 1], 20_000
    counts = Counter(len(users.clicks(grades, rng)) for _ in range(rounds))
    for count, probability in users.totals(grades, [1] * 5).items():
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


@pytest.mark.parametrize(
    ("kind", "click", "stop"),
    [
        ("perfect", (0.0, 0.2, 0.4, 0.8, 1.0), (0.0, 0.0, 0.0, 0.0, 0.0)),
        ("navigational", (0.05, 0.3, 0.5, 0.7, 0.95), (0.2, 0.3, 0.5, 0.7, 0.9)),
        ("informational", (0.4, 0.6, 0.7, 0.8, 0.9), (0.1, 0.2, 0.3, 0.4, 0.5)),
    ],
)
def test_users_click_and_stop_as_in_the_published_table(kind, click, stop):
    """Hofmann et al. (TOIS 2013) for five grades; higher grades count as the highest."""
    users = getattr(CascadeClicks, kind)()
    for grade in range(7):
        at = min(grade, 4)
        # The value of the second position tells whether it was clicked after the first.
        totals = users.totals([grade, 4], [1, 10])
        assert totals.get(1, 0.0) + totals.get(11, 0.0) == pytest.approx(click[at])
        assert totals.get(11, 0.0) == pytest.approx(click[at] * (1 - stop[at]) * click[4])


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


TEAM_DRAFTS = [TeamDraft(), TeamDraft(neutral="prefix"), TeamDraft(neutral="off"), TeamDraft(coin="list")]


def moments(says):
    """Mean and deviation of values with their probabilities."""
    mean = sum(probability * value for value, probability in says)
    return mean, math.sqrt(sum(probability * (value - mean) ** 2 for value, probability in says))


@pytest.mark.parametrize("design", TEAM_DRAFTS, ids=repr)
def test_what_team_draft_tells_is_computed_exactly(design, users):
    credits_, preferences = [], []
    for query in QUERIES:
        for page, share in design.distribution(query.rankings, k=4):
            for clicked, probability in clicked_by_hand(users, query.grades_of(page.keys)):
                clicks = {page.keys[at]: 1.0 for at in clicked}
                weight = probability * share / len(QUERIES)
                credit = page.credit(clicks)
                credits_.append((credit["B"] - credit["A"], weight))
                preferences.append((page.preference(clicks), weight))
    found = simulate_interleaving(QUERIES, design, users, k=4)
    assert (0.0, 0.0) == (found.credit.z_error, found.preference.z_error)
    assert (found.credit.mean, found.credit.deviation) == pytest.approx(moments(credits_), abs=1e-12)
    assert (found.preference.mean, found.preference.deviation) == pytest.approx(moments(preferences), abs=1e-12)


@pytest.mark.parametrize(
    ("design", "by"), [(TeamDraft(), "preference"), (Balanced(), "preference"), (PairwisePreference(), "credit")], ids=repr
)
def test_the_verdict_is_by_what_an_analysis_goes_by(design, by):
    found = simulate_interleaving(QUERIES, design, MODELS["navigational"], impressions=200, k=4)
    assert found.verdict is getattr(found, by)


def test_the_lists_that_it_asks_for_have_the_power_it_says():
    users, rng = CascadeClicks.navigational(), random.Random(8)
    number = simulate_interleaving(QUERIES, TeamDraft(), users, k=4).verdict.needed(power=0.8)
    seen, rounds = 0, 250
    for _ in range(rounds):
        signs = []
        for _ in range(number):
            query = rng.choice(QUERIES)
            page = TeamDraft().merge(query.rankings, k=4, seed=rng.getrandbits(60))
            clicked = users.clicks(query.grades_of(page.keys), rng)
            signs.append(page.preference({page.keys[at]: 1.0 for at in clicked}))
        seen += statistics.fmean(signs) > 1.96 * statistics.pstdev(signs) / math.sqrt(number)
    # 4 standard errors; and the normal distribution is one of so few lists only by and by.
    assert number > 30
    assert abs(seen / rounds - 0.8) <= 4 * math.sqrt(0.16 / rounds) + 0.02


@pytest.mark.parametrize("design", [TeamDraft(), Balanced(), Probabilistic()], ids=repr)
def test_lists_that_are_drawn_are_as_far_off_as_they_say(design, users):
    # More queries than lists, so that they are drawn for team draft, too.
    queries = [Query(query.rankings, dict(query.grades)) for query in QUERIES for _ in range(100)]
    exact = simulate_interleaving(queries, TeamDraft(), users, k=4)
    found = [simulate_interleaving(queries, design, users, impressions=150, k=4, seed=seed) for seed in range(120)]
    for of in ("credit", "preference"):
        of_seed = [getattr(each, of) for each in found]
        spread = statistics.stdev(each.z for each in of_seed)
        said = statistics.fmean(each.z_error for each in of_seed)
        # The standard error of a deviation of 120 is 6.5 %.
        assert said == pytest.approx(spread, rel=0.3)
        if isinstance(design, TeamDraft):
            assert statistics.fmean(each.z for each in of_seed) == pytest.approx(getattr(exact, of).z, abs=4 * said / 120**0.5)


def test_it_is_the_same_for_the_same_seed_and_says_how_far_it_is():
    said = []
    options = {"impressions": 300, "seed": 4, "progress": lambda done, of: said.append((done, of))}
    first, second = (simulate_interleaving(QUERIES, Balanced(), MODELS["perfect"], **options) for _ in range(2))
    assert first == second
    assert [(100, 300), (200, 300), (300, 300)] * 2 == said
    # Fifty times the four lists of one query and the two of the other: there are no more than that, and none is drawn.
    said.clear()
    simulate_interleaving(QUERIES * 50, TeamDraft(), MODELS["perfect"], **options)
    assert [(100, 300), (200, 300), (300, 300)] == said


def test_identical_rankers_need_no_number_of_lists():
    same = [Query({"A": [1, 2], "B": [1, 2]}, {1: 4})]
    found = simulate_interleaving(same, TeamDraft(), MODELS["perfect"], impressions=100)
    assert (0.0, None, None) == (found.credit.z, found.credit.needed(), found.preference.needed())
    assert simulate_ab(same, MODELS["perfect"])["clicks"].needed() is None


def test_one_list_is_enough_where_all_lists_say_the_same():
    wins = [Query({"A": [1, 2], "B": [3, 4]}, {3: 4, 4: 4})]
    for design in (TeamDraft(), Balanced()):
        found = simulate_interleaving(wins, design, MODELS["perfect"], k=2, impressions=100).preference
        assert (1.0, math.inf, 1) == (found.mean, found.z, found.needed())


def test_lists_drawn_that_all_say_nothing_are_not_certain_that_others_would_not():
    found = simulate_interleaving([Query({"A": [1], "B": [2]}, {})], Balanced(), MODELS["perfect"], impressions=100).credit
    assert (0.0, 0.1) == (found.z, found.z_error)


def test_a_draft_of_ones_own_is_asked_for_its_lists():
    class Swapped(TeamDraft):
        def merge(self, rankings, **options):
            return super().merge(dict(zip(rankings, reversed(rankings.values()), strict=True)), **options)

    query = [Query({"A": [1, 2], "B": [3, 4]}, {3: 4})]
    own, swapped = (
        simulate_interleaving(query, design, MODELS["perfect"], k=2, impressions=200) for design in (TeamDraft(), Swapped())
    )
    assert own.credit.mean == 1.0
    assert swapped.credit.mean == -1.0


@pytest.mark.parametrize("queries", [[], [Query({"A": [1]}, {})], [*QUERIES, Query({"A": [1], "C": [2]}, {})]])
def test_what_cannot_be_compared_is_refused(queries):
    with pytest.raises(ConfigurationError, match="same two rankers"):
        simulate_interleaving(queries, TeamDraft(), MODELS["perfect"])


@pytest.mark.parametrize("numbers", [(), (0.5, 1.5), (-0.1,), (math.nan,)])
def test_what_is_no_probability_is_refused(numbers):
    with pytest.raises(ConfigurationError, match="not probabilities"):
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
