"""Shares, phases and layers as values."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, Layer, Phase
from rollout_sdk.assignment import parse_share, percent, phase_label


@pytest.mark.parametrize(
    ("value", "share"),
    [
        (0, 0.0),
        (1, 1.0),
        (0.05, 0.05),
        ("5%", 0.05),
        (" 5 % ", 0.05),
        ("0.05%", 0.0005),
        ("100%", 1.0),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(1), 1.0),
        (Fraction(1, 4), 0.25),
    ],
)
def test_a_share_is_a_number_or_a_percentage(value, share):
    assert parse_share(value) == share


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        np.True_,
        None,
        "5",
        "0.05",
        "%",
        "five%",
        "nan%",
        "inf%",
        "",
        b"5%",
        [0.5],
        Decimal("0.5"),
        10**400,
        1j,
        math.nan,
        math.inf,
        -math.inf,
    ],
)
def test_what_is_no_share_is_refused(value):
    with pytest.raises(
        ConfigurationError, match=r"A share is a number from 0 to 1 or a text with a percent sign. Write 0.05 or '5%'."
    ):
        parse_share(value)


@pytest.mark.parametrize("value", [-0.01, 1.0001, "-1%", "101%", 5, 100, -(10**9)])
def test_a_share_outside_nobody_and_everybody_is_refused(value):
    with pytest.raises(ConfigurationError, match="A share "):
        parse_share(value)


def test_a_number_of_percent_is_refused_with_a_hint():
    with pytest.raises(ConfigurationError, match="Did you mean '5%'"):
        parse_share(5, "share of 'v2'")


def test_the_error_names_the_share_and_is_short():
    with pytest.raises(ConfigurationError, match=r"^The share of 'v2' is 'xxxx") as caught:
        parse_share("x" * 10_000, "share of 'v2'")
    assert len(str(caught.value)) < 300


def test_minus_zero_is_nobody():
    assert math.copysign(1, parse_share(-0.0)) == 1


@given(st.integers(0, 1_000_000))
def test_a_share_survives_being_printed(millionths):
    assert parse_share(percent(millionths / 1_000_000)) == pytest.approx(millionths / 1_000_000, abs=1e-12)


def test_a_phase_of_one_candidate_is_named_by_its_share():
    assert phase_label({"candidate": 0.0005}) == "0.05%"


def test_a_phase_of_several_candidates_names_them():
    assert phase_label({"v2": 0.05, "v3": 0.1}) == "v2=5%,v3=10%"


def test_a_phase_of_many_candidates_has_a_short_name_all_the_same():
    assert phase_label({f"candidate-{number}": 0.01 for number in range(50)}) == "50 candidates 50%"


def test_two_splits_of_many_candidates_have_two_names_and_the_same_split_has_one():
    equal = {f"candidate-{number}": 0.01 for number in range(50)}
    first, second = equal | {"candidate-0": 0.02, "candidate-1": 0.0}, equal | {"candidate-0": 0.0, "candidate-1": 0.02}
    names = [phase_label(shares) for shares in (equal, first, second, dict(reversed(first.items())))]
    assert (3, names[1]) == (len(set(names)), names[3])
    assert all(name.startswith("50 candidates 50%") for name in names)


def test_the_name_of_a_split_of_many_candidates_never_changes():
    # It is the name of a phase, by which results are grouped.
    assert "12 candidates 66% 8feca85b" == phase_label({f"candidate-{number}": number / 100 for number in range(12)})


def test_a_phase_reads_shares_as_everybody_else_does():
    assert Phase("p", {"v2": "5%", "v3": 0.1}).shares == {"v2": 0.05, "v3": 0.1}


def test_a_phase_gives_the_control_the_rest():
    assert Phase("p", {"v2": "25%", "v3": "25%"}, "legacy").all_shares == {"legacy": 0.5, "v2": 0.25, "v3": 0.25}


def test_a_phase_cannot_be_changed():
    with pytest.raises(TypeError):
        Phase("p", {"v2": 0.5}).shares["v2"] = 1.0


@pytest.mark.parametrize("share", [math.nan, -0.5, True, "half", None])
def test_a_phase_refuses_what_is_no_share(share):
    with pytest.raises(ConfigurationError, match="share of 'v2'"):
        Phase("p", {"v2": share})


def test_a_phase_refuses_more_than_everybody():
    with pytest.raises(ConfigurationError, match=r"add up to 110.0000% \(v2 60.0000%, v3 50.0000%\)"):
        Phase("p", {"v2": 0.6, "v3": 0.5})


def test_a_phase_without_some_candidates_keeps_the_others_and_is_itself_where_they_have_no_share():
    phase = Phase("0:10%", {"v2": 0.1, "v3": 0.2, "v4": 0.0}, shadow=0.3)
    assert {"v2": 0.1, "v3": 0.0, "v4": 0.0} == {name: phase.without(["v3"]).shares[name] for name in ("v2", "v3", "v4")}
    assert 0.3 == phase.without(["v3"]).shadow
    assert phase is phase.without(["v4"])
    assert phase is phase.without([])


def test_ten_candidates_with_a_tenth_each_are_everybody():
    assert Phase("p", {f"v{number}": 0.1 for number in range(10)}).all_shares["control"] == 0.0


def test_a_slot_is_written_as_shares_are():
    assert Layer("checkout", "25%", 0.5) == Layer("checkout", 0.25, 0.5)


@pytest.mark.parametrize("edges", [(0.5, 0.5), (0.6, 0.5), (0, 0)])
def test_a_slot_that_ends_before_it_starts_is_refused(edges):
    with pytest.raises(ConfigurationError, match="A slot must end after it starts"):
        Layer("checkout", *edges)


@pytest.mark.parametrize("edges", [(-0.1, 0.5), (0, 1.1), ("half", 1), (math.nan, 1)])
def test_a_slot_outside_the_layer_is_refused(edges):
    with pytest.raises(ConfigurationError, match="edge of a layer's slot"):
        Layer("checkout", *edges)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Layer("a", 0, 0.5), Layer("a", 0.5, 1), False),
        (Layer("a", 0, 0.5), Layer("a", 0.4, 1), True),
        (Layer("a"), Layer("a"), True),
        (Layer("a"), Layer("b"), False),
    ],
)
def test_slots_overlap_only_in_one_layer(one, other, overlap):
    assert (one.overlaps(other), other.overlaps(one)) == (overlap, overlap)
