"""Candidates own lanes of the unit interval."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rollout_sdk import Phase
from rollout_sdk.assignment import INTERVAL, Split, lanes

NAMES = ["a", "b", "c", "d", "e"]


@st.composite
def grids(draw, *, count=None, most=None):
    """Shares that are multiples of 2**-32 and add up to at most 1; each at most `most` of n candidates' 1/n."""
    names = NAMES[: draw(st.integers(1, len(NAMES))) if count is None else count]
    left = INTERVAL
    shares = {}
    for name in draw(st.permutations(names)):
        limit = left if most is None else min(left, INTERVAL // len(names))
        shares[name] = draw(st.one_of(st.integers(0, limit), st.just(limit), st.just(0)))
        left -= shares[name]
    return {name: size / INTERVAL for name, size in shares.items()}


def owned(shares, name):
    """The points that a candidate owns, as sorted pieces that do not touch."""
    merged = []
    for low, high, owner in lanes(shares):
        if owner != name:
            continue
        if merged and merged[-1][1] == low:
            merged[-1][1] = high
        else:
            merged.append([low, high])
    return merged


def within(inner, outer):
    return all(any(low >= start and high <= end for start, end in outer) for low, high in inner)


@given(grids())
def test_lanes_are_disjoint_and_inside_the_interval(shares):
    edges = [edge for low, high, _ in lanes(shares) for edge in (low, high)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= 1 for edge in edges)
    assert all(low < high for low, high, _ in lanes(shares))


@given(grids())
def test_every_candidate_owns_exactly_its_share(shares):
    assert {name: math.fsum(high - low for low, high in owned(shares, name)) for name in shares} == shares


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_any_share_is_met_to_the_precision_of_the_grid(sizes):
    assume(math.fsum(sizes) <= 1)
    shares = dict(zip(NAMES, sizes, strict=False))
    for name, share in shares.items():
        width = sum((Fraction(high) - Fraction(low) for low, high in owned(shares, name)), Fraction(0))
        assert abs(width - Fraction(share)) <= Fraction(len(shares), INTERVAL)


@given(grids(), st.data())
def test_raising_a_share_takes_no_unit_from_its_candidate(shares, data):
    name = data.draw(st.sampled_from(sorted(shares)))
    room = round((shares[name] + 1 - math.fsum(shares.values())) * INTERVAL)
    raised = data.draw(st.integers(round(shares[name] * INTERVAL), max(room, round(shares[name] * INTERVAL)))) / INTERVAL
    assert within(owned(shares, name), owned({**shares, name: raised}, name))


@given(grids(most=1), st.data())
def test_changing_a_share_moves_no_other_candidates_units_while_nobody_has_more_than_an_nth(shares, data):
    name = data.draw(st.sampled_from(sorted(shares)))
    changed = {**shares, name: data.draw(st.integers(0, INTERVAL // len(shares))) / INTERVAL}
    for other in shares.keys() - {name}:
        assert owned(changed, other) == owned(shares, other)


@given(grids(count=2), st.data())
def test_of_two_candidates_neither_ever_moves_the_others_units(shares, data):
    name = data.draw(st.sampled_from(sorted(shares)))
    (other,) = shares.keys() - {name}
    room = INTERVAL - round(shares[other] * INTERVAL)
    changed = {**shares, name: data.draw(st.integers(0, room)) / INTERVAL}
    assert owned(changed, other) == owned(shares, other)


@given(grids(), st.integers(0, INTERVAL - 1))
def test_a_split_decides_as_the_lanes_say(shares, point):
    decision = Split(shares, "control").decide(point / INTERVAL)
    owner = next((name for low, high, name in lanes(shares) if low <= point / INTERVAL < high), "control")
    assert decision.variant == owner
    assert decision.propensity == decision.share == Phase("p", shares).all_shares[owner]


@given(grids(), st.integers(0, INTERVAL - 1))
def test_only_the_controls_calls_are_shadowed_by_every_candidate(shares, point):
    split = Split(shares, "control")
    plain, shadowed = split.decide(point / INTERVAL), split.decide_shadowed(point / INTERVAL)
    assert plain.shadows == ()
    assert shadowed.shadows == (tuple(shares) if plain.variant == "control" else ())
    assert shadowed.variant == plain.variant


def test_the_order_in_which_candidates_are_named_does_not_matter():
    shares = {"a": 0.1, "b": 0.2, "c": 0.3}
    assert lanes(shares) == lanes(dict(reversed(shares.items())))


def test_a_share_below_a_hundredth_of_a_percent_is_still_a_lane():
    assert lanes({"v2": 0.00005}) == [(0.0, round(0.00005 * INTERVAL) / INTERVAL, "v2")]


@pytest.mark.parametrize(("share", "reason"), [(1.0, "static"), (0.5, "split"), (0.0, "static")])
def test_a_variant_that_has_everybody_is_not_randomised(share, reason):
    assert {Split({"v2": share}, "control").decide(point).reason for point in (0.0, 0.25, 0.75)} == {reason}
