"""What the background thread finds while a rollout is decorated, which asks the store: nothing of it counts as lost."""

import os
from contextlib import closing

import pytest

from rollout_sdk import Canary, Guardrail, rollout
from tests.processes import Processes

LOOSE = [Guardrail("error_rate", floor=0.2)]


class Interrupted:
    """The store of a runtime, before and after each of whose answers something else happens."""

    def __init__(self, store):
        self.store, self.meanwhile = store, None

    def __getattr__(self, name):
        method = getattr(self.store, name)
        if not callable(method):
            return method

        def call(*args, **kwargs):
            self.interrupt()
            answer = method(*args, **kwargs)
            self.interrupt()
            return answer

        return call

    def within(self, _):
        return self

    def interrupt(self):
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
            self.meanwhile = meanwhile


@pytest.fixture
def runtime():
    with closing(Processes()) as processes:
        runtime = processes()
        runtime.reconciler.store = runtime.reconciler._sync._store = Interrupted(runtime.reconciler.store)
        yield runtime
        runtime.reconciler.store.meanwhile = None


MODULE = """
def control(user):
    return "old"

def candidate(user):
    return "new"
"""


def decorate(runtime, key="model", share="20%"):
    """As a module does that is imported anew: its functions have the same names, and are others."""
    module = {"__name__": "shop"}
    exec(MODULE, module)
    strategy = Canary([share, "50%"], guardrails=LOOSE)
    return rollout(candidate=module["candidate"], strategy=strategy, unit="user", key=key, runtime=runtime)(module["control"])


def what_happened(runtime, key="model"):
    """The actions in the history of a rollout, and their reasons."""
    return [(record["action"], record["reason"]) for record in runtime.store.history(key)]


def test_a_rollout_that_is_not_in_the_store_yet_is_not_lost(runtime):
    decorate(runtime, "another")
    runtime.reconciler.store.meanwhile = runtime.reconciler._watch
    model = decorate(runtime)
    runtime.reconciler.store.interrupt()
    assert what_happened(runtime) == [("start", "")]
    assert {"old", "new"} == {model(f"user-{user}") for user in range(100)}
    assert {} == runtime.faults


def test_a_rollout_that_is_decorated_again_with_other_settings_is_neither_lost_nor_replaced_by_others(runtime):
    old = decorate(runtime)
    runtime.reconciler.store.meanwhile = runtime.reconciler._watch
    new = decorate(runtime, share="30%")
    assert [action for action, _ in what_happened(runtime)] == ["start", "start"]
    assert {"old", "new"} == {new(f"user-{user}") for user in range(100)}
    assert {"old"} == {old(f"user-{user}") for user in range(100)}
    assert {} == runtime.faults


@pytest.mark.parametrize("share", ["20%", "30%"])
def test_a_look_that_has_begun_before_another_decoration_ends_without_a_trace(share, runtime):
    old, made = decorate(runtime), []

    def again():
        runtime.reconciler.store.meanwhile = None
        if not made:
            made.append(decorate(runtime, share=share))

    runtime.reconciler.store.meanwhile = again
    runtime.reconciler._watch()
    runtime.reconciler._watch()
    [new] = made
    assert {} == runtime.faults
    assert ({"old", "new"} if share == "20%" else {"old"}) == {old(f"user-{user}") for user in range(100)}
    assert [action for action, _ in what_happened(runtime)] == ["start"] * (1 if share == "20%" else 2)
    assert {"old", "new"} == {new(f"user-{user}") for user in range(100)}


def test_a_child_that_is_forked_meanwhile_asks_the_store_itself(runtime):
    found = []

    def fork():
        runtime.reconciler.store.meanwhile = None
        if found:
            return
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            try:
                for _ in range(2):
                    runtime.reconciler._watch()
                managed = runtime.reconciler.rollouts["model"]
                os.write(write, f"{what_happened(runtime)} {managed.local_state.closed}".encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            found.append(answer.read())
        os.waitpid(child, 0)

    runtime.reconciler.store.meanwhile = fork
    decorate(runtime)
    assert found == ["[('start', '')] False"]
