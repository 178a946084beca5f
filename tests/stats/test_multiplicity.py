"""The e-Benjamini-Hochberg procedure."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.stats import e_bh

E_VALUES = st.lists(st.floats(0, 1e6) | st.just(math.inf), max_size=8)


def _by_definition(e_values, alpha):
    """The largest set whose least e-value is K / (k alpha) or more, found by trying all sets."""
    best = ()
    for k in range(1, len(e_values) + 1):
        for chosen in itertools.combinations(range(len(e_values)), k):
            if min(e_values[i] for i in chosen) >= len(e_values) / (k * alpha) * (1 + 1e-12):
                best = max(best, chosen, key=lambda s: (len(s), sum(e_values[i] for i in s)))
    return sorted(best)


@given(E_VALUES.filter(lambda es: len(set(es)) == len(es)), st.sampled_from([0.05, 0.1, 0.3]))
def test_the_largest_self_consistent_set_is_rejected(e_values, alpha):
    near = any(abs(e * k * alpha - len(e_values)) < 1e-6 for e in e_values for k in range(1, len(e_values) + 1))
    assert near or _by_definition(e_values, alpha) == e_bh(e_values, alpha=alpha)


@pytest.mark.parametrize(
    ("e_values", "expected"),
    [
        ([], []),
        ([19.9], []),
        ([20], [0]),
        ([0, math.inf], [1]),
        ([20, 1, 20], []),
        ([30, 1, 30], [0, 2]),
        ([20, 20, 20], [0, 1, 2]),
        ([25, 100, 1, 1], [1]),
    ],
)
def test_hypotheses_are_rejected_by_the_rule_and_named_by_ascending_index(e_values, expected):
    assert expected == e_bh(e_values)


def test_the_false_discovery_rate_holds_when_one_number_drives_all_e_values():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(4000):
        shared = rng.standard_normal()
        null = math.exp(2 * shared - 2)  # one likelihood ratio, ten times over: as dependent as can be
        rejected = e_bh([null] * 10 + [1e9], alpha=0.1)
        rates.append(sum(i < 10 for i in rejected) / max(1, len(rejected)))
    assert np.mean(rates) <= 0.1


@pytest.mark.parametrize("e_values", [[-1.0], [1.0, math.nan]])
def test_what_is_no_e_value_is_refused(e_values):
    with pytest.raises(ValueError, match=f"e-value {len(e_values) - 1}"):
        e_bh(e_values)


@pytest.mark.parametrize("alpha", [0, 1, math.nan])
def test_an_impossible_false_discovery_rate_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        e_bh([1.0], alpha=alpha)
