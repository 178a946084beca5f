"""A small journal and what was made of it."""

import pytest

from rollout_sdk import ABTest, Gate, Guardrail, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.control.stored import StoredRollout


@pytest.fixture(scope="session")
def seen(tmp_path_factory):
    """A report, a status of the store, and a verdict, of 60 calls."""
    folder = tmp_path_factory.mktemp("page")
    store = f"sqlite:///{folder}/rollouts.db"
    runtime = Runtime(journal=folder / "journal", store=store, key=b"k" * 16)
    strategy = ABTest(0.5, gates=[Gate("click", mde=0.1)], guardrails=[Guardrail("error_rate")])
    model = rollout(candidate=lambda unit: 1, strategy=strategy, unit="unit", key="rank", runtime=runtime)(lambda unit: 0)
    for number in range(60):
        model.rollout.record("click", number % 2, decision_id=model.rollout.route(f"u{number}").decision.id)
    runtime.flush()
    with StoredRollout(store, "rank") as stored:
        found = summarise(folder / "journal"), stored.status(), model.rollout.judge()
    runtime.close()
    return found


@pytest.fixture
def report(seen):
    return seen[0].rollouts[0]
