"""How uneven and how skewed units are, estimated from sums by bucket and compared with the units themselves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.stats import StratifiedBuckets

BUCKETS = 512


def _of_units(rng, weights, values=None, phases=1):
    """Sums of units with these weights (and values), each in a bucket of its own choice, spread over phases."""
    sums, bucket = StratifiedBuckets(BUCKETS), rng.integers(0, BUCKETS, len(weights))
    values = np.zeros(len(weights)) if values is None else values
    for phase in range(phases):
        x, d = (np.bincount(bucket, each / phases, BUCKETS) for each in (values, weights))
        sums.add_sums(f"{phase}", "a", x, d)
    return sums


@pytest.mark.parametrize("phases", [1, 3])
@pytest.mark.parametrize("units", [5, 30, 200])
def test_few_even_units_are_counted_about_right(units, phases):
    rng = np.random.default_rng(1)
    found = [1 / _of_units(rng, np.ones(units), phases=phases).concentration("a").effective_units for _ in range(60)]
    assert 1 / np.mean(found) == pytest.approx(units, rel=0.1)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.9])
def test_a_bot_is_found_with_its_share_of_the_calls(share):
    rng = np.random.default_rng(2)
    weights = np.ones(20_001)
    weights[0] = share / (1 - share) * 20_000
    found = _of_units(rng, weights).concentration("a")
    exact = weights.sum() ** 2 / (weights**2).sum()
    assert found.effective_units == pytest.approx(exact, rel=0.1)
    assert found.heaviest == pytest.approx(share, abs=0.005)


def test_users_whose_activity_follows_a_power_law_are_fewer_than_they_seem():
    rng = np.random.default_rng(3)
    weights = 1 / np.arange(1, 10_001)
    exact = weights.sum() ** 2 / (weights**2).sum()
    found = [1 / _of_units(rng, weights).concentration("a").effective_units for _ in range(20)]
    assert 1 / np.mean(found) == pytest.approx(exact, rel=0.05)
    assert exact < 100


def test_buckets_that_are_even_hang_on_no_unit():
    even = StratifiedBuckets(BUCKETS)
    even.add_sums("p", "a", [0.0] * BUCKETS, [3.0] * BUCKETS)
    assert (math.inf, 0.0) == (even.concentration("a").effective_units, even.concentration("a").heaviest)
    empty = StratifiedBuckets(BUCKETS).concentration("a")
    assert (0.0, 0.0) == (empty.effective_units, empty.heaviest)


def test_all_the_weight_in_one_bucket_is_one_unit():
    for buckets in (1, BUCKETS):
        sums = StratifiedBuckets(buckets)
        sums.add("p", "a", 0, 1.0, 12.0)
        sums.add("p", "b", 0, 1.0, 12.0)
        found = sums.concentration("a")
        assert (pytest.approx(1.0), pytest.approx(1.0)) == (found.effective_units, found.heaviest)


@given(st.lists(st.floats(0, 1e40), min_size=1, max_size=40))
def test_effective_units_are_at_least_one_and_the_heaviest_is_a_share(weights):
    sums = StratifiedBuckets(len(weights))
    sums.add_sums("p", "a", [0.0] * len(weights), [w if w > 1e-40 else 0.0 for w in weights])
    found = sums.concentration("a")
    assert found.effective_units == 0 or found.effective_units >= 1 - 1e-9
    assert 0 <= found.heaviest <= 1


def test_buckets_with_a_value_count_once_however_many_values_and_phases():
    sums = StratifiedBuckets(8)
    for phase, bucket, value in (("p", 0, 1.0), ("p", 0, 5.0), ("q", 0, 2.0), ("q", 3, -1.0), ("p", 4, 0.0)):
        sums.add(phase, "a", bucket, value)
    sums.add("p", "b", 7, 1.0)
    assert (2, 1, 0) == (sums.nonzero("a"), sums.nonzero("b"), sums.nonzero("c"))


@pytest.mark.parametrize(
    ("draw", "squared", "units"),
    [
        (lambda rng, n: rng.exponential(1, n), 4.0, (300, 2000, 4000)),
        (lambda rng, n: (rng.random(n) < 0.005) * 1.0, 0.99**2 / (0.005 * 0.995), (6000, 20_000)),
        (lambda rng, n: (rng.random(n) < 0.02) * 1.0, 0.96**2 / (0.02 * 0.98), (1500, 5000)),
        (lambda rng, n: rng.lognormal(0, 0.75, n), ((math.e**0.5625 + 2) ** 2) * (math.e**0.5625 - 1), (300, 2000)),
    ],
)
def test_the_skewness_of_a_unit_is_seldom_overstated_and_found_where_it_is_large(draw, squared, units):
    rng = np.random.default_rng(4)
    for n in units:
        found = [_of_units(rng, np.ones(n), draw(rng, n)).skewness_squared("a", units=n) for _ in range(40)]
        assert np.mean(np.array(found) > 1.25 * squared) <= 0.15
        if squared / (n / BUCKETS) > 2:
            assert np.median(found) > 0.1 * squared


@pytest.mark.parametrize("units", [100, 1000, 20_000])
def test_units_that_are_not_skewed_seldom_seem_so(units):
    rng = np.random.default_rng(5)
    found = [_of_units(rng, np.ones(units), rng.normal(9, 1, units)).skewness_squared("a", units=units) for _ in range(100)]
    assert np.median(found) == 0
    assert np.mean(355 * np.array(found) > 100) <= 0.02


def test_wild_tails_ask_for_many_units():
    rng = np.random.default_rng(6)
    found = [_of_units(rng, np.ones(5000), rng.lognormal(0, 1.5, 5000)).skewness_squared("a", units=5000) for _ in range(20)]
    assert 355 * np.median(found) > 5000


@pytest.mark.parametrize("value", [0.0, 0.1, 1e40])
def test_constant_values_have_no_skewness(value):
    sums = StratifiedBuckets(8)
    sums.add_sums("p", "a", [value * (b + 1) for b in range(8)], [b + 1.0 for b in range(8)])
    assert (0.0, 0.0) == (sums.skewness_squared("a", units=36), sums.skewness_squared("none", units=0))


@pytest.mark.parametrize("units", [-1, math.nan, math.inf])
def test_an_impossible_number_of_units_is_refused(units):
    with pytest.raises(ValueError, match="skewness_squared"):
        StratifiedBuckets(8).skewness_squared("a", units=units)
