"""A shadow test with guardrails comes to a verdict about the answers, through the public API."""

import pytest

from rollout_sdk import ABTest, ConfigurationError, Guardrail, Shadow, rollout


def judged(candidate, control, runtime, *, calls=300, metric="shadow.mismatch", **options):
    strategy = Shadow(1.0, guardrails=[Guardrail(metric, margin=0.02)])
    options = {"effects": "read", "key": "model", "unit": "user", **options}
    model = rollout(candidate=candidate, strategy=strategy, runtime=runtime, **options)(control)
    for number in range(calls):
        model(f"u{number}")
        if number % 50 == 0:
            runtime.flush(5.0)
    runtime.flush(5.0)
    return model


def test_a_candidate_that_answers_alike_passes(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000})
    model = judged(lambda user: [user, 1.0], lambda user: [user, 1.0], runtime)
    verdict = model.rollout.judge()
    assert verdict.outcome == "PASS"
    assert model.rollout.status().agreement["candidate"][:2] == (300, 300)
    assert "agrees in 100.00% of 300 pairs [" in str(model.rollout.status())
    assert model.rollout.status().phase == verdict.phase


def test_one_that_always_answers_otherwise_fails(watch):
    runtime = watch(shadows={"cpu_share": 1.0, "max_jobs": 1000})
    verdict = judged(lambda user: [user, 2.0], lambda user: [user, 1.0], runtime).rollout.judge()
    assert verdict.outcome == "FAIL"
    assert "shadow.mismatch" in verdict.reason


def test_an_ab_test_compares_no_answers():
    with pytest.raises(ConfigurationError, match=r"Use Shadow\(guardrails="):
        ABTest(0.5, guardrails=[Guardrail("shadow.mismatch", margin=0.02)])
