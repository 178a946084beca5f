"""Lanes are made of the lanes before: no change moves a unit between candidates, and none moves more than it must."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import Canary, StateError
from rollout_sdk.assignment import INTERVAL, place
from rollout_sdk.control.state import start
from rollout_sdk.control.state_document import as_document, from_document

NAMES = ["a", "b", "c", "v2", "other"]


@st.composite
def some_shares(draw):
    """Sizes of any of the candidates, in 2**-32, that add up to at most the whole."""
    left, sizes = INTERVAL, {}
    for name in draw(st.permutations(NAMES))[: draw(st.integers(1, 5))]:
        sizes[name] = draw(st.one_of(st.integers(0, left), st.just(left), st.just(0)))
        left -= sizes[name]
    return sizes


def sizes_of(lanes):
    sizes = {}
    for low, high, name in lanes:
        sizes[name] = sizes.get(name, 0) + high - low
    return sizes


def moves(before, after):
    """Points by owner before and after, without those that stay."""
    found = {}
    for low, high in pairwise(
        sorted({0, INTERVAL, *(edge for lanes in (before, after) for lane in lanes for edge in lane[:2])})
    ):
        left, joined = (next((n for a, b, n in lanes if a <= low < b), "control") for lanes in (before, after))
        if left != joined:
            found[left, joined] = found.get((left, joined), 0) + high - low
    return found


def placed_after(before, sizes):
    return place(before, {name: size / INTERVAL for name, size in sizes.items()})


@given(st.lists(some_shares(), min_size=2, max_size=5))
def test_along_any_chain_of_changes_only_as_many_units_move_as_must(chain):
    placed = ()
    for wanted in chain:
        before, placed = placed, placed_after(placed, wanted)
        had, has = sizes_of(before), sizes_of(placed)
        assert has == {name: size for name, size in wanted.items() if size}
        found = moves(before, placed)
        given, taken = Counter(), Counter()
        for (left, joined), size in found.items():
            given[left] += size
            taken[joined] += size
        assert {name: given[name] for name in had} == {name: max(0, had[name] - has.get(name, 0)) for name in had}
        assert {name: taken[name] for name in has} == {name: max(0, has[name] - had.get(name, 0)) for name in has}
        # Only what the control has not got goes from one candidate to another.
        risen = sum(max(0, has[name] - had.get(name, 0)) for name in has)
        direct = sum(size for (left, joined), size in found.items() if "control" not in (left, joined))
        assert direct == max(0, risen - (INTERVAL - sum(had.values())))


@given(some_shares(), st.data())
def test_a_share_that_rises_and_falls_back_leaves_every_unit_where_it_was(sizes, data):
    placed = placed_after((), sizes)
    name = data.draw(st.sampled_from(sorted(sizes)))
    raised = data.draw(st.integers(sizes[name], INTERVAL - sum(sizes.values()) + sizes[name]))
    assert placed_after(placed_after(placed, {**sizes, name: raised}), sizes) == placed


@given(st.lists(st.tuples(st.integers(0, INTERVAL), st.integers(0, INTERVAL)), min_size=1, max_size=6))
def test_of_two_candidates_the_lanes_do_not_depend_on_what_was_before(chain):
    placed = ()
    for one, other in chain:
        sizes = {"a": one, "other": min(other, INTERVAL - one)}
        placed = placed_after(placed, sizes)
        assert placed == placed_after((), sizes)


def test_the_pieces_stay_few_however_often_shares_change():
    rng, placed, most = random.Random(1), (), 0
    for _ in range(500):
        cuts = sorted(rng.randrange(INTERVAL) for _ in NAMES)
        placed = placed_after(placed, {name: high - low for name, (low, high) in zip(NAMES, pairwise([0, *cuts]), strict=True)})
        most = max(most, len(placed))
    assert most <= 40


def test_ten_tenths_fill_the_interval_though_their_rounded_sizes_are_more():
    placed = place((), {f"v{number}": 0.1 for number in range(10)})
    assert sum(sizes_of(placed).values()) == INTERVAL


FIVE = {"v0": 0.1, "v1": 0.1, "v8": 0.1, "v9": 0.1, "\ud800": 0.2}
EQUAL = {"a": 0.2, "b": 0.2, "c": 0.2}
# Whoever changes one of these moves users of running rollouts to another variant.
GOLDEN = [
    ([{"v2": 0.05}], [(2902255485, 3117003850, "v2")]),
    ([{"candidate": 0.5}], [(0, 439536233, "candidate"), (2587019881, 4294967296, "candidate")]),
    ([EQUAL], [(309448485, 1168441944, "a"), (1383190309, 2242183768, "c"), (2456932133, 3315925592, "b")]),
    ([{"Zoë": 0.25, "Ω": 0.25}], [(140048461, 1213790285, "Zoë"), (2821836581, 3895578405, "Ω")]),
    (
        [FIVE],
        [
            (0, 311217957, "v0"),
            (311217957, 754771837, "\ud800"),
            (754771837, 1184268567, "v8"),
            (2902255484, 2902255485, "\ud800"),
            (2902255485, 3331752215, "v9"),
            (3331752215, 3747191793, "\ud800"),
            (3747191793, 4176688523, "v1"),
            (4176688523, 4294967296, "v0"),
        ],
    ),
    (
        [EQUAL, {**EQUAL, "a": 0.6}, {**EQUAL, "a": 0.1}, {"a": 0.1, "b": 0.0, "c": 0.9}],
        [(0, 309448485, "c"), (309448485, 738945215, "a"), (738945215, 4294967296, "c")],
    ),
    (
        [EQUAL, {**EQUAL, "a": 0.6}, {**EQUAL, "a": 0.05}],
        [(309448485, 524196850, "a"), (1383190309, 2242183768, "c"), (2456932133, 3315925592, "b")],
    ),
    (
        [{"a": 0.9, "v2": 0.05}, {"a": 0.4, "other": 0.5}],
        [(0, 309448485, "other"), (309448485, 2027435403, "a"), (2456932133, 4294967296, "other")],
    ),
]


@pytest.mark.parametrize(("chain", "lanes"), GOLDEN)
def test_the_lanes_of_given_shares_never_change(chain, lanes):
    placed = ()
    for shares in chain:
        placed = place(placed, shares)
    assert tuple(lanes) == placed


# In the state of a rollout


def canary(*steps):
    return Canary([dict(zip("abcd", step, strict=False)) for step in steps]).rollout_phases(
        "control", tuple("abcd"[: len(steps[0])])
    )


def follow(phases, *changes):
    """The phases of a rollout that is changed so, the first included."""
    states = [start("model", phases, ramps=True)]
    for change in changes:
        states.append(change(states[-1]))
    return [state.phase for state in states]


def between(phases):
    return sum(
        size
        for before, after in pairwise(phases)
        for (left, joined), size in moves(before.lanes, after.lanes).items()
        if "control" not in (left, joined)
    )


PLAN = canary([0.05, 0.05, 0.05], [0.05, 0.05, 0.4], [0.25, 0.05, 0.4], [0.25, 0.3, 0.4])
PROMOTE = lambda state: state.promote()


def test_the_steps_of_a_canary_of_three_move_no_unit_between_candidates_though_they_outgrow_their_room():
    phases = follow(PLAN, PROMOTE, PROMOTE, PROMOTE)
    assert between(phases) == 0
    assert between(PLAN) > 0


def test_a_share_that_is_set_by_hand_moves_no_unit_between_candidates():
    phases = follow(
        PLAN,
        lambda state: state.set_share(0.6, "a"),
        lambda state: state.set_share(0.2, "b"),
        lambda state: state.set_share(0.1, "a"),
        lambda state: state.set_share(0.5, "c"),
        lambda state: state.roll_back("b"),
        lambda state: state.set_share(0.45, "a"),
    )
    assert between(phases) == 0


def test_two_processes_that_follow_one_plan_have_the_same_lanes():
    assert [phase.lanes for phase in follow(PLAN, PROMOTE, PROMOTE)] == [
        phase.lanes for phase in follow(PLAN, PROMOTE, PROMOTE)
    ]


def test_lanes_survive_the_store_and_what_has_none_begins_with_the_first():
    state = start("model", PLAN, ramps=True).set_share(0.6, "a").set_share(0.2, "b").set_share(0.1, "a")
    document = json.loads(json.dumps(as_document(state)))
    assert from_document(document).phase.lanes == state.phase.lanes
    del document["phase"]["lanes"]
    assert from_document(document).phase.lanes == place((), state.phase.shares)


@pytest.mark.parametrize("lanes", [[[0, 5, "a"]], [["x", 5, "a"]], "nonsense", [[0, 5]], None])
def test_stored_lanes_that_are_damaged_are_refused_as_a_stored_state(lanes):
    document = as_document(start("model", PLAN, ramps=True))
    with pytest.raises(StateError, match="cannot be read"):
        from_document({**document, "phase": {**document["phase"], "lanes": lanes}})


def test_a_new_version_goes_on_from_the_lanes_of_the_one_before():
    before = start("model", PLAN, ramps=True).set_share(0.6, "a").set_share(0.2, "b").set_share(0.1, "a")
    other = start("model", canary([0.1, 0.25, 0.05, 0.1]), ramps=True, version="2")
    begun = before.begun_again(other)
    assert between([before.phase, begun.phase]) == 0
    assert set(moves(before.phase.lanes, begun.phase.lanes)) == {("control", "b"), ("control", "d")}
