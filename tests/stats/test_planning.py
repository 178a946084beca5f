"""Sample sizes, detectable effects and durations, held against textbook values and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rollout_sdk.stats import (
    design_effect,
    log_e_two_sided,
    mde,
    plan_rho,
    planned_duration,
    planned_information,
    sample_size,
)


def test_the_fixed_sample_is_the_textbook_one():
    per_arm = 2 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 / 0.1**2
    assert math.ceil(2 * per_arm) == sample_size(effect=0.1, sigma=1)
    one_sided = 4 * (stats.norm.ppf(0.95) + stats.norm.ppf(0.9)) ** 2 * 9 / 0.5**2
    assert math.ceil(one_sided) == sample_size(effect=-0.5, sigma=3, one_sided=True, power=0.9)


def test_unequal_shares_and_clusters_multiply_the_sample_as_published():
    equal = sample_size(effect=0.01, sigma=1)
    factor = design_effect(cluster_size=10, cv=0.5, icc=0.05)
    assert pytest.approx(1 + ((1 + 0.25) * 10 - 1) * 0.05) == factor
    planned = sample_size(effect=0.01, sigma=1, share=0.05, design_effect=factor)
    assert pytest.approx(equal * 0.25 / (0.05 * 0.95) * factor, rel=1e-4) == planned


def test_a_rate_and_a_relative_effect_mean_what_they_say():
    by_sigma = sample_size(effect=0.005, sigma=math.sqrt(0.05 * 0.95))
    assert by_sigma == sample_size(effect=0.1, rate=0.05, relative=True)
    assert by_sigma == sample_size(effect=0.1, sigma=math.sqrt(0.05 * 0.95), mean=-0.05, relative=True)


@pytest.mark.parametrize(("one_sided", "boundary"), [(False, 3.035), (True, 2.769)])
def test_a_sequence_takes_the_square_of_its_boundary_more(one_sided, boundary):
    fixed = sample_size(effect=0.01, sigma=1, one_sided=one_sided)
    quantile = stats.norm.ppf(0.95 if one_sided else 0.975)
    expected = ((boundary + stats.norm.ppf(0.8)) / (quantile + stats.norm.ppf(0.8))) ** 2
    found = sample_size(effect=0.01, sigma=1, one_sided=one_sided, sequential=True) / fixed
    assert expected == pytest.approx(found, rel=1e-3)


def test_a_sequence_has_the_planned_power_at_its_last_look_and_more_when_watched():
    effect, power = 0.1, 0.8
    total = sample_size(effect=effect, sigma=1, sequential=True)
    information = planned_information(total=total, sigma=1)
    rho = plan_rho(information)
    rng = np.random.default_rng(4)
    looks, rounds = 25, 1000
    last = ever = 0
    for _ in range(rounds):
        score = np.cumsum(rng.normal(effect * information / looks, math.sqrt(information / looks), looks))
        infos = information * np.arange(1, looks + 1) / looks
        reached = [log_e_two_sided(s / i, i**-0.5, rho=rho) >= math.log(20) for s, i in zip(score, infos, strict=True)]
        last += reached[-1]
        ever += any(reached)
    assert pytest.approx(power, abs=3 * math.sqrt(0.16 / rounds)) == last / rounds
    assert ever / rounds > last / rounds


@given(st.floats(1e-3, 10), st.floats(0.1, 100), st.floats(0.01, 0.99), st.booleans(), st.booleans(), st.floats(1, 20))
def test_the_detectable_effect_is_the_inverse_of_the_sample_size(effect, sigma, share, one_sided, sequential, factor):
    options = {"sigma": sigma, "share": share, "one_sided": one_sided, "sequential": sequential, "design_effect": factor}
    total = sample_size(effect=effect, **options)
    assert mde(total=total, **options) <= effect * (1 + 1e-9)
    assert total == 1 or mde(total=total - 1, **options) > effect * (1 - 1e-9)


def test_a_relative_detectable_effect_is_a_part_of_the_rate():
    assert mde(total=1000, rate=0.2) / 0.2 == pytest.approx(mde(total=1000, rate=0.2, relative=True))


def test_a_constant_share_takes_the_sample_over_the_traffic():
    total = sample_size(effect=0.01, rate=0.1, share=0.2, sequential=True)
    days = planned_duration(traffic_per_day=5000, effect=0.01, rate=0.1, share=0.2, sequential=True)
    assert total == math.ceil(days * 5000 - 1e-6)


def test_the_days_of_a_ramp_are_worth_their_share_times_its_rest():
    constant = planned_duration(traffic_per_day=1000, effect=0.1, sigma=1)
    ramped = planned_duration(traffic_per_day=1000, effect=0.1, sigma=1, ramp=[(0.01, 1), (0.05, 2)])
    saved = (0.01 * 0.99 + 2 * 0.05 * 0.95) / 0.25
    assert 3 + constant - saved == pytest.approx(ramped)


def test_a_ramp_that_is_long_enough_ends_the_comparison_within_a_step():
    constant = planned_duration(traffic_per_day=1000, effect=0.1, sigma=1, share=0.2)
    assert constant == pytest.approx(planned_duration(traffic_per_day=1000, effect=0.1, sigma=1, ramp=[(0.2, 99), (0.5, 1)]))


GOOD = {"effect": 0.1, "sigma": 1.0}


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"effect": 0}, "effect"),
        ({"effect": math.nan}, "effect"),
        ({"sigma": None}, "exactly one"),
        ({"rate": 0.1}, "exactly one"),
        ({"sigma": None, "rate": 1.0}, "rate"),
        ({"sigma": -1.0}, "sigma"),
        ({"share": 0}, "share"),
        ({"share": 1.0}, "share"),
        ({"alpha": 0}, "alpha"),
        ({"power": 0.04}, "power"),
        ({"power": 1.0}, "power"),
        ({"design_effect": 0}, "design_effect"),
        ({"relative": True}, "mean"),
        ({"relative": True, "mean": 0}, "mean"),
    ],
)
def test_nonsense_is_refused_by_name(wrong, word):
    with pytest.raises(ValueError, match=f"sample_size.*{word}"):
        sample_size(**(GOOD | wrong))
    with pytest.raises(ValueError, match=f"planned_duration.*{word}"):
        planned_duration(traffic_per_day=1, **(GOOD | wrong))


@pytest.mark.parametrize(
    "call",
    [
        lambda: mde(total=0, sigma=1),
        lambda: planned_information(total=-1, sigma=1),
        lambda: planned_duration(traffic_per_day=0, **GOOD),
        lambda: planned_duration(traffic_per_day=1, ramp=[(0.1, -1)], **GOOD),
        lambda: planned_duration(traffic_per_day=1, ramp=[(0, 1)], **GOOD),
        lambda: design_effect(cluster_size=0, icc=0.1),
        lambda: design_effect(cluster_size=2, icc=1.1),
        lambda: design_effect(cluster_size=2, cv=-1, icc=0.1),
    ],
)
def test_impossible_amounts_are_refused(call):
    with pytest.raises(ValueError, match=r"\(.*\): .*|step"):
        call()
