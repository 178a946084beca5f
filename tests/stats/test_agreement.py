"""Agreement of two models: checked against scikit-learn, published values, and independent implementations."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rollout_sdk.stats import average_overlap, cohens_kappa, population_stability, rank_biased_overlap

rankings = st.lists(st.integers(0, 12), unique=True, max_size=8)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    one, other = zip(*pairs, strict=True)
    assume(len({*one, *other}) > 1)
    table = metrics.confusion_matrix(one, other)
    assert cohens_kappa(table.tolist()) == pytest.approx(metrics.cohen_kappa_score(one, other), abs=1e-12)


def test_kappa_of_a_textbook():
    assert cohens_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert cohens_kappa([[10, 0], [0, 5]]) == 1.0


@pytest.mark.parametrize("table", [[], [[0, 0], [0, 0]], [[5, 0], [0, 0]]])
def test_kappa_is_undefined_where_there_is_one_class_or_none(table):
    assert math.isnan(cohens_kappa(table))


@pytest.mark.parametrize("table", [[[1, 2]], [[1, -1], [0, 1]], [[math.inf]]])
def test_kappa_of_no_table_of_counts_is_refused(table):
    with pytest.raises(ValueError, match="square table"):
        cohens_kappa(table)


def by_definition(a, b, p, depth=3000):
    """Rank-biased overlap of rankings of one length that agree beyond their end as they do at it: the sum itself."""
    agreement = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, len(a) + 1)]
    agreement += [agreement[-1]] * (depth - len(a))
    return (1 - p) * sum(p**d * each for d, each in enumerate(agreement))


@given(rankings, rankings, st.sampled_from([0.3, 0.9, 0.98]))
def test_overlap_of_rankings_of_one_length_is_the_sum_of_its_definition(a, b, p):
    length = min(len(a), len(b))
    assume(length)
    a, b = a[:length], b[:length]
    assert rank_biased_overlap(a, b, p=p) == pytest.approx(by_definition(a, b, p), abs=1e-9)


def uneven(a, b, p):
    """Equation 32 term by term, over prefixes."""
    s, l_ = (a, b) if len(a) <= len(b) else (b, a)
    x = [len(set(l_[:d]) & set(s[:d])) for d in range(len(l_) + 1)]
    first = sum(x[d] / d * p**d for d in range(1, len(l_) + 1))
    second = sum(x[len(s)] * (d - len(s)) / len(s) / d * p**d for d in range(len(s) + 1, len(l_) + 1))
    last = ((x[-1] - x[len(s)]) / len(l_) + x[len(s)] / len(s)) * p ** len(l_)
    return (1 - p) / p * (first + second) + last


@given(rankings, rankings)
def test_overlap_of_rankings_of_any_length(a, b):
    assume(a)
    assume(b)
    found = rank_biased_overlap(a, b, p=0.9)
    assert found == pytest.approx(uneven(a, b, 0.9), abs=1e-12)
    assert found == pytest.approx(rank_biased_overlap(b, a, p=0.9))
    assert -1e-9 <= found <= 1 + 1e-9


def test_overlap_at_the_edge():
    assert [rank_biased_overlap([], []), rank_biased_overlap([], [1]), rank_biased_overlap([1], [1])] == [
        1.0,
        0.0,
        pytest.approx(1),
    ]
    assert rank_biased_overlap(list("abc"), list("xyz")) == 0.0
    for wrong in ({"a": [1, 1], "b": [1]}, {"a": [1], "b": [1], "p": 1.0}):
        with pytest.raises(ValueError, match="rank_biased_overlap"):
            rank_biased_overlap(**wrong)


@given(rankings, rankings, st.integers(1, 10))
def test_average_overlap_is_the_mean_over_depths(a, b, depth):
    expected = np.mean([len(set(a[:d]) & set(b[:d])) / d for d in range(1, depth + 1)])
    assert average_overlap(a, b, depth=depth) == pytest.approx(expected)


@pytest.mark.parametrize("depth", [0, 1.5, True])
def test_a_depth_is_a_number_of_places(depth):
    with pytest.raises(ValueError, match="depth"):
        average_overlap([1], [1], depth=depth)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20))
def test_population_stability_is_the_symmetric_divergence_of_smoothed_shares(bins):
    expected, actual = (np.array(each) + 0.5 for each in zip(*bins, strict=True))
    p, q = expected / expected.sum(), actual / actual.sum()
    # The divergences of Kullback and Leibler in both directions.
    divergence = (q * np.log(q / p)).sum() + (p * np.log(p / q)).sum()
    assert population_stability(*zip(*bins, strict=True)) == pytest.approx(divergence, abs=1e-12)


def test_stability_of_equal_histograms_and_of_none():
    assert population_stability([5, 10], [5, 10]) == 0
    for wrong in ([[1], [1, 2]], [[], []], [[-1, 2], [1, 2]]):
        with pytest.raises(ValueError, match="population_stability"):
            population_stability(*wrong)
