"""What a library keeps for each thread: looked at in the caller's, set in the shadow's. Modules stand in for the libraries."""

import sys
import threading
import types

import pytest

from rollout_sdk import Shadow, rollout
from rollout_sdk.assignment.hashing import bucket_of, point_of
from rollout_sdk.engine.shadows.caller_state import CallerState
from tests.faults.models import served, shadowed


class Umath(types.ModuleType):
    """How numpy before 2.0 keeps its error state: a list for each thread."""

    def __init__(self):
        super().__init__("numpy.core._multiarray_umath")
        self._of_thread = threading.local()

    def geterrobj(self):
        if not hasattr(self._of_thread, "state"):
            self._of_thread.state = [8192, 521, None]
        return self._of_thread.state

    def seterrobj(self, state):
        self._of_thread.state = state


@pytest.fixture
def umath(monkeypatch):
    module = Umath()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_shadow_has_its_callers_error_state_of_an_old_numpy_and_leaves_none(umath, watch):
    seen, runtime = [], watch(shadows={"workers": 1})
    model = shadowed(lambda x: x, lambda x: seen.append(list(umath.geterrobj())), runtime)
    umath.seterrobj([8192, 0, None])
    model(1)
    umath.seterrobj([8192, 521, None])
    model(2)
    assert runtime.flush(10)
    assert [[8192, 0, None], [8192, 521, None]] == seen


def test_a_failed_candidate_leaves_the_error_state_of_an_old_numpy_as_it_was(umath, watch):
    def spoils(x):
        umath.geterrobj()[1] = 0
        raise ValueError

    model = served(lambda x: umath.geterrobj(), spoils, watch())
    assert [8192, 521, None] == model(1)


def test_of_two_that_run_side_by_side_the_candidate_leaves_the_error_state_as_it_was(umath, watch):
    model = served(
        lambda rows: [1 for _ in rows],
        lambda rows: umath.seterrobj([8192, 0, None]) or [2 for _ in rows],
        watch(),
        batch=("rows",),
        unit="rows",
        override={1: "candidate", 2: "control"},
    )
    assert [2, 1] == model([1, 2])
    assert [8192, 521, None] == umath.geterrobj()


def test_a_torch_that_is_just_being_imported_is_a_fault_and_the_shadow_runs(monkeypatch, watch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    runtime = watch()
    model = shadowed(lambda x: x, lambda x: x, runtime)
    assert 1 == model(1)
    assert runtime.flush(10)
    assert {("candidate", "ok"): 1} == model.rollout.status().shadows
    assert {("surroundings.torch", "AttributeError"): 1} == model.rollout.status().faults


class Surrounds:
    name = "surrounds"

    def __init__(self):
        self.requests = []

    def rollout_surround(self, request):
        self.requests.append(request)


def test_a_plugin_that_surrounds_shadows_is_given_the_request_as_the_strategy_sees_it(watch):
    surrounds, runtime = Surrounds(), watch()
    model = rollout(
        candidate=lambda user: user, strategy=Shadow(1.0), unit="user", effects="read", key="m", plugins=[surrounds],
        runtime=runtime,
    )(lambda user: user)  # fmt: skip
    users = [f"u{number}" for number in range(4)]
    for user in users:
        model(user)
    assert runtime.flush(10)
    assert users == [request.arguments["user"] for request in surrounds.requests]
    for request, user in zip(surrounds.requests, users, strict=True):
        bucket = model.rollout.assign(user).bucket
        assert (point_of(request.digest), bucket) == (request.point, bucket_of(request.digest))


def test_a_state_that_cannot_be_entered_is_a_fault_and_what_runs_runs(umath):
    faults = []
    umath.seterrobj([8192, 0, None])
    state = CallerState.of((), lambda: None, lambda what, error: faults.append((what, type(error).__name__)))
    umath.seterrobj([8192, 521, None])
    umath.seterrobj = None
    assert "ran" == state.run(lambda: "ran")
    assert [("surroundings", "TypeError")] == faults


def test_without_such_libraries_and_plugins_there_is_nothing_to_enter(monkeypatch):
    for name in ("torch", "numpy.core._multiarray_umath"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert CallerState.of((), lambda: None, print) is None
