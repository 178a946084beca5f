"""Candidates own lanes of the unit interval."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, Phase, moved_units
from rollout_sdk.assignment import INTERVAL, Split, lanes

NAMES = ["a", "b", "c", "v2", "other"]


@st.composite
def grids(draw, *, count=None, names=NAMES):
    """Shares that are multiples of 2**-32 and add up to at most 1."""
    names = draw(st.permutations(names))[: draw(st.integers(1, len(names))) if count is None else count]
    left = INTERVAL
    shares = {}
    for name in names:
        shares[name] = draw(st.one_of(st.integers(0, left), st.just(left), st.just(0)))
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


def between_candidates(before, after):
    """The share of the units that goes from one candidate to another, or from one that did not get less."""
    return math.fsum(
        share
        for (left, joined), share in moved_units(before, after).items()
        if (left != "control" and joined != "control") or (left != "control" and after.get(left, 0.0) >= before.get(left, 0.0))
    )


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


@given(grids(count=2), st.data())
def test_of_two_candidates_neither_ever_moves_the_others_units(shares, data):
    name = data.draw(st.sampled_from(sorted(shares)))
    (other,) = shares.keys() - {name}
    room = INTERVAL - round(shares[other] * INTERVAL)
    changed = {**shares, name: data.draw(st.integers(0, room)) / INTERVAL}
    assert owned(changed, other) == owned(shares, other)


@given(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 1))
def test_of_two_candidates_of_any_names_a_raise_moves_units_of_the_control_alone(one, other, share, more):
    assume(one != other)
    before = {one: share, other: 1 - share}
    after = {one: share, other: (1 - share) * more}
    assert set(moved_units(after, before)) <= {("control", other)}


@given(st.permutations("abcd"), st.lists(st.integers(0, INTERVAL // 4), min_size=4, max_size=4), st.data())
def test_up_to_four_in_a_series_have_a_quarter_each_that_others_never_touch(names, sizes, data):
    before = dict(zip(names[: data.draw(st.integers(1, 4))], (size / INTERVAL for size in sizes), strict=False))
    after = dict(zip(names[: data.draw(st.integers(1, 4))], (size / INTERVAL for size in sizes), strict=False))
    for name in before.keys() & after.keys():
        assert owned(before, name) == owned(after, name)


def test_an_arm_that_is_added_or_removed_moves_no_other():
    three, four = {"a": 0.2, "b": 0.2, "c": 0.2}, {"a": 0.2, "b": 0.2, "c": 0.2, "d": 0.1}
    assert moved_units(three, four) == {("control", "d"): pytest.approx(0.1)}
    assert moved_units(three, {"a": 0.2, "c": 0.2}) == {("b", "control"): pytest.approx(0.2)}
    assert moved_units(three, {"a": 0.19, "b": 0.21, "c": 0.2}) == {
        ("a", "control"): pytest.approx(0.01),
        ("control", "b"): pytest.approx(0.01),
    }


def test_three_halves_taken_in_pairs_are_the_case_that_shares_alone_cannot_solve():
    pairs = [{"a": 0.5, "b": 0.5}, {"a": 0.5, "c": 0.5}, {"b": 0.5, "c": 0.5}]
    lost = [
        math.fsum(
            share
            for (left, _), share in moved_units(
                {**dict.fromkeys("abc", 0.0), name: 0.5}, {"a": 0.0, "b": 0.0, "c": 0.0, **pair}
            ).items()
            if left == name
        )
        for pair in pairs
        for name in pair
    ]
    assert math.fsum(lost) >= 0.5


def test_a_share_that_is_none_is_refused_where_moves_are_asked_for():
    with pytest.raises(ConfigurationError, match="share of 'v2' is 7"):
        moved_units({"v2": 0.1}, {"v2": 7})


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
    shares = {"a": 0.4, "b": 0.2, "c": 0.3}
    assert lanes(shares) == lanes(dict(reversed(shares.items())))


def test_a_share_below_a_hundredth_of_a_percent_is_still_a_lane():
    ((low, high, name),) = lanes({"v2": 0.00005})
    assert (round((high - low) * INTERVAL), name) == (round(0.00005 * INTERVAL), "v2")


@pytest.mark.parametrize(("share", "reason"), [(1.0, "static"), (0.5, "split"), (0.0, "static")])
def test_a_variant_that_has_everybody_is_not_randomised(share, reason):
    assert {Split({"v2": share}, "control").decide(point).reason for point in (0.0, 0.25, 0.75)} == {reason}


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, 10, "v2")],
        [(0, INTERVAL // 2, "v3")],
        [(0, INTERVAL // 2, "v2"), (5, 6, "v2")],
        [(-5, INTERVAL // 2 - 5, "v2")],
        [(0.0, 0.5, "v2")],
    ],
)
def test_lanes_that_are_not_those_of_the_shares_are_refused(pieces):
    with pytest.raises(ConfigurationError, match="not the lanes"):
        Phase("p", {"v2": 0.5}, lanes=pieces)
