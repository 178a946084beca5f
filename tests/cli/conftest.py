"""What tests of the command share: processes that serve rollouts, and the command with their store."""

import pytest
from click.testing import CliRunner

from rollout_sdk import Canary, Guardrail, Runtime, Step, rollout
from rollout_sdk.cli import main

STEPS = [Step("20%", min_units=20, min_time=0), "50%", "80%"]


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path}/rollouts.db"


@pytest.fixture
def process(address):
    """A process that serves a rollout."""
    made = []

    def make(*, allow=None, **options):
        runtime = Runtime(store=address, allow=allow)
        # Tests look, judge and announce by hand.
        runtime.reconciler.start = lambda: None
        made.append(runtime)
        strategy = options.pop("strategy", Canary(STEPS, guardrails=[Guardrail("error_rate", floor=0.2)]))
        return rollout(
            **{"candidate": lambda user: "new", "strategy": strategy, "unit": "user", "key": "shop.rank", **options},
            runtime=runtime,
        )(lambda user: "old")

    yield make
    for runtime in made:
        runtime.close(1.0)


@pytest.fixture
def command(address):
    def run(*words, code=0):
        result = CliRunner().invoke(main, [*words, "--store", address], catch_exceptions=False)
        assert code == result.exit_code, result.output
        return result.output

    return run


@pytest.fixture
def announced():
    """Has the store know a process and its plan, as the background does within a second."""

    def announce(model):
        reconciler = model.rollout._runtime.reconciler
        reconciler.look(reconciler.rollouts[model.rollout.key])
        if not reconciler._closed:
            reconciler.announce_presence()
        return model

    return announce
