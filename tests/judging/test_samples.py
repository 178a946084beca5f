"""Units counted without keeping who they were."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.assignment import UnitHash, bucket_of, point_of
from rollout_sdk.judging import UnitSample, cell_of
from rollout_sdk.judging.samples import MOST_KEPT, common

cells = st.lists(st.integers(0, 2**32 - 1), max_size=300)


def sampled(values):
    sample = UnitSample()
    for value in values:
        sample.add(value)
    return sample


def random_cells(number, seed):
    rng = random.Random(seed)
    return [rng.getrandbits(32) for _ in range(number)]


@given(cells)
def test_few_units_are_counted_exactly_however_often_they_come(values):
    sample = sampled([*values, *values])
    assert (len(set(values)), 0) == (sample.estimate, sample.level)


@given(cells, cells)
def test_two_processes_count_a_common_unit_once(ours, theirs):
    merged = sampled(ours)
    merged.merge(sampled(theirs))
    assert sampled([*ours, *theirs]).cells == merged.cells


@pytest.mark.parametrize("number", [20_000, 300_000])
def test_many_units_are_estimated_from_a_bounded_sample(number):
    sample = sampled(random_cells(number, 1))
    assert len(sample.cells) <= MOST_KEPT
    assert number == pytest.approx(sample.estimate, rel=0.06)


def test_a_full_sample_is_the_same_in_any_order_and_any_number_of_processes():
    values = random_cells(60_000, 2)
    whole = sampled(values)
    parts = [sampled(values[start::4]) for start in range(4)]
    for part in parts[1:]:
        parts[0].merge(part)
    backwards = sampled(reversed(values))
    assert (whole.level, whole.cells) == (parts[0].level, parts[0].cells) == (backwards.level, backwards.cells)


def test_samples_of_different_arms_are_compared_at_one_level():
    many, few = sampled(random_cells(100_000, 3)), sampled(random_cells(1_000, 4))
    ours, theirs = common(many, few)
    assert len(ours) == len(many.cells)
    assert 100 == pytest.approx(len(ours) / len(theirs), rel=0.2)


@given(cells)
def test_it_goes_through_json(values):
    sample = sampled(values)
    read = UnitSample.from_dict(json.loads(json.dumps(sample.as_dict())))
    assert (sample.cells, sample.level) == (read.cells, read.level)


def test_which_units_are_kept_has_nothing_to_do_with_their_arm_or_their_bucket():
    hash_ = UnitHash("key")
    digests = [hash_(b"s%d" % number) for number in range(40_000)]
    kept = [digest for digest in digests if not cell_of(digest) & 15]
    assert 2_500 == pytest.approx(len(kept), abs=250)
    below = sum(point_of(digest) < 0.3 for digest in kept)
    assert 0.3 * len(kept) == pytest.approx(below, abs=4 * (0.21 * len(kept)) ** 0.5)
    low = sum(bucket_of(digest) < 128 for digest in kept)
    assert len(kept) / 4 == pytest.approx(low, abs=4 * (3 / 16 * len(kept)) ** 0.5)
