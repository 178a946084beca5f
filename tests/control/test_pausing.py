"""Pauses that the judge makes: for a check, until it has recovered; for a person, who decides; and how long it waits."""

import pytest

from rollout_sdk import ABTest, Canary, Guardrail, StateError, Step, TransitionedEvent, rollout
from rollout_sdk.control.control_file import WantedRollout
from rollout_sdk.plan import Criteria

STEPS = [Step("20%", min_units=0, min_time=0, max_time="1h"), Step("50%", min_units=0, min_time=0)]


@pytest.fixture
def controller(clock, watch):
    strategy = Canary(STEPS, guardrails=[Guardrail("error_rate")])
    options = {"unit": "user", "key": "model", "runtime": watch(time_ns=clock)}
    return rollout(candidate=lambda user: "new", strategy=strategy, **options)(lambda user: "old").rollout


@pytest.fixture
def after(controller, says):
    """The status after a verdict."""

    def judge(**fields):
        says(**fields)
        controller.judge()
        return controller.status().status

    return judge


def transitions(controller):
    return [(event.action, event.actor) for event in controller.runtime.events() if isinstance(event, TransitionedEvent)]


# Checks that pause --------------------------------------------------------------------------------------------------------


def test_a_check_that_pauses_is_resumed_by_the_judge_when_it_has_recovered(controller, after):
    assert ["paused", "paused", "running"] == [after(pauses=("returns",)), after(pauses=("returns",)), after()]
    assert [("pause", "judge"), ("resume", "judge")] == transitions(controller)
    assert () == controller.status().paused_by


def test_the_status_names_what_it_is_paused_for(controller, after):
    after(pauses=("returns", "latency>0.25s"))
    status = controller.status()
    assert ("returns", "latency>0.25s") == status.paused_by
    assert "  paused until it has recovered: returns, latency>0.25s" in str(status).splitlines()


def test_a_check_that_pauses_holds_a_step_that_would_pass(after):
    assert "paused" == after(outcome="PASS", pauses=("returns",))


def test_what_could_not_be_judged_has_not_recovered(after):
    assert ["paused", "paused", "running"] == [after(pauses=("returns",)), after(outcome="ERROR"), after()]


def test_while_paused_it_is_judged_on_and_rolled_back(after):
    assert ["paused", "rolled_back"] == [after(pauses=("returns",)), after(outcome="FAIL")]


def test_after_it_has_recovered_the_step_has_its_time_once_more(after, clock):
    after(pauses=("returns",))
    clock.advance(86_400)
    seen = [after()]
    for seconds in (3599, 1):
        clock.advance(seconds)
        seen.append(after())
    assert ["running", "running", "paused"] == seen


def test_a_pause_of_a_person_never_ends_by_itself(controller, after):
    controller.pause(actor="ann", reason="let me look")
    assert ["paused", "paused", "paused"] == [after(), after(pauses=("returns",)), after(outcome="PASS")]


def test_a_person_takes_a_pause_of_the_judge_over(controller, after):
    after(pauses=("returns",))
    controller.pause(actor="ann", reason="let me look")
    assert ("paused", ()) == (after(), controller.status().paused_by)
    with pytest.raises(StateError, match="It is paused already"):
        controller.pause(actor="ann", reason="again")


@pytest.mark.parametrize("status", ["running", "paused by the judge"])
def test_a_control_file_that_wants_a_pause_gets_one_that_stays(controller, after, status):
    if status != "running":
        after(pauses=("returns",))
    controller.follow(disabled=False, wanted=WantedRollout("paused"), version=1)
    assert ["paused", "paused"] == [after(), after(outcome="PASS")]


def test_a_control_file_pauses_before_what_may_be_refused(controller, after):
    after(outcome="ERROR", valid=False)
    with pytest.raises(StateError, match="raise the share of"):
        controller.follow(disabled=False, wanted=WantedRollout("paused", {None: 0.9}), version=1)
    assert "paused" == controller.status().status


def test_a_control_file_pauses_a_rollout_that_only_shadows(clock, watch):
    strategy = Canary([Step("0%", shadow="10%"), "5%"])
    options = {"unit": "user", "key": "model", "runtime": watch(time_ns=clock), "effects": "read"}
    shadowing = rollout(candidate=lambda user: "new", strategy=strategy, **options)(lambda user: "old").rollout
    shadowing.follow(disabled=False, wanted=WantedRollout("paused"), version=1)
    assert "paused" == shadowing.status().status


def test_a_control_file_aborts_before_what_may_be_refused(watch):
    options = {"strategy": ABTest(0.5), "unit": "user", "key": "model", "runtime": watch()}
    split = rollout(candidate=lambda user: "new", **options)(lambda user: "old").rollout
    split.follow(disabled=False, wanted=WantedRollout("aborted", {}, Criteria(steps=["5%"])), version=1)
    assert "aborted" == split.status().status


def test_an_invalid_rollout_is_neither_paused_nor_resumed_by_the_judge(after):
    assert ["paused", "paused", "paused"] == [after(pauses=("returns",)), after(outcome="ERROR", valid=False), after()]


def test_a_pause_for_a_check_that_is_over_by_another_way_leaves_nothing_behind(controller, after):
    after(pauses=("returns",))
    controller.abort(actor="ann", reason="pager")
    assert () == controller.status().paused_by


# Futility -----------------------------------------------------------------------------------------------------------------


def test_a_futile_gate_pauses_for_a_person_and_does_not_go_on_by_itself(controller, after):
    assert ["paused", "paused"] == [after(outcome="FUTILE", futile=("click",)), after()]
    (event,) = [event for event in controller.runtime.events() if isinstance(event, TransitionedEvent)]
    assert ("pause", "judge") == (event.action, event.actor)
    assert "it cannot be expected to pass, so a person decides: as the test says." == event.reason


def test_a_person_who_resumes_has_decided_about_that_gate_and_no_other(controller, after):
    after(outcome="FUTILE", futile=("click",))
    controller.resume(actor="ann", reason="we want it anyway")
    seen = [after(outcome="FUTILE", futile=gates) for gates in (("click",), ("click", "buy"))]
    assert ["running", "paused"] == seen


def test_a_futile_gate_that_was_decided_about_still_has_a_time_to_wait(controller, after, clock):
    after(outcome="FUTILE", futile=("click",))
    controller.resume(actor="ann", reason="we want it anyway")
    clock.advance(3600)
    assert "paused" == after(outcome="FUTILE", futile=("click",))


# Idle ---------------------------------------------------------------------------------------------------------------------


def test_the_time_to_wait_does_not_run_out_without_traffic(after, clock):
    seen = []
    for idle, seconds in ((True, 7200), (True, 7200), (False, 1800), (True, 7200), (False, 1799), (False, 1)):
        clock.advance(seconds)
        seen.append(after(idle=idle))
    assert ["running"] * 5 + ["paused"] == seen
