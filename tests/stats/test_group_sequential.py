"""Boundaries of planned looks, held against published values, the multivariate normal of SciPy and simulation."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rollout_sdk.stats import spending_boundaries

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]
INCREMENTS = st.lists(st.floats(0.02, 0.6), min_size=1, max_size=6)


def test_five_equal_steps_have_the_published_boundaries():
    published = [4.877, 3.357, 2.680, 2.290, 2.031]
    assert published == pytest.approx(spending_boundaries(FIVE, alpha=0.025), abs=6e-4)
    assert published == pytest.approx(spending_boundaries(FIVE, alpha=0.05, one_sided=False), abs=6e-4)


def test_two_equal_steps_have_the_published_boundaries():
    assert [2.963, 1.969] == pytest.approx(spending_boundaries([0.5, 1.0], alpha=0.025), abs=6e-4)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_a_single_look_at_the_end_is_the_fixed_test(alpha):
    assert [stats.norm.isf(alpha)] == pytest.approx(spending_boundaries([1.0], alpha=alpha))
    assert [stats.norm.isf(alpha / 2)] == pytest.approx(spending_boundaries([1.0], alpha=alpha, one_sided=False))


def _spent(t, alpha):
    return min(alpha, 2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(t))) if t < 1 else alpha


@pytest.mark.parametrize("fractions", [[0.3, 0.7, 1.0], [0.5, 0.55, 0.9], [0.1, 0.9, 1.0]])
@pytest.mark.parametrize("one_sided", [True, False])
def test_the_paths_that_never_cross_are_as_many_as_the_multivariate_normal_distribution_says(fractions, one_sided):
    boundaries = np.array(spending_boundaries(fractions, alpha=0.05, one_sided=one_sided))
    correlation = np.array([[math.sqrt(min(s, t) / max(s, t)) for s in fractions] for t in fractions])
    lower = np.full(3, -40.0) if one_sided else -boundaries
    kept = stats.multivariate_normal.cdf(boundaries, np.zeros(3), correlation, abseps=1e-7, releps=1e-7, lower_limit=lower)
    ends = 1 if one_sided else 2
    assert 1 - kept == pytest.approx(ends * _spent(fractions[-1], 0.05 / ends), abs=2e-5)


@pytest.mark.parametrize("one_sided", [True, False])
def test_simulated_paths_cross_as_often_as_is_spent_at_each_look(one_sided):
    fractions, rounds = [0.15, 0.3, 0.31, 0.6, 0.85, 1.0], 400_000
    boundaries = np.array(spending_boundaries(fractions, alpha=0.1, one_sided=one_sided))
    steps = np.sqrt(np.diff([0.0, *fractions]))
    z = np.random.default_rng(1).normal(size=(rounds, 6)) * steps
    z = z.cumsum(axis=1) / np.sqrt(fractions)
    crossed = np.maximum.accumulate((z if one_sided else abs(z)) >= boundaries, axis=1).mean(axis=0)
    ends = 1 if one_sided else 2
    for t, found in zip(fractions, crossed, strict=True):
        expected = ends * _spent(t, 0.1 / ends)
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / rounds) + 1e-9)


@pytest.mark.parametrize("one_sided", [True, False])
def test_looks_timed_by_users_of_a_ramp_cross_as_often_as_is_spent(one_sided):
    """A ramp 1, 5, 25, 50 %: a fifth of the users has a hundredth of the information."""
    fractions, rounds = [0.2, 0.4, 0.6, 0.8, 1.0], 400_000
    information = np.cumsum([share * (1 - share) for share in (0.01, 0.05, 0.25, 0.5, 0.5)])
    boundaries = np.array(spending_boundaries(fractions, alpha=0.1, one_sided=one_sided, information=information))
    z = np.random.default_rng(3).normal(size=(rounds, 5)) * np.sqrt(np.diff([0.0, *information]))
    z = z.cumsum(axis=1) / np.sqrt(information)
    crossed = np.maximum.accumulate((z if one_sided else abs(z)) >= boundaries, axis=1).mean(axis=0)
    ends = 1 if one_sided else 2
    for t, found in zip(fractions, crossed, strict=True):
        expected = ends * _spent(t, 0.1 / ends)
        assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / rounds) + 1e-9)
    # Taken for information, users would relate the looks too closely, and too much would be spent.
    taken = np.array(spending_boundaries(fractions, alpha=0.1, one_sided=one_sided))
    assert ((z if one_sided else abs(z)) >= taken).any(axis=1).mean() > 0.11


def test_only_the_ratios_of_the_information_count():
    assert spending_boundaries(FIVE) == pytest.approx(spending_boundaries(FIVE, information=[7 * t for t in FIVE]), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(INCREMENTS, st.floats(1e-4, 0.4), st.booleans())
def test_a_look_that_is_added_leaves_the_boundaries_before_it_as_they_are(increments, alpha, one_sided):
    fractions = [float(t) for t in np.cumsum(increments)]
    whole = spending_boundaries(fractions, alpha=alpha, one_sided=one_sided)
    assert whole[:-1] == spending_boundaries(fractions[:-1], alpha=alpha, one_sided=one_sided)
    assert not any(math.isnan(each) for each in whole)


def test_what_is_spent_early_is_next_to_nothing_and_after_the_end_there_is_nothing_left():
    boundaries = spending_boundaries([0.001, 0.05, 0.5, 1.0, 1.2], alpha=0.05)
    assert boundaries[0] > 30
    assert boundaries[1] > 8
    assert boundaries[4] == math.inf
    assert boundaries[:4] == sorted(boundaries[:4], reverse=True)


def test_a_look_that_brings_no_news_spends_nothing():
    twice = spending_boundaries([0.5, 0.5001, 1.0], alpha=0.05)
    assert twice[1] == math.inf
    assert [twice[0], twice[2]] == spending_boundaries([0.5, 1.0], alpha=0.05)


def test_many_looks_are_integrated_in_a_fraction_of_a_second():
    started = time.process_time()
    boundaries = spending_boundaries([k / 20 for k in range(1, 21)], alpha=0.05)
    assert time.process_time() - started < 2
    z = np.random.default_rng(2).normal(size=(200_000, 20)).cumsum(axis=1) / np.sqrt(np.arange(1, 21))
    assert (z >= boundaries).any(axis=1).mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 200_000))


def test_no_looks_have_no_boundaries():
    assert spending_boundaries([]) == []


@pytest.mark.parametrize("fractions", [[0.0], [-1.0], [0.5, 0.5], [0.6, 0.5], [math.nan], [0.5, math.inf]])
def test_information_that_does_not_grow_is_refused(fractions):
    with pytest.raises(ValueError, match="one for each look"):
        spending_boundaries([0.5, 1.0], information=[1.0])
    with pytest.raises(ValueError, match="information="):
        spending_boundaries([0.5, 1.0][: len(fractions)], information=fractions)
    with pytest.raises(ValueError, match="information grows"):
        spending_boundaries(fractions)
    with pytest.raises(ValueError, match="alpha"):
        spending_boundaries([1.0], alpha=1.0)
