"""Intervals of quantiles: those of an independent formula, right at every look, and wide enough for calls of one unit."""

import math

import numpy
import pytest
from scipy.special import betaln

from rollout_sdk.stats import plan_rho
from rollout_sdk.stats.quantiles import design_effect, quantile_interval

LOOKS = numpy.unique(numpy.geomspace(300, 12_000, 12).astype(int))


def independent(count, q, alpha, effect=1.0, t_opt=1_000.0):
    """The counts that are not refuted, one by one, by SciPy."""
    c, below = plan_rho(t_opt, alpha=alpha), numpy.arange(count + 1)
    k, rest = below / effect, (count - below) / effect
    log_e = betaln(c * q + k, c * (1 - q) + rest) - betaln(c * q, c * (1 - q)) - k * math.log(q) - rest * math.log(1 - q)
    kept = below[log_e < -math.log(alpha)]
    return kept[0], kept[-1]


@pytest.mark.parametrize("count", [10, 200, 1_000, 30_000])
@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("effect", [1.0, 7.3])
def test_the_ends_are_the_values_whose_counts_are_not_refuted(count, q, effect):
    first, last = independent(count, q, 0.05, effect)
    expected = (first - 1 if first else -math.inf, last if last < count else math.inf)
    assert expected == quantile_interval(range(count), q, effect=effect)


def test_without_values_nothing_is_known_and_equal_values_are_their_quantile():
    assert (-math.inf, math.inf) == quantile_interval([], 0.5)
    assert (3.0, 3.0) == quantile_interval([3.0] * 1_000, 0.5)


def test_the_first_finite_upper_end_of_a_far_quantile_takes_many_values():
    firsts = [
        next(n for n in range(1, 20_000, 10) if math.isfinite(quantile_interval(range(n), q, alpha=0.025)[1]))
        for q in (0.5, 0.9, 0.95, 0.99)
    ]
    assert sorted(firsts) == firsts
    # (1 - e)^n below 1/40 takes 73 and 367 values at one look.
    assert (73, 367) < (firsts[2], firsts[3]) < (800, 2_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"q": 1.0}, "q=1"), ({"alpha": 0.0}, "alpha=0"), ({"effect": 0.5}, "effect=0.5"), ({"t_opt": 0}, "t_opt=0")],
)
def test_what_is_no_probability_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        quantile_interval([1.0], **{"q": 0.5, **arguments})


def test_the_design_effect_is_that_of_the_cluster_size_for_calls_that_are_all_alike():
    rng = numpy.random.default_rng(3)
    alike = [(size * (rng.random() < 0.9), size) for size in [8] * 5_000]
    assert design_effect(alike, 0.9) == pytest.approx(8, rel=0.1)
    apart = [(rng.binomial(8, 0.9), 8) for _ in range(5_000)]
    assert design_effect(apart, 0.9) == pytest.approx(1, rel=0.1)
    assert 1.0 == design_effect([], 0.9)


def misses(runs, q, *, clustered, corrected, seed=1):
    """In how many of so many A/A tests some look excludes the difference 0."""
    rng, wrong = numpy.random.default_rng(seed), 0
    for _ in range(runs):
        arms = []
        for _ in range(2):
            units = rng.integers(0, 300, LOOKS[-1]) if clustered else numpy.arange(LOOKS[-1])
            own = rng.normal(0, 1, units.max() + 1)
            arms.append((units, numpy.exp(own[units] * clustered + rng.normal(0, 0.5, LOOKS[-1]))))
        wrong += any(excludes_zero(arms, int(look), q, corrected=corrected) for look in LOOKS)
    return wrong / runs


def excludes_zero(arms, look, q, *, corrected):
    ends = []
    for units, values in arms:
        seen, buckets = values[:look], units[:look] % 512
        estimate = numpy.quantile(seen, q)
        below = numpy.bincount(buckets, seen <= estimate, minlength=512)
        effect = design_effect(zip(below, numpy.bincount(buckets, minlength=512), strict=True), q) if corrected else 1.0
        ends.append(quantile_interval(numpy.sort(seen), q, alpha=0.025, effect=effect))
    return ends[1][0] > ends[0][1] or ends[1][1] < ends[0][0]


def test_few_of_the_tests_of_clustered_calls_are_wrong_and_many_without_the_correction():
    assert misses(8, 0.95, clustered=True, corrected=True) <= 1 / 8
    assert misses(8, 0.95, clustered=True, corrected=False) > 1 / 8


@pytest.mark.slow
@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("clustered", [False, True])
def test_no_more_tests_are_wrong_at_some_look_than_was_allowed(q, clustered):
    assert misses(400, q, clustered=clustered, corrected=True) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
