"""What these tests share: a runtime of their own, rollouts in it, and OpenFeature as it was before."""

import itertools
import threading
import time

import pytest
import structlog
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from rollout_sdk import ABTest, Canary, Runtime, rollout
from rollout_sdk.testing import RecordingPlugin

_domains = itertools.count()


@pytest.fixture(autouse=True)
def clean():
    """OpenFeature and structlog are the process's: what a test sets there is gone after it, and no thread of ours is left."""
    yield
    api.shutdown()
    if structlog.is_configured():
        structlog.reset_defaults()
    assert [thread.name for thread in threading.enumerate() if thread.name == "rollout-flags"] == []


@pytest.fixture
def seen():
    """Every event of the runtime."""
    return RecordingPlugin()


@pytest.fixture
def runtime(seen):
    runtime = Runtime(plugins=[seen])
    yield runtime
    runtime.close()


@pytest.fixture
def ranked(runtime):
    """Makes a rollout: a function of a unit that says which variant answered."""

    def make(strategy=None, *, candidates=("v2",), **options):
        functions = {name: (lambda user, name=name: name) for name in candidates}
        options = {"unit": "user", "key": "shop.rank", "effects": "read", "runtime": runtime, **options}
        strategy = ABTest(0.5) if strategy is None else strategy
        return rollout(candidates=functions, strategy=strategy, **options)(lambda user: "control")

    return make


@pytest.fixture
def canary(ranked):
    return ranked(Canary(["5%", "50%"]))


@pytest.fixture
def client_of():
    """A client whose provider is this one, in a domain of its own."""

    def make(provider):
        domain = f"test-{next(_domains)}"
        api.set_provider_and_wait(provider, domain)
        return api.get_client(domain)

    return make


class Flags(InMemoryProvider):
    """Flags in memory that can be set, and go missing: `flags(share=0.1)`; counts who they were evaluated for."""

    def __init__(self):
        super().__init__({})
        self.asked = []

    def __call__(self, **values):
        self._flags = {
            name: value if isinstance(value, InMemoryFlag) else InMemoryFlag("a", {"a": value})
            for name, value in values.items()
        }

    def _resolve(self, flag_key, default_value, evaluation_context):
        self.asked.append((flag_key, evaluation_context.targeting_key, dict(evaluation_context.attributes)))
        return super()._resolve(flag_key, default_value, evaluation_context)


@pytest.fixture
def flags():
    return Flags()


@pytest.fixture
def context():
    return lambda unit=None: EvaluationContext(targeting_key=unit)


@pytest.fixture
def until():
    """Waits until something is so, for ten seconds at most; gives what it was last."""

    def wait(look, wanted):
        deadline = time.monotonic() + 10
        while (found := look()) != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    return wait
