"""The statistics of reports, held against SciPy and against simulation."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rollout_sdk.stats import effective_units, ratio_of_sums, student_t_quantile


@pytest.mark.parametrize("df", [0.5, 1, 1.5, 2, 3, 7, 29.5, 100, 511, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("p", [1e-6, 0.001, 0.025, 0.3, 0.5, 0.9, 0.975, 0.9999])
def test_t_quantiles_equal_scipys(p, df):
    assert stats.t.ppf(p, df) == pytest.approx(student_t_quantile(p, df), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("p", "df"), [(0, 3), (1, 3), (0.5, 0), (math.nan, 3), (0.5, -1)])
def test_a_quantile_outside_its_domain_is_refused(p, df):
    with pytest.raises(ValueError, match="student_t_quantile"):
        student_t_quantile(p, df)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30).filter(lambda xs: max(xs) - min(xs) > 1e-3))
def test_with_one_call_for_each_unit_the_interval_is_the_t_interval(values):
    estimate = ratio_of_sums([(value, 1) for value in values])
    low, high = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=1e-9, abs=1e-7)


def _by_matrices(pairs, confidence=0.95):
    """The same interval the long way: every unit is left out in turn, and Satterthwaite's rule takes whole matrices."""
    x, d = (np.array(each, dtype=float) for each in zip(*pairs, strict=True))
    n, whole = len(x), d.sum()
    ratio = x.sum() / whole
    left_out = np.array([(x.sum() - x[u]) / (whole - d[u]) for u in range(n)])
    variance = (n - 1) / n * ((left_out - ratio) ** 2).sum()
    y = (x - ratio * d) ** 2 / d
    slope = max(0.0, np.polyfit(d, y, 1)[0]) if np.ptp(d) else 0.0
    model = np.diag(max(0.0, y.mean() - slope * d.mean()) * d + slope * d**2)
    residuals = np.eye(n) - np.outer(d, np.ones(n)) / whole
    form = residuals.T @ np.diag(1 / (whole - d) ** 2) @ residuals @ model
    df = np.trace(form) ** 2 / np.trace(form @ form)
    half = stats.t.ppf((1 + confidence) / 2, max(df, 1.0)) * math.sqrt(variance)
    return ratio, ratio - half, ratio + half


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n", [30, 80, 150])
def test_the_ratio_interval_is_the_jackknife_with_the_degrees_of_freedom_of_matrices(n, seed):
    rng = np.random.default_rng(seed)
    d = np.minimum(12, rng.zipf(1.8, n))
    rates = np.full(n, 0.3) if seed % 2 else rng.beta(1, 2, n)
    pairs = [(int(clicks), int(calls)) for clicks, calls in zip(rng.binomial(d, rates), d, strict=True)]
    estimate = ratio_of_sums(pairs)
    assert _by_matrices(pairs) == pytest.approx((estimate.mean, estimate.low, estimate.high), rel=1e-9)


@pytest.mark.parametrize(
    ("clusters", "expected"),
    [
        ([], (None, None, None, 0)),
        ([(0, 0)], (None, None, None, 1)),
        ([(3, 4)], (0.75, None, None, 1)),
        ([(0, 4), (0, 7)], (0.0, None, None, 2)),
        ([(0.3, 3), (0.07, 0.7)], (0.1, None, None, 2)),
    ],
)
def test_what_cannot_be_told_is_none_and_never_nan(clusters, expected):
    estimate = ratio_of_sums(clusters)
    assert pytest.approx(expected) == (estimate.mean, estimate.low, estimate.high, estimate.units)
    assert estimate.caution is not None


def test_effective_units_are_all_of_them_when_they_are_alike_and_about_one_beside_a_bot():
    assert (40, 1 / 40) == pytest.approx(effective_units([3] * 40))
    assert (4400**2 / (4000**2 + 400), 4000 / 4400) == pytest.approx(effective_units([1] * 400 + [4000]))
    assert (0.0, None) == effective_units([])


@pytest.mark.parametrize(
    ("clusters", "caution"),
    [
        ([(1, 1), (0, 1)] * 50, None),
        ([(1, 1), (0, 1)] * 49 + [(1, 1)], "fewer than 100 effective units"),
        ([(1, 1)] * 30 + [(0, 1)] * 400, None),
        ([(1, 1)] * 29 + [(0, 1)] * 400, "fewer than 30 units with a value other than 0"),
        ([(1, 1), (0, 1)] * 500 + [(50, 111)], "fewer than 100 effective units"),
        ([(1, 1), (0, 1)] * 500 + [(50, 112)], "one unit has 10.1% of the counts"),
    ],
)
def test_an_interval_of_too_few_units_or_of_one_unit_comes_with_a_caution(clusters, caution):
    estimate = ratio_of_sums(clusters)
    assert caution == estimate.caution
    assert estimate.low is not None


def test_a_value_that_nearly_all_have_is_as_rare_as_one_that_few_have():
    pairs = [(0, 1)] * 29 + [(1, 1)] * 400
    assert ratio_of_sums(pairs).caution is None
    assert "fewer than 30 units with a value other than 1" == ratio_of_sums(pairs, within=(0, 1)).caution


def test_one_unit_with_most_counts_leaves_no_interval():
    estimate = ratio_of_sums([(0, 1), (1, 1)] * 200 + [(2000, 2000)])
    assert (None, None, "one unit has 83.3% of the counts") == (estimate.low, estimate.high, estimate.caution)
    # Five units that count for five are few, and their interval says so by its width.
    assert ratio_of_sums([(0, 1), (1, 1), (0, 1), (1, 1), (0, 1)]).low is not None


@pytest.mark.parametrize("value", [0, 1])
def test_none_of_n_and_all_of_n_have_the_interval_of_clopper_and_pearson(value):
    estimate = ratio_of_sums([(value, 1)] * 200, within=(0, 1))
    tested = stats.binomtest(200 * value, 200).proportion_ci(method="exact")
    assert (value, tested.low, tested.high) == pytest.approx((estimate.mean, estimate.low, estimate.high))
    assert estimate.caution is None


def test_an_interval_stays_within_what_a_value_can_be():
    pairs = [(1, 1)] * 2 + [(0, 1)] * 200
    assert ratio_of_sums(pairs).low < 0
    assert 0 == ratio_of_sums(pairs, within=(0, 1)).low


def _zipf(rng, n):
    return 200 // np.arange(1, n + 1) + 1


def _random_zipf(rng, n):
    return np.minimum(1000, rng.zipf(2.2, n))


def _bot(rng, n):
    return np.array([n // 9] + [1] * n)


def _coverage(counts, n, rounds):
    """How often the interval holds the true mean, where the rates of units differ (beta(1, 9)); of the intervals given."""
    rng, held, given_ = np.random.default_rng(1), 0, 0
    for _ in range(rounds):
        d = counts(rng, n)
        x = rng.binomial(d, rng.beta(1, 9, len(d)))
        estimate = ratio_of_sums(zip(x.tolist(), d.tolist(), strict=True))
        if estimate.low is not None:
            given_ += 1
            held += estimate.low <= 0.1 <= estimate.high
    return held / given_


WORLDS = [(_zipf, 30, 0.93), (_zipf, 200, 0.94), (_random_zipf, 200, 0.94), (_bot, 200, 0.93), (_random_zipf, 30, 0.92)]


@pytest.mark.parametrize(("counts", "n", "least"), WORLDS)
def test_intervals_cover_the_truth_where_units_differ_much_in_how_often_they_come(counts, n, least):
    rounds = 300
    assert _coverage(counts, n, rounds) >= least - 3 * math.sqrt(0.05 * 0.95 / rounds)


@pytest.mark.slow
@pytest.mark.parametrize(("counts", "n", "least"), WORLDS)
def test_intervals_cover_the_truth_in_many_more_experiments(counts, n, least):
    rounds = 5000
    assert _coverage(counts, n, rounds) >= least - 3 * math.sqrt(0.05 * 0.95 / rounds)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("clicks", [0.0, 1.0])
def test_intervals_of_two_equal_arms_seldom_exclude_each_other_beside_a_bot(share, clicks):
    rng, apart, rounds = np.random.default_rng(5), 0, 100
    calls = int(1000 * share / (1 - share))
    for _ in range(rounds):
        with_bot, without = ([(float(click), 1.0) for click in rng.random(500) < 0.1] for _ in range(2))
        one, other = ratio_of_sums([*with_bot, (clicks * calls, calls)]), ratio_of_sums(without)
        apart += one.low is not None and (one.high < other.low or other.high < one.low)
    assert apart <= rounds * 0.05


def _covers(rng, *, by_unit):
    """Whether the interval holds the true rate .3, when users differ and some are far more active."""
    pairs = []
    for _ in range(80):
        calls = 1 + min(60, int(rng.paretovariate(1.2)))
        rate = 0.3 if rng.random() < 0.5 else (0.05 if rng.random() < 0.5 else 0.55)
        clicks = [rng.random() < rate for _ in range(calls)]
        pairs.extend([(sum(clicks), calls)] if by_unit else [(click, 1) for click in clicks])
    estimate = ratio_of_sums(pairs)
    return estimate.low <= 0.3 <= estimate.high


def test_intervals_by_unit_cover_the_truth_where_intervals_by_call_do_not():
    rng = random.Random(7)
    rounds = 400
    by_unit = sum(_covers(rng, by_unit=True) for _ in range(rounds)) / rounds
    by_call = sum(_covers(rng, by_unit=False) for _ in range(rounds)) / rounds
    assert by_unit > 0.90
    assert by_call < 0.80
