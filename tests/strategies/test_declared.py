"""What an A/B test, a shadow or an interleaved test has declared is judged, and the verdict changes nothing."""

import json
import random

import pytest

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Runtime, Shadow, rollout
from rollout_sdk.plan import Criteria, from_written, written


def run(strategy, folder, users, *, bought=(0.1, 0.3), failing=0.0, effects=None):
    """A test of which the candidate's users buy with the second probability."""
    rng = random.Random(5)

    def candidate(user):
        if rng.random() < failing:
            raise ValueError
        return 2

    runtime = Runtime(journal=folder)
    options = {} if effects is None else {"effects": effects}
    model = rollout(candidate=candidate, strategy=strategy, unit="user", key="m", runtime=runtime, breaker=None, **options)(
        lambda user: 1
    )
    for user in range(users):
        routed = model.rollout.route(user)
        if rng.random() < bought[routed.value - 1]:
            model.rollout.record("buy", 1.0, decision_id=routed.decision.id)
        if effects and user % 50 == 49:
            runtime.flush(10)
    return model.rollout, runtime


def test_an_ab_test_with_a_gate_is_judged_and_goes_on(tmp_path):
    controller, runtime = run(ABTest(0.5, gates=[Gate("buy", mde=0.05)]), tmp_path, 2000)
    verdict = controller.judge()
    assert ("PASS", ("candidate",)) == (verdict.outcome, verdict.passed)
    assert ("running", 0, "0:50%") == (controller.status().status, controller.status().revision, controller.phase.name)
    runtime.close(5)


def test_an_ab_test_whose_candidate_fails_is_not_rolled_back_by_itself(tmp_path):
    controller, runtime = run(ABTest(0.5, guardrails=[Guardrail("error_rate")]), tmp_path, 1000, failing=0.5)
    assert ("FAIL", ("candidate",)) == (controller.judge().outcome, controller.judge().failed)
    assert ("running", 0) == (controller.status().status, controller.status().revision)
    runtime.close(5)


def test_nothing_declared_is_not_judged(tmp_path):
    controller, runtime = run(ABTest(0.5), tmp_path, 10)
    assert None is controller.judge()
    runtime.close(5)


@pytest.mark.parametrize(("failing", "outcome"), [(0.0, "PASS"), (0.3, "FAIL")])
def test_a_shadow_is_judged_by_the_runs_of_the_same_calls(tmp_path, failing, outcome):
    strategy = Shadow(1.0, guardrails=[Guardrail("error_rate")])
    controller, runtime = run(strategy, tmp_path, 800, failing=failing, effects="read")
    runtime.flush(10)
    assert outcome == controller.judge().outcome
    assert ("shadowing", 0) == (controller.status().status, controller.status().revision)
    runtime.close(5)


def test_what_a_test_is_judged_by_leaves_its_calls_comparable(tmp_path):
    plain, first = run(ABTest(0.5), tmp_path / "a", 1)
    declared, second = run(ABTest(0.5, gates=[Gate("buy")], alpha=0.01, horizon="14d"), tmp_path / "b", 1)
    assert plain.status().fingerprint == declared.status().fingerprint
    first.close(5)
    second.close(5)


def test_the_journal_says_what_a_test_is_judged_by(tmp_path):
    strategy = ABTest(0.5, gates=[Gate("buy", mde=0.05, window="1h")], guardrails=[Guardrail("latency", threshold_s=0.2)])
    _, runtime = run(strategy, tmp_path, 1)
    runtime.close(5)
    lines = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    (plan,) = [line["plan"] for line in lines if line["event"] == "rollout"]
    assert {
        "guardrails": [{"metric": "latency", "threshold_s": 0.2}],
        "gates": [{"metric": "buy", "mde": 0.05, "window": "1h"}],
    } == plan
    assert strategy.criteria == from_written(plan)


@pytest.mark.parametrize(
    "criteria",
    [
        Criteria.of_test([Guardrail("error_rate", on_fail="warn")], [Gate("buy", clip=(0, 5), better="lower")], alpha=0.1),
        Criteria.of_test(gates=[Gate("buy")], horizon=2000),
        Canary(["1%", "12.5%"], gates=[Gate("buy", horizon="14d")], max_calls_per_unit=9).criteria,
    ],
)
def test_a_plan_that_is_written_down_is_read_as_it_was(criteria):
    read = from_written(json.loads(json.dumps(written(criteria))))
    assert (criteria.all, criteria.steps, criteria.alpha, criteria.acts) == (read.all, read.steps, read.alpha, read.acts)
    assert criteria.max_calls_per_unit == read.max_calls_per_unit


def test_nothing_that_was_declared_is_no_plan():
    assert {} == written(ABTest(0.5).criteria)
    assert None is from_written({})
