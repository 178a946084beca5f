"""A plan rehearsed with simulated users: it finds what is there, and hardly ever what is not."""

import json

import pytest
from click.testing import CliRunner

from rollout_sdk import ABTest, ConfigurationError, Gate, Guardrail
from rollout_sdk.analysis.rehearsal import METRIC, Users, rehearse, strategies_for
from rollout_sdk.cli import main

FEW = Users(per_day=160, days=4, rate=0.4, effect=0.3)


def test_an_effect_is_shipped_none_is_not_and_the_same_seed_gives_the_same():
    plan = ABTest(0.5, gates=[Gate(METRIC, mde=0.3)])
    found = rehearse(plan, FEW, runs=2)
    assert (2, 0, 0) == (found.better.ships, found.same.ships, found.worse.ships)
    assert 2 == found.worse.stops
    assert 0 < found.better.days <= 4
    # Half of the users until then, as far as chance has it.
    assert found.better.exposed == pytest.approx(found.better.days * 80, rel=0.3)
    assert rehearse(plan, FEW, runs=1) == rehearse(plan, FEW, runs=1) != rehearse(plan, FEW, runs=1, seed=1)


def test_a_plan_that_can_never_conclude_waits_to_the_end():
    found = rehearse(ABTest(0.1, guardrails=[Guardrail("error_rate", floor=0.001)]), FEW, runs=1)
    assert (0, 0, 4.0) == (found.same.ships, found.same.stops, found.same.days)


def test_all_four_strategies_are_rehearsed_and_told_in_80_columns():
    arguments = ["simulate", "strategies", "--units-per-day", "80", "--rate", "0.4", "--effect", "0.3", "--days", "1"]
    told = CliRunner().invoke(main, [*arguments, "--runs", "1"], catch_exceptions=False)
    assert 0 == told.exit_code
    assert max(map(len, told.stdout.splitlines())) <= 80
    for name in strategies_for(FEW):
        assert name in told.stdout
    as_json = CliRunner().invoke(main, [*arguments, "--runs", "1", "--json"], catch_exceptions=False)
    table = json.loads(as_json.stdout)
    assert ["shadow", "canary", "ab", "interleave"] == [each["strategy"] for each in table["strategies"]]
    # Nobody sees a shadow, and everybody an interleaved list.
    shadow, _, ab, interleave = (each["worse"]["exposed"] for each in table["strategies"])
    assert 0 == shadow < ab < interleave


@pytest.mark.parametrize(
    "wrong", [{"per_day": 3}, {"days": 0}, {"rate": 1.0}, {"effect": 0.0}, {"effect": 0.5}, {"error_rate": 1.0}], ids=str
)
def test_users_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        Users(**{"per_day": 100, "rate": 0.4, "effect": 0.1, **wrong})


@pytest.mark.slow
def test_hardly_any_test_without_an_effect_is_shipped():
    # Without failures: with some, it is the guardrail on them that has too few of these users to pass.
    users = Users(per_day=400, days=10, rate=0.2, effect=0.08, error_rate=0.0)
    found = rehearse(strategies_for(users)["ab"], users, runs=60)
    # alpha, and three standard errors.
    assert found.same.ships <= 60 * 0.05 + 3 * (60 * 0.05 * 0.95) ** 0.5
    assert found.better.ships > 30
