"""A small journal and what was made of it."""

import pytest

from rollout_sdk import ABTest, Gate, Guardrail, Runtime, rollout
from rollout_sdk.analysis import summarise


@pytest.fixture(scope="session")
def seen(tmp_path_factory):
    """A report of 60 calls."""
    folder = tmp_path_factory.mktemp("page")
    runtime = Runtime(journal=folder, key=b"k" * 16)
    strategy = ABTest(0.5, gates=[Gate("click", mde=0.1)], guardrails=[Guardrail("error_rate")])
    model = rollout(candidate=lambda unit: 1, strategy=strategy, unit="unit", key="rank", runtime=runtime)(lambda unit: 0)
    for number in range(60):
        model.rollout.record("click", number % 2, decision_id=model.rollout.route(f"u{number}").decision.id)
    runtime.close()
    return summarise(folder)


@pytest.fixture
def report(seen):
    return seen.rollouts[0]
