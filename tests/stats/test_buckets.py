"""Bucket sums and the difference that they give, held against formulas written out with NumPy and against simulation."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk.stats import Estimate, StratifiedBuckets, log_e_two_sided, plan_rho

PHASES, ARMS, BUCKETS = ("5 %", "20 %", "50 %"), ("control", "v2", "v3"), 8
# Halves and quarters add without rounding, so that sums are equal whatever their order.
ROWS = st.lists(
    st.tuples(
        st.sampled_from(PHASES),
        st.sampled_from(ARMS),
        st.integers(0, BUCKETS - 1),
        st.integers(-400, 400).map(lambda k: k / 4),
        st.integers(0, 12).map(lambda k: k / 2),
    ),
    max_size=60,
)


def _filled(rows, buckets=BUCKETS):
    sums = StratifiedBuckets(buckets)
    for row in rows:
        sums.add(*row)
    return sums


@given(ROWS, ROWS)
def test_merging_is_the_same_as_adding_everything_in_one_place(rows, others):
    merged = _filled(rows)
    assert merged.merge(_filled(others)) is None
    assert merged == _filled(rows + others)


@pytest.mark.parametrize("used", [0, 1, 100, 171, 172, 300, 512])
def test_a_merge_adds_few_buckets_as_it_adds_many(used):
    """Few buckets are added one by one; values may have no weight, as of outcomes, and weights no value."""
    rng = random.Random(used)
    sums, added = StratifiedBuckets(), StratifiedBuckets()
    for bucket in range(0, 512, 3):
        sums.add("0", "v2", bucket, rng.random(), 1.0)
    for bucket in rng.sample(range(512), used):
        added.add("0", "v2", bucket, rng.choice([0.0, -0.5, 2.0]), rng.choice([0.0, 1.0]))
    before = [list(column) for column in sums.cell("0", "v2")]
    theirs = [list(column) for column in added.cell("0", "v2")]
    sums.merge(added)
    for found, mine, others in zip(sums.cell("0", "v2"), before, theirs, strict=True):
        assert list(found) == [one + other for one, other in zip(mine, others, strict=True)]
    assert [list(column) for column in added.cell("0", "v2")] == theirs


@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_arrival_does_not_matter(orders):
    rows, shuffled = orders
    assert _filled(rows) == _filled(shuffled)
    assert _filled(rows).difference("v2", "control") == _filled(shuffled).difference("v2", "control")


@given(ROWS)
def test_sums_survive_the_way_through_json(rows):
    sums = _filled(rows)
    assert sums == StratifiedBuckets.from_dict(json.loads(json.dumps(sums.as_dict())))


@given(ROWS)
def test_sums_given_at_once_equal_sums_given_one_by_one(rows):
    at_once = StratifiedBuckets(BUCKETS)
    for phase, arm in {(row[0], row[1]) for row in rows}:
        values, weights = np.zeros(BUCKETS), np.zeros(BUCKETS)
        for row in rows:
            if row[:2] == (phase, arm):
                values[row[2]] += row[3]
                weights[row[2]] += row[4]
        at_once.add_sums(phase, arm, values, weights)
    assert _filled(rows) == at_once


@given(ROWS)
def test_totals_arms_and_phases_are_those_of_the_rows(rows):
    sums = _filled(rows)
    assert tuple(sorted({row[1] for row in rows})) == sums.arms()
    assert tuple(sorted({row[0] for row in rows})) == sums.phases()
    for phase in PHASES:
        for arm in ARMS:
            mine = [row for row in rows if row[:2] == (phase, arm)]
            assert (sum(row[3] for row in mine), sum(row[4] for row in mine)) == sums.totals(phase, arm)


def test_only_occupied_buckets_are_written_down():
    sums = StratifiedBuckets(1024)
    sums.add("p", "a", 7, 2.5)
    sums.add("p", "a", 900, 0.0, 3.0)
    expected = {"phase": "p", "arm": "a", "bucket": [7, 900], "value": [2.5, 0.0], "weight": [1.0, 3.0]}
    assert {"buckets": 1024, "cells": [expected]} == sums.as_dict()


def _published(x, d, times=1.0, floor=True):
    """The production estimator with NumPy: X and D of shape (phase, arm, bucket), no bucket empty, arm 1 the candidate."""
    total_x, total_d = x.sum(axis=2), d.sum(axis=2)
    ratio = total_x / total_d
    w = total_d[:, 0] * total_d[:, 1] / total_d.sum(axis=1)
    estimate = (w * (ratio[:, 1] - times * ratio[:, 0])).sum() / w.sum()
    score = (x - ratio[:, :, None] * d) / total_d[:, :, None]
    own = [(w[:, None] * factor * score[:, a]).sum(axis=0) for a, factor in ((0, times), (1, 1.0))]
    squares = ((own[1] - own[0]) ** 2).sum()
    for a, factor in ((0, times), (1, 1.0)):
        stretch = np.sqrt(total_d[:, 1 - a] / total_d[:, a])
        least = ((w * stretch * factor)[:, None] * score[:, 1 - a]).sum(axis=0)
        squares += floor * max(0.0, (least**2).sum() - (own[a] ** 2).sum())
    buckets = x.shape[2]
    return estimate, math.sqrt(buckets / (buckets - 1) * squares) / w.sum()


@pytest.mark.parametrize("times", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_the_difference_is_the_published_estimator_when_no_bucket_is_empty(seed, times):
    rng = np.random.default_rng(seed)
    d = rng.integers(1, 40, (3, 2, 64)).astype(float)
    x = rng.normal(3, 2, (3, 2, 64)) * d
    sums = StratifiedBuckets(64)
    for h in range(3):
        for a in range(2):
            sums.add_sums(f"phase {h}", ("control", "v2")[a], x[h, a], d[h, a])
    found = sums.difference("v2", "control", times=times)
    assert _published(x, d, times) == pytest.approx((found.estimate, found.std_error), rel=1e-10)
    assert found.df == 63
    same_calls = sums.difference("v2", "control", times=times, paired=True)
    assert _published(x, d, times, floor=False) == pytest.approx((same_calls.estimate, same_calls.std_error), rel=1e-10)


@given(ROWS, st.sampled_from([0.25, 4.0, 1024.0]))
def test_the_difference_scales_with_the_metric_and_swaps_with_the_arms(rows, unit):
    found = _filled(rows).difference("v2", "control")
    scaled = _filled([(p, a, b, x * unit, d) for p, a, b, x, d in rows]).difference("v2", "control")
    swapped = _filled(rows).difference("control", "v2")
    assert not any(math.isnan(part) for part in (found.estimate, found.std_error, found.df))
    assert (found.estimate * unit, found.std_error * unit) == pytest.approx(
        (scaled.estimate, scaled.std_error), rel=1e-9, abs=1e-9
    )
    assert (-found.estimate, found.std_error) == pytest.approx((swapped.estimate, swapped.std_error), rel=1e-9, abs=1e-9)


@given(ROWS)
def test_phases_that_only_one_arm_saw_do_not_count(rows):
    both = _filled([row for row in rows if row[0] != "50 %"])
    more = _filled([row for row in rows if row[0] != "50 %" or row[1] == "control"])
    assert both.difference("v2", "control") == more.difference("v2", "control")


NOTHING = Estimate(0.0, math.inf, 0.0, 0)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("p", "v2", 0, 1.0)],
        [("p", "v2", 0, 1.0), ("q", "control", 1, 1.0)],
        [("p", "v2", 0, 1.0, 0.0), ("p", "control", 1, 1.0)],
    ],
)
def test_arms_that_never_met_have_no_difference(rows):
    assert NOTHING == _filled(rows).difference("v2", "control")


def test_one_bucket_tells_a_difference_and_not_how_sure_it_is():
    sums = _filled([("p", "v2", 0, 3.0), ("p", "control", 0, 1.0), ("p", "control", 1, 1.0), ("p", "control", 2, 2.5)])
    found = sums.difference("v2", "control")
    assert (1.5, math.inf, 0.0) == (found.estimate, found.std_error, found.df)
    assert StratifiedBuckets(1).difference("v2", "control") == NOTHING


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e30])
def test_units_that_are_all_alike_have_no_variance_and_are_no_evidence(value):
    rows = [("p", arm, b, value * (b + 1), b + 1.0) for arm in ("v2", "control") for b in range(BUCKETS)]
    found = _filled(rows).difference("v2", "control")
    assert found.std_error == 0.0
    assert log_e_two_sided(found.estimate, found.std_error, rho=1.0, df=found.df) == 0.0


def test_a_difference_that_is_the_same_in_every_bucket_is_known_to_half_an_event_a_bucket():
    rng = np.random.default_rng(0)
    d = rng.integers(1, 9, 64).astype(float)
    x = rng.normal(size=64) * d
    sums = StratifiedBuckets(64)
    sums.add_sums("p", "control", x, d)
    sums.add_sums("p", "v2", x + 0.3 * d, d)
    found = sums.difference("v2", "control")
    expected = 0.3 * math.sqrt(((d / d.sum()) ** 2).sum() * 2 / 12)
    assert (pytest.approx(0.3), pytest.approx(expected), 63) == (found.estimate, found.std_error, found.df)


def test_an_arm_of_few_units_brings_few_degrees_of_freedom():
    rng = np.random.default_rng(1)
    sums = StratifiedBuckets(512)
    for bucket in range(512):
        sums.add("p", "control", bucket, rng.normal(0, 1), 1.0)
    for bucket in range(10):
        sums.add("p", "v2", bucket, rng.normal(0, 1), 1.0)
    found = sums.difference("v2", "control")
    assert 9 <= found.df < 15
    assert pytest.approx(10, abs=1) == found.n_units_hint


def test_the_hint_says_how_many_units_there_are_until_all_buckets_are_taken():
    rng = np.random.default_rng(2)
    for units in (5, 100, 700):
        sums = StratifiedBuckets(512)
        for _ in range(units):
            sums.add("p", "v2", int(rng.integers(512)), 1.0)
        for bucket in range(512):
            sums.add("p", "control", bucket, 1.0)
        assert pytest.approx(units, rel=0.2) == sums.difference("v2", "control").n_units_hint
    full = StratifiedBuckets(512)
    for arm in ("v2", "control"):
        full.add_sums("p", arm, [1.0] * 512, [1e6] * 512)
    assert round(512 * math.log(1024)) == full.difference("v2", "control").n_units_hint


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (("p", "a", -1, 1.0, 1.0), "Bucket -1"),
        (("p", "a", 8, 1.0, 1.0), "Bucket 8"),
        (("p", "a", 0, math.nan, 1.0), "Value nan"),
        (("p", "a", 0, math.inf, 1.0), "Value inf"),
        (("p", "a", 0, 1e51, 1.0), "Value 1e\\+51"),
        (("p", "a", 0, 1.0, math.nan), "weight nan"),
        (("p", "a", 0, 1.0, -1.0), "weight -1.0"),
        (("p", "a", 0, 1.0, 1e-60), "weight 1e-60"),
    ],
)
def test_what_would_spoil_the_sums_is_refused_and_nothing_is_added(row, word):
    sums = StratifiedBuckets(BUCKETS)
    with pytest.raises(ValueError, match=word):
        sums.add(*row)
    assert sums == StratifiedBuckets(BUCKETS)


def test_sums_of_the_largest_values_are_read_again_and_compared():
    sums = StratifiedBuckets(BUCKETS)
    for bucket in range(BUCKETS):
        for arm in ("v2", "control"):
            for _ in range(100):
                sums.add("p", arm, bucket, 1e50 if arm == "v2" else bucket * 1e48, 1.0)
    again = StratifiedBuckets.from_dict(json.loads(json.dumps(sums.as_dict())))
    copied = StratifiedBuckets(BUCKETS)
    for arm in ("v2", "control"):
        copied.add_sums("p", arm, *sums.cell("p", arm))
    assert sums == again == copied
    found = sums.difference("v2", "control")
    assert math.isfinite(found.estimate)
    assert math.isfinite(found.std_error)
    assert found.std_error > 0


@pytest.mark.parametrize(
    ("value", "weight", "word"), [(1.1e60, 1.0, "Value 1.1e\\+60"), (math.nan, 1.0, "Value nan"), (1.0, 1e-60, "1e-60")]
)
def test_what_can_be_no_sum_is_refused_and_nothing_is_added(value, weight, word):
    sums, fine = StratifiedBuckets(BUCKETS), StratifiedBuckets(BUCKETS)
    with pytest.raises(ValueError, match=word):
        sums.add_sums("p", "a", [0.0] * (BUCKETS - 1) + [value], [1.0] * (BUCKETS - 1) + [weight])
    assert sums == fine
    plain = {"buckets": BUCKETS, "cells": [{"phase": "p", "arm": "a", "bucket": [1], "value": [value], "weight": [weight]}]}
    with pytest.raises(ValueError, match=word):
        StratifiedBuckets.from_dict(plain)


def test_different_numbers_of_buckets_do_not_mix():
    with pytest.raises(ValueError, match="8 buckets cannot be merged into 16"):
        StratifiedBuckets(16).merge(StratifiedBuckets(8))
    with pytest.raises(ValueError, match="8 values, 7 weights"):
        StratifiedBuckets(8).add_sums("p", "a", [0.0] * 8, [0.0] * 7)
    with pytest.raises(ValueError, match="buckets=0"):
        StratifiedBuckets(0)
    assert StratifiedBuckets(8) != StratifiedBuckets(16)
    assert StratifiedBuckets(8) != "buckets"


def test_an_arm_is_not_compared_with_itself():
    with pytest.raises(ValueError, match="'a' cannot be compared with itself"):
        StratifiedBuckets().difference("a", "a")


def test_a_written_cell_whose_lists_differ_in_length_is_refused():
    plain = {"buckets": 4, "cells": [{"phase": "p", "arm": "a", "bucket": [0, 1], "value": [1.0], "weight": [1.0]}]}
    with pytest.raises(ValueError, match="shorter"):
        StratifiedBuckets.from_dict(plain)


def test_sums_take_sixteen_bytes_a_bucket_however_much_is_added():
    sums = StratifiedBuckets(512)
    for i in range(5000):
        sums.add("p", "a", i % 512, 1.0)
    cell = sums._cells["p", "a"]
    assert 16 * 512 == cell.values.itemsize * len(cell.values) + cell.weights.itemsize * len(cell.weights)


def _sticky_ramp(rng, *, pooled, users=1200, looks=(0.05, 0.05, 0.2, 0.2, 0.5, 0.5), buckets=128):
    """Whether an A/A ramp is ever rejected: users differ, keep their bucket and change the arm, while the base rate drifts."""
    sums = StratifiedBuckets(buckets)
    bucket, point = rng.integers(0, buckets, users), rng.random(users)
    taste, activity = rng.normal(0, 1, users), 1 + rng.poisson(2, users)
    rho = plan_rho(1 / 0.08**2)
    for look, share in enumerate(looks):
        weights = rng.poisson(activity).astype(float)
        values = (0.5 * look + taste) * weights + rng.normal(0, 1, users) * np.sqrt(weights)
        for arm, mine in (("v2", point < share), ("control", point >= share)):
            x = np.bincount(bucket[mine], values[mine], buckets)
            d = np.bincount(bucket[mine], weights[mine], buckets)
            sums.add_sums("all" if pooled else f"{share}", arm, x, d)
        found = sums.difference("v2", "control")
        if log_e_two_sided(found.estimate, found.std_error, rho=rho, df=found.df) >= math.log(20):
            return True
    return False


def test_a_sticky_ramp_with_a_drifting_base_is_judged_within_phases_and_not_fooled_where_a_pooled_one_is():
    rounds = 80
    stratified = sum(_sticky_ramp(np.random.default_rng(seed), pooled=False) for seed in range(rounds)) / rounds
    naive = sum(_sticky_ramp(np.random.default_rng(seed), pooled=True) for seed in range(rounds)) / rounds
    assert stratified <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)
    assert naive > 0.5


def test_the_standard_error_covers_users_who_come_back_in_several_phases():
    """Over many A/A ramps, the estimates scatter as much as their standard errors say."""
    rng = np.random.default_rng(9)
    z = []
    for _ in range(150):
        sums = StratifiedBuckets(64)
        bucket, point, taste = rng.integers(0, 64, 400), rng.random(400), rng.normal(0, 1, 400)
        for phase, share in (("a", 0.2), ("b", 0.5)):
            values = taste * 5 + rng.normal(0, 1, 400)
            for arm, mine in (("v2", point < share), ("control", point >= share)):
                counts = np.bincount(bucket[mine], minlength=64).astype(float)
                sums.add_sums(phase, arm, np.bincount(bucket[mine], values[mine], 64), counts)
        found = sums.difference("v2", "control")
        z.append(found.estimate / found.std_error)
    assert pytest.approx(1.0, abs=0.2) == np.std(z)


@pytest.mark.parametrize("sizes", [(2_000, 2_000), (2_000, 500), (500, 2_000)])
def test_where_all_values_are_alike_rounding_is_no_standard_error(sizes):
    sums, rng = StratifiedBuckets(64), random.Random(3)
    for arm, size in zip(("control", "candidate"), sizes, strict=True):
        for _ in range(size):
            sums.add("phase", arm, rng.randrange(64), 0.1)
    found = sums.difference("candidate", "control")
    assert (found.estimate, found.std_error) == (pytest.approx(0.0, abs=1e-15), 0.0)


def test_pairs_that_differ_only_by_rounding_have_no_standard_error():
    sums, rng = StratifiedBuckets(64), random.Random(3)
    calls = [(rng.randrange(64), rng.random()) for _ in range(4_000)]
    for arm, order in (("control", calls), ("candidate", calls[::-1])):
        for bucket, value in order:
            sums.add("phase", arm, bucket, value)
    found = sums.difference("candidate", "control", paired=True)
    assert (found.estimate, found.std_error) == (pytest.approx(0.0, abs=1e-15), 0.0)
