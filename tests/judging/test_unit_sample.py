"""Units counted without keeping who they were."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.assignment import UnitHash, bucket_of, point_of
from rollout_sdk.judging import UnitSample, cell_of
from rollout_sdk.judging.unit_sample import MOST_KEPT, first_units

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


def test_a_unit_counts_in_the_first_phase_that_sees_it_and_in_no_other():
    phases = [{"control": sampled([1, 2, 3]), "v2": sampled([4])}, {"control": sampled([1, 5]), "v2": sampled([2, 4, 6])}]
    first, second = first_units(phases)
    assert ({1, 2, 3}, {4}) == (set(first["control"].minutes), set(first["v2"].minutes))
    assert ({5}, {6}) == (set(second["control"].minutes), set(second["v2"].minutes))


def test_each_arm_is_counted_at_its_own_sampling_level():
    """Thinned to the level of the larger arm, a candidate at 1 % would be down to some dozens of units."""
    many, few = sampled(random_cells(100_000, 3)), sampled(random_cells(1_000, 4))
    (first,) = first_units([{"control": many, "v2": few}])
    assert (many.level, 0) == (first["control"].level, first["v2"].level)
    assert (len(many.first), 1_000) == (len(first["control"].minutes), len(first["v2"].minutes))


def test_what_an_earlier_phase_may_have_seen_is_not_new():
    """A later phase is thinned to the level of those before: a unit they did not keep may be one that they saw."""
    units = random_cells(100_000, 3)
    _, second = first_units([{"control": sampled(units)}, {"v2": sampled(units[:5_000])}])
    assert (set(), sampled(units).level) == (set(second["v2"].minutes), second["v2"].level)


def test_the_first_minute_of_a_unit_is_kept_in_any_order():
    early, late = UnitSample(), UnitSample()
    early.add(7, 100)
    late.add(7, 200)
    late.add(7, 150)
    late.merge(early)
    assert {7: 100} == late.first
    assert {7: 100} == UnitSample.from_dict(json.loads(json.dumps(late.as_dict()))).first


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
