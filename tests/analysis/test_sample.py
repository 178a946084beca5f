"""Values are found at their places without sorting them as a whole."""

import random
from array import array

import pytest

from rollout_sdk.analysis.sample import Sample, _Merged


@pytest.mark.parametrize("count", [1, 5, 100, 3_000])
def test_merged_lists_are_the_sorted_list_of_their_values(count):
    rng = random.Random(count)
    kinds = [lambda: rng.gauss(0, 1), lambda: float(rng.randrange(-3, 3)), lambda: -0.0, lambda: 1e308, lambda: 5e-324]
    values = [rng.choice(kinds)() for _ in range(count)]
    merged = _Merged([array("d", sorted(values[begin::7])) for begin in range(7)])
    assert sorted(values) == list(merged)
    assert sorted(values)[1:3] == merged[1:3]
    assert max(values) == merged[-1]
    with pytest.raises(IndexError):
        merged[count]


def test_a_large_sample_is_ordered_as_a_small_one(monkeypatch):
    rng = random.Random(1)
    by_hand, values = [], Sample()
    for _ in range(300):
        value, bucket, many = rng.lognormvariate(0, 1), rng.randrange(512), rng.choice([1, 1, 4])
        values.add(value, bucket, many)
        by_hand += [value] * many
    listed = sorted(rng.random() for _ in range(100))
    for bucket in (3, 600):
        values.extend(listed, bucket, 2)
        by_hand += listed * 2
    assert sorted(by_hand) == list(values.ordered())
    monkeypatch.setattr("rollout_sdk.analysis.sample._FEW", 10)
    values.add(0.5, 3, 1)
    assert sorted([*by_hand, 0.5]) == list(values.ordered())
    assert (len(by_hand) + 1) == sum(of for _, of in values.below(1e9).values())
    assert sum(value <= 0.7 for value in [*by_hand, 0.5]) == sum(below for below, _ in values.below(0.7).values())
