"""Bets on clusters of events: exact for single ones, and not fooled by units whose failures belong together."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.stats import cluster_bets_log_e, mix_log_e

ALTERNATIVES = [*np.geomspace(1.1, 10, 24), *np.geomspace(10, 100, 7)[1:]]
WEIGHTS = [0.95 / 24] * 24 + [0.05 / 6] * 6

# Drawn calls stand for many, so counts are floats; an eighth of the smallest ones of all would be none.
EVENTS = st.one_of(st.integers(0, 50), st.floats(1e-300, 1e30))
PHASE = st.tuples(EVENTS, EVENTS, st.floats(0, 1))
CLUSTERS = st.lists(st.lists(PHASE, max_size=4), max_size=12)


def _q(share, ratio):
    return share * ratio / (share * ratio + 1 - share)


def _single_events(strata, ratio, alternatives):
    """The mixture of binomial likelihood ratios, as `rare_event_log_e` has it, with the weights of the clusters' bets."""
    log_es = [
        sum(
            a * math.log(_q(s, ratio * k) / _q(s, ratio)) + b * math.log((1 - _q(s, ratio * k)) / (1 - _q(s, ratio)))
            for a, b, s in strata
        )
        for k in alternatives
    ]
    return mix_log_e(log_es, WEIGHTS)


@pytest.mark.parametrize(("direction", "ratio"), [("above", 1.0), ("above", 1.25), ("below", 1.0), ("below", 0.5)])
def test_with_one_event_in_each_cluster_the_bet_is_that_of_rare_events(direction, ratio):
    strata = [(4, 1, 0.01), (9, 30, 0.2), (3, 3, 0.5)]
    singles = [[(1, 0, s)] for a, _, s in strata for _ in range(a)] + [[(0, 1, s)] for _, b, s in strata for _ in range(b)]
    alternatives = ALTERNATIVES if direction == "above" else [1 / k for k in ALTERNATIVES]
    expected = _single_events(strata, ratio, alternatives)
    assert expected == pytest.approx(cluster_bets_log_e(singles, ratio=ratio, direction=direction), abs=1e-9)


def _factor(cluster, ratio, k):
    whole = sum(a + b for a, b, _ in cluster)
    factor = 0.0
    for a, b, s in cluster:
        q0, q = _q(s, ratio), _q(s, ratio * k)
        x = a / (a + b)
        factor += (a + b) / whole * (x * q / q0 + (1 - x) * (1 - q) / (1 - q0))
    return factor


def test_a_cluster_of_many_events_in_many_phases_is_one_bet_linear_in_their_parts():
    clusters = [[(3, 1, 0.1), (2, 5, 0.5)], [(0, 7, 0.1)], [(1, 1, 0.5), (4, 0, 0.25), (0, 2, 0.1)]]
    log_es = [math.log(math.prod(_factor(each, 1.25, k) for each in clusters)) for k in ALTERNATIVES]
    expected = mix_log_e(log_es, WEIGHTS)
    assert expected == pytest.approx(cluster_bets_log_e(clusters, ratio=1.25, direction="above"), abs=1e-9)


def _expected_factor(rng, ratio, k):
    """The mean, over the assignment of one unit that a ramp moves into the candidate, of its bet; the truth is `ratio`."""
    shares = np.sort(rng.uniform(0.01, 0.99, rng.integers(1, 6)))
    failures = rng.exponential(1, len(shares))
    total, edges = 0.0, [0.0, *shares, 1.0]
    for low, high in itertools.pairwise(edges):
        moved = (low + high) / 2 < shares
        cluster = [(ratio * c, 0, s) if m else (0, c, s) for c, m, s in zip(failures, moved, shares, strict=True)]
        total += (high - low) * _factor(cluster, ratio, k)
    return total


@pytest.mark.parametrize(("ratio", "sign"), [(1.0, 1), (1.25, 1), (2.0, 1), (1.0, -1), (0.5, -1)])
def test_a_unit_that_fails_in_many_phases_wins_no_bet_on_average_under_the_null_hypothesis(ratio, sign):
    rng = np.random.default_rng(0)
    assert max(_expected_factor(rng, ratio, rng.choice([1.1, 3.0, 30.0]) ** sign) for _ in range(1500)) <= 1 + 1e-9


def test_below_a_ratio_above_one_is_refused_because_a_unit_of_many_failures_would_win_on_average():
    rng = np.random.default_rng(1)
    assert max(_expected_factor(rng, 2.0, 1 / 3) for _ in range(300)) > 1.05
    for ratio, direction in ((2.0, "below"), (0.5, "above"), (math.nan, "above"), (math.inf, "above"), (0.0, "below")):
        with pytest.raises(ValueError, match="Count each unit once"):
            cluster_bets_log_e([], ratio=ratio, direction=direction)


def _log_e(counts, shares, direction):
    """`cluster_bets_log_e` against a ratio of 1 with NumPy: counts of shape (cluster, phase, candidate and control)."""
    totals = counts.sum(axis=2)
    counts = counts[totals.sum(axis=1) > 0]
    part = (counts[:, :, 0] * (1 - shares) - counts[:, :, 1] * shares) / counts.sum(axis=(1, 2))[:, None]
    k = np.array(ALTERNATIVES)[:, None] ** (1 if direction == "above" else -1)
    log_es = np.log1p(part @ ((k - 1) / (shares * k + 1 - shares)).T).sum(axis=0)
    return np.logaddexp.reduce(log_es + np.log(WEIGHTS))


@pytest.mark.parametrize("direction", ["above", "below"])
def test_the_vectorised_form_that_the_simulations_use_is_the_real_one(direction):
    rng, shares = np.random.default_rng(6), np.array([0.01, 0.2, 0.5])
    counts = rng.poisson(0.7, (64, 3, 2))
    clusters = [[(a, b, s) for (a, b), s in zip(each, shares, strict=True)] for each in counts]
    found = cluster_bets_log_e(clusters, direction=direction)
    assert _log_e(counts, shares, direction) == pytest.approx(found, abs=1e-9)


def _ever(rng, *, shares, looks, users, failures, buckets=512):
    """Whether an A/A ramp ever finds the candidate surely worse, and surely better: units keep their bucket and move once."""
    bucket, point = rng.integers(0, buckets, users), rng.random(users)
    counts, ever = np.zeros((buckets, len(shares), 2)), [False, False]
    for h, share in enumerate(shares):
        for _ in range(looks):
            np.add.at(counts, (bucket, h, np.where(point < share, 0, 1)), rng.poisson(failures, users))
            for i, direction in enumerate(("above", "below")):
                ever[i] = ever[i] or _log_e(counts[:, : h + 1], shares[: h + 1], direction) >= math.log(20)
    return ever


@pytest.mark.parametrize("steps", [4, 10, 21])
def test_twenty_users_who_always_fail_do_not_make_a_ramp_of_any_length_surely_worse_or_better(steps):
    rounds, rng, shares = 60, np.random.default_rng(2), np.geomspace(0.01, 0.5, steps)
    ever = np.mean([_ever(rng, shares=shares, looks=42 // steps, users=20, failures=5) for _ in range(rounds)], axis=0)
    assert ever.max() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


@pytest.mark.slow
@pytest.mark.parametrize(("users", "failures"), [(20, 5), (200, 2), (3000, 0.02)])
@pytest.mark.parametrize("steps", [4, 10, 21])
def test_three_hundred_ramps_keep_the_error_probability(steps, users, failures):
    rounds, rng, shares = 300, np.random.default_rng(3), np.geomspace(0.01, 0.5, steps)
    looks = 40 // steps
    ever = np.mean([_ever(rng, shares=shares, looks=looks, users=users, failures=failures) for _ in range(rounds)], axis=0)
    assert ever.max() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def test_a_candidate_that_fails_three_times_as_often_is_found():
    rng = np.random.default_rng(4)
    clusters = [[(int(a), int(b), 0.1)] for a, b in zip(rng.poisson(0.06, 512), rng.poisson(0.18, 512), strict=True)]
    assert cluster_bets_log_e(clusters, direction="above") > math.log(20)
    swapped = [[(b, a, 1 - s) for a, b, s in each] for each in clusters]
    assert cluster_bets_log_e(swapped, direction="below") > math.log(20)


@given(CLUSTERS, st.sampled_from(["above", "below"]))
def test_the_evidence_of_clusters_is_a_number_and_does_not_depend_on_any_order(clusters, direction):
    found = cluster_bets_log_e(clusters, direction=direction)
    assert math.isfinite(found)
    turned = [each[::-1] for each in clusters[::-1]]
    assert found == pytest.approx(cluster_bets_log_e(turned, direction=direction), rel=1e-9, abs=1e-9)


@given(CLUSTERS)
def test_calling_the_control_candidate_turns_above_into_below(clusters):
    # Shares whose complement is a float as well.
    exact = [[(a, b, round(s * 1024) / 1024) for a, b, s in each] for each in clusters]
    swapped = [[(b, a, 1 - s) for a, b, s in each] for each in exact]
    found = cluster_bets_log_e(exact, direction="above")
    assert found == pytest.approx(cluster_bets_log_e(swapped, direction="below"), rel=1e-7, abs=1e-7)


@given(CLUSTERS, st.sampled_from([0.125, 64.0]))
def test_how_many_events_a_cluster_has_does_not_matter(clusters, times):
    more = [[(a * times, b * times, s) for a, b, s in each] for each in clusters]
    found = cluster_bets_log_e(clusters, direction="above")
    assert found == pytest.approx(cluster_bets_log_e(more, direction="above"), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("nothing", [[], [[]], [[(0, 0, 0.5)]], [[(5, 3, 0.0)]], [[(5, 3, 1.0), (0, 0, 0.2)]]])
def test_clusters_without_events_to_compare_contribute_nothing(nothing):
    assert cluster_bets_log_e(nothing, direction="above") == 0.0
    some = [[(5, 1, 0.5)]]
    assert cluster_bets_log_e(some, direction="above") == cluster_bets_log_e(some + nothing, direction="above")


@pytest.mark.parametrize(
    ("cluster", "word"),
    [([(-1, 0, 0.5)], "count"), ([(math.nan, 0, 0.5)], "count"), ([(1, math.inf, 0.5)], "count"), ([(1, 1, 1.5)], "share")],
)
def test_impossible_clusters_are_refused(cluster, word):
    with pytest.raises(ValueError, match=word):
        cluster_bets_log_e([cluster], direction="above")
    with pytest.raises(ValueError, match="sideways"):
        cluster_bets_log_e([], direction="sideways")


def test_five_hundred_buckets_in_four_phases_take_some_milliseconds():
    rng = np.random.default_rng(5)
    counts = rng.poisson(2, (512, 4, 2)).tolist()
    clusters = [[(a, b, s) for (a, b), s in zip(each, (0.01, 0.05, 0.25, 0.5), strict=True)] for each in counts]
    times = []
    for _ in range(5):
        started = time.process_time()
        cluster_bets_log_e(clusters, direction="above")
        times.append(time.process_time() - started)
    assert min(times) < 0.025


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=5))
def test_the_mean_of_e_values_lies_between_them_and_is_that_of_their_logarithms(log_es):
    found = mix_log_e(log_es)
    assert min(log_es) - 1e-9 <= found <= max(log_es) + 1e-9
    assert found == pytest.approx(np.logaddexp.reduce(log_es) - math.log(len(log_es)), abs=1e-9)


def test_an_e_value_of_nothing_and_one_without_end_can_be_mixed():
    assert mix_log_e([-math.inf, 0.0], [0.25, 0.75]) == pytest.approx(math.log(0.75))
    assert mix_log_e([-math.inf, -math.inf]) == -math.inf
    assert mix_log_e([math.inf, 0.0], [0.0, 1.0]) == 0.0
    assert mix_log_e([math.inf, 0.0], [0.5, 0.5]) == math.inf


@pytest.mark.parametrize(
    ("log_es", "weights", "word"),
    [
        ([], None, "0 e-values"),
        ([1.0], [0.5, 0.5], "1 e-values and 2 weights"),
        ([math.nan], None, "NaN"),
        ([1.0, 2.0], [0.5, 0.6], "weights"),
        ([1.0, 2.0], [-0.5, 1.5], "weights"),
        ([1.0], [math.nan], "weights"),
    ],
)
def test_what_is_not_a_mixture_is_refused(log_es, weights, word):
    with pytest.raises(ValueError, match=word):
        mix_log_e(log_es, weights)
