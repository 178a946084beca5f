"""How often the canary is wrong although it looks again and again, and how fast it is right. Simulated, and seeded.

The long version is `python benchmarks/canary_errors.py`, and in `make test-all`.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy")

_FILE = Path(__file__).parents[2] / "benchmarks" / "canary_errors.py"
_spec = importlib.util.spec_from_file_location("canary_errors", _FILE)
canary_errors = importlib.util.module_from_spec(_spec)
sys.modules["canary_errors"] = canary_errors
_spec.loader.exec_module(canary_errors)


def worse(world):
    from dataclasses import replace

    return replace(world, errors=2.0, worse=(0.02, 0.1))


def check(experiments, looks, world, first_seed):
    limit = canary_errors.bound(experiments) * experiments
    same = canary_errors.errors(world, experiments, looks, first_seed)
    assert max(same["rolled back"], same["gate passed"]) <= limit, same
    # Alpha of the check of the shares is 0.001.
    assert same["invalid"] <= max(1, 0.01 * experiments), same
    bad = canary_errors.errors(worse(world), experiments, looks, first_seed)
    assert bad["guardrail passed"] <= limit, bad


@pytest.mark.parametrize("world", canary_errors.WORLDS, ids=lambda world: world.name)
def test_the_same_model_on_both_sides_is_rarely_rolled_back_or_found_better_in_twenty_looks(world):
    check(15, 20, world, first_seed=1000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("world", canary_errors.WORLDS, ids=lambda world: world.name)
def test_the_same_model_on_both_sides_is_rarely_rolled_back_or_found_better_in_fifty_looks(world):
    check(400, 50, world, first_seed=0)


@pytest.mark.parametrize(("ratio", "most"), [(10.0, 10), (3.0, 25)])
def test_a_regression_at_one_percent_is_rolled_back_within_a_handful_of_errors(ratio, most):
    share, median = canary_errors.power(ratio, 9)
    assert 1.0 == share
    assert median <= most


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("ratio", "most"), [(10.0, 10), (3.0, 25)])
def test_a_hundred_regressions_at_one_percent_are_all_rolled_back_within_a_handful_of_errors(ratio, most):
    share, median = canary_errors.power(ratio, 100)
    assert 1.0 == share
    assert median <= most


def windows(success, requests, *, number=25, seed=1, share=0.5):
    """The verdicts of a canary that is looked at after every window of so many requests."""
    import random

    from rollout_sdk import Guardrail, Step
    from rollout_sdk.judging import Evidence, Situation, judge
    from rollout_sdk.plan import Criteria

    criteria, rng = Criteria(steps=[Step("50%", min_time=0)], guardrails=[Guardrail("error_rate")]), random.Random(seed)
    evidence = Evidence(criteria.all)
    situation = Situation(
        rollout="m", phase="0", revision=0, control="control", candidates=("v2",), step=criteria.steps[0], entered_s=0.0
    )
    for _ in range(number):
        for _ in range(requests):
            arm, cell = ("v2" if rng.random() < share else "control"), rng.getrandbits(32)
            failed = rng.random() > (success if arm == "v2" else 0.995)
            evidence.add_call(
                "0", arm, {"control": 1 - share, "v2": share}, cell, cell % 512, failed=failed, duration_s=0.0, time_s=0.0
            )
        yield judge(evidence, criteria, situation, 1.0).outcome


def test_a_healthy_candidate_with_little_traffic_is_not_aborted():
    """99.5 % at 20 requests a window: an alarm at any failure would abort nine of ten over 25 windows."""
    aborted = sum("FAIL" in windows(0.995, 20, seed=seed) for seed in range(100))
    assert aborted <= 100 * canary_errors.bound(100)


def test_an_unhealthy_candidate_with_much_traffic_is_aborted_in_the_first_windows():
    """95 % where the control has 99.5 %, at 1,000 requests a window."""
    for seed in range(10):
        verdicts = list(windows(0.95, 1000, seed=seed, number=3))
        assert "FAIL" in verdicts, (seed, verdicts)
