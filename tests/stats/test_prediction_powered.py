"""Prediction-powered means, against closed forms with numpy that are written independently."""

import math
from array import array

import numpy as np
import pytest

from rollout_sdk.stats import StratifiedBuckets, confidence_sequence, prediction_powered


def world(rng, cases, labelled, *, truth=0.1, bias=0.3, correlation=0.6):
    """Labels, predictions, and which cases are labelled."""
    y = rng.normal(truth, 0.7, cases)
    f = truth + bias + correlation * (y - truth) + math.sqrt(1 - correlation**2) * rng.normal(0, 0.7, cases)
    drawn = np.zeros(cases, bool)
    drawn[rng.choice(cases, labelled, replace=False)] = True
    return y, f, drawn


def sums_of(y, f, drawn, buckets, of_bucket=None):
    sums, of_bucket = StratifiedBuckets(buckets), np.arange(len(y)) if of_bucket is None else of_bucket
    for arm, values, cases in (("all", f, drawn | True), ("drawn", f, drawn), ("people", y, drawn)):
        both = [np.bincount(of_bucket[cases], weights=w[cases], minlength=buckets) for w in (values, np.ones(len(y)))]
        sums.add_sums("0", arm, *(array("d", each) for each in both))
    return sums


def estimated(sums):
    return prediction_powered(sums, labels="people", drawn="drawn", predicted="all")


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_estimate_is_that_of_prediction_powered_inference_with_power_tuning(correlation):
    """The textbook's form has the labelled cases apart: theta = mean y - l (mean f on them - mean f on the others)."""
    n, others = 400, 3600
    y, f, drawn = world(np.random.default_rng(1), n + others, n, correlation=correlation)
    power = np.cov(y[drawn], f[drawn])[0, 1] / ((1 + n / others) * f.var(ddof=1))
    theta = y[drawn].mean() - power * (f[drawn].mean() - f[~drawn].mean())
    error = math.sqrt((y[drawn] - power * f[drawn]).var(ddof=1) / n + power**2 * f[~drawn].var(ddof=1) / others)
    # Each case is a unit of its own here.
    found = estimated(sums_of(y, f, drawn, n + others))
    assert found.estimate == pytest.approx(theta, abs=0.05 * error)
    assert found.std_error == pytest.approx(error, rel=0.01)


def test_the_estimate_is_the_regression_on_influences_exactly():
    n, cases = 200, 1500
    y, f, drawn = world(np.random.default_rng(2), cases, n)
    psi = np.where(drawn, (y - y[drawn].mean()) / n, 0.0)
    chi = np.where(drawn, (f - f[drawn].mean()) / n, 0.0) - (f - f.mean()) / cases
    power = (psi @ chi) / (chi @ chi)
    found = estimated(sums_of(y, f, drawn, cases))
    assert found.estimate == pytest.approx(y[drawn].mean() - power * (f[drawn].mean() - f.mean()), rel=1e-9)
    assert found.std_error == pytest.approx(math.sqrt(((psi - power * chi) ** 2).sum()), rel=0.02)


def test_a_bias_of_the_predictions_changes_nothing():
    y, f, drawn = world(np.random.default_rng(3), 1000, 100)
    one, other = (estimated(sums_of(y, f + bias, drawn, 1000)) for bias in (0.0, 5.0))
    assert one.estimate == pytest.approx(other.estimate, abs=1e-9)
    assert one.std_error == pytest.approx(other.std_error, rel=1e-9)


def test_good_predictions_make_labels_go_further():
    y, f, drawn = world(np.random.default_rng(4), 4000, 200, correlation=0.9)
    alone = y[drawn].std(ddof=1) / math.sqrt(200)
    assert estimated(sums_of(y, f, drawn, 4000)).std_error < 0.6 * alone


def test_labels_that_are_still_to_come_are_missing_from_the_labels_only():
    y, f, drawn = world(np.random.default_rng(5), 2000, 400)
    sums = sums_of(y, f, drawn, 2000)
    late = StratifiedBuckets(2000)
    for arm in ("all", "drawn"):
        late.add_sums("0", arm, *sums.cell("0", arm))
    for i in np.flatnonzero(drawn)[:200]:
        late.add("0", "people", int(i), float(y[i]), 1.0)
    whole, part = estimated(sums), estimated(late)
    assert abs(whole.estimate - part.estimate) < 4 * part.std_error
    assert part.std_error > whole.std_error


def test_without_predictions_it_is_the_mean_of_the_labels():
    y, _, _ = world(np.random.default_rng(6), 300, 300)
    sums = StratifiedBuckets(300)
    for i in range(300):
        sums.add("0", "people", i, float(y[i]), 1.0)
    found = estimated(sums)
    assert (found.estimate, found.std_error) == (pytest.approx(y.mean()), pytest.approx(y.std(ddof=1) / math.sqrt(300)))


def test_without_labels_there_is_no_estimate():
    y, f, _ = world(np.random.default_rng(7), 300, 30)
    sums = sums_of(y, f, np.zeros(300, bool), 300)
    assert estimated(sums).std_error == math.inf


def test_the_corrected_interval_covers_the_truth_at_every_look():
    """100 worlds with a flattering judge and clusters of users, each looked at ten times: at most 5 % + 3 SE may miss."""
    rng, missed, worlds = np.random.default_rng(8), 0, 100
    for _ in range(worlds):
        sums, covers = StratifiedBuckets(512), True
        for _ in range(10):
            y, f, drawn = world(rng, 600, 30, truth=0.0)
            of_bucket = rng.integers(0, 512, 600)
            sums.merge(sums_of(y, f, drawn, 512, of_bucket))
            found = estimated(sums)
            low, high = confidence_sequence(found.estimate, found.std_error, rho=0.05**-2, alpha=0.05, df=found.df)
            covers = covers and low <= 0.0 <= high
        missed += not covers
    assert missed / worlds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)
