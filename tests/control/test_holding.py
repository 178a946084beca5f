"""A rollout whose candidates somebody has switched off for now: it goes on when the last of them lets go."""

import pytest

from rollout_sdk import ABTest, Canary, Shadow, rollout
from rollout_sdk.control.control_file import WantedRollout


@pytest.fixture
def model(runtime):
    return rollout(candidate=lambda user: "new", strategy=ABTest(1.0), unit="user", key="model", runtime=runtime)(
        lambda user: "old"
    )


def test_a_held_rollout_runs_no_candidate_and_goes_on_when_its_holder_lets_go(model):
    served = [model("u")]
    model.rollout.disable(holder="ann")
    served.append(model("u"))
    model.rollout.enable(holder="ann")
    served.append(model("u"))
    assert ["new", "old", "new"] == served


def test_it_is_held_until_the_last_holder_lets_go_and_nobody_lets_go_for_another(model):
    controller, served = model.rollout, []
    controller.disable(holder="ann")
    controller.disable(holder="bob")
    for letting_go in ("nobody", "ann", "ann", "bob"):
        controller.enable(holder=letting_go)
        served.append((model("u"), controller.is_disabled, controller.status().held_by))
    assert [
        ("old", True, ("ann", "bob")),
        ("old", True, ("bob",)),
        ("old", True, ("bob",)),
        ("new", False, ()),
    ] == served


def test_the_control_file_holds_for_itself_alone(model):
    controller = model.rollout
    controller.disable(holder="ann")
    controller.follow(disabled=False, wanted=WantedRollout(), version=1)
    assert ("old", ("ann",)) == (model("u"), controller.status().held_by)
    controller.follow(disabled=True, wanted=WantedRollout(), version=2)
    controller.enable(holder="ann")
    assert ("old", ("control file",)) == (model("u"), controller.status().held_by)


def test_what_is_held_is_said_by_its_status(model):
    model.rollout.disable(holder="a flag")
    assert "no candidate runs here: a flag holds it" in str(model.rollout.status())


def test_a_call_of_a_held_candidate_is_withheld_and_stays_the_candidates(model, runtime):
    model.rollout.disable(holder="ann")
    model("u")
    (event,) = runtime.routed()
    assert ("candidate", "control", "disabled") == (event.decision.variant, event.served, event.withheld)


def test_no_shadow_runs_while_it_is_held(runtime):
    seen = []
    candidate = lambda user: seen.append(user)
    model = rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", key="s", runtime=runtime)(lambda user: None)
    model.rollout.disable(holder="ann")
    model("u")
    assert runtime.flush(10.0)
    assert [] == seen


def test_letting_go_does_not_undo_an_abort(runtime):
    model = rollout(candidate=lambda user: "new", strategy=Canary(["100%"]), unit="user", key="canary", runtime=runtime)(
        lambda user: "old"
    )
    model.rollout.disable(holder="ann")
    model.rollout.abort(actor="ann")
    model.rollout.enable(holder="ann")
    assert ("old", True) == (model("u"), model.rollout.is_disabled)
