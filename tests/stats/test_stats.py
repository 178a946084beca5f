"""The statistics of reports, held against SciPy and against simulation."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rollout_sdk.stats import ratio_of_sums, student_t_quantile


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


def test_the_ratio_interval_equals_the_published_delta_method_formula():
    pairs = [(3, 10), (1, 2), (0, 1), (7, 20), (2, 4), (0, 3), (1, 1)]
    n = len(pairs)
    xs, ds = zip(*pairs, strict=True)
    ratio, mean_d = sum(xs) / sum(ds), sum(ds) / n
    cov = lambda a, b: sum((p - sum(a) / n) * (q - sum(b) / n) for p, q in zip(a, b, strict=True)) / (n - 1)
    variance = (cov(xs, xs) - 2 * ratio * cov(xs, ds) + ratio**2 * cov(ds, ds)) / (n * mean_d**2)
    half = stats.t.ppf(0.975, n - 1) * math.sqrt(variance)
    estimate = ratio_of_sums(pairs)
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((ratio, ratio - half, ratio + half))


@pytest.mark.parametrize(
    ("clusters", "expected"),
    [
        ([], (None, None, None, 0)),
        ([(0, 0)], (None, None, None, 1)),
        ([(3, 4)], (0.75, None, None, 1)),
        ([(0, 4), (0, 7)], (0.0, None, None, 2)),
    ],
)
def test_what_cannot_be_told_is_none_and_never_nan(clusters, expected):
    estimate = ratio_of_sums(clusters)
    assert expected == (estimate.mean, estimate.low, estimate.high, estimate.units)


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
