"""What a verdict asks for, case by case: the pure rules, without a store or a thread."""

from datetime import UTC, datetime

import pytest
from attrs import evolve

from rollout_sdk import Canary, Freeze, Guardrail, Step
from rollout_sdk.control.next_step import latch, next_step
from rollout_sdk.control.state import start
from rollout_sdk.judging import Finding, Verdict
from rollout_sdk.plan import Criteria

STEPS = [Step("5%", max_time="1h"), Step("50%", max_time="1h")]
PLAN = Criteria(steps=STEPS, guardrails=[Guardrail("error_rate")])
MONDAY_S = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def state(candidates=("v2",), **changed):
    begun = start(
        "m",
        Canary([dict.fromkeys(candidates, share) for share in (0.05, 0.5)]).rollout_phases("control", candidates),
        ramps=True,
    )
    return evolve(begun, **changed)


def verdict(outcome="INCONCLUSIVE", **fields):
    about = {
        "rollout": "m", "reason": "as the test says.", "phase": "0:5%", "revision": 0, "time_s": MONDAY_S, "units": {},
        "outcomes": {}, "passed": ("v2",) if outcome == "PASS" else (), "failed": ("v2",) if outcome == "FAIL" else (),
    }  # fmt: skip
    return Verdict(outcome=outcome, **{**about, **fields})


def asked(state, verdict, *, plan=PLAN, waited_s=0.0, approved=lambda approve, verdict: True):
    return next_step(state, plan, verdict, approved, waited_s)


def action(*args, **options):
    return asked(*args, **options).action


def broken():
    shares = Finding(
        name="assignment", kind="assignment", candidate=None, outcome="ERROR", reason="the shares are broken.", numbers={}
    )
    return verdict("FAIL", valid=False, findings=(shares,))


def test_an_alarm_is_raised_once_with_its_own_cause_also_where_something_else_decides():
    step = latch(state(), broken())
    assert ("invalidate", "the shares are broken.") == (step.action, step.reason)
    assert "the shares are broken." == step.change(state()).invalid
    assert None is latch(state(invalid="the first cause"), broken())
    assert None is latch(state(status="completed"), broken())
    assert None is latch(state(), verdict())


def test_an_invalid_rollout_is_rolled_back_and_does_nothing_else():
    invalid = state(invalid="the shares are broken.")
    assert "roll_back" == action(invalid, verdict("FAIL"))
    assert ["", "", ""] == [
        action(invalid, each, waited_s=9e9)
        for each in (verdict("PASS"), verdict(pauses=("cost",)), verdict("FUTILE", futile=("click",)))
    ]
    assert "held as invalid until a person clears it" == asked(invalid, verdict("PASS")).held
    paused = evolve(invalid, status="paused", paused_by=("cost",))
    assert "" == action(paused, verdict("PASS"))


@pytest.mark.parametrize(("status", "expected"), [("running", "promote"), ("shadowing", "promote"), ("aborted", "")])
def test_a_pass_goes_on_where_something_is_under_way(status, expected):
    assert expected == action(state(status=status), verdict("PASS"))


def test_of_several_that_failed_the_first_is_rolled_back():
    both = state(("v2", "v3"))
    step = asked(both, verdict("FAIL", failed=("v2", "v3")))
    assert ("v3",) == step.change(both).candidates


def test_a_check_that_pauses_comes_before_a_pass():
    step = asked(state(), verdict("PASS", pauses=("cost",)))
    assert ("pause", ("cost",)) == (step.action, step.change(state()).paused_by)


def test_a_pause_ends_by_itself_only_where_the_judge_made_it_for_a_check_that_holds_again():
    by_judge, by_person = (state(status="paused", paused_by=each) for each in (("cost",), ()))
    assert "resume" == action(by_judge, verdict())
    assert [""] * 3 == [
        action(by_judge, verdict(pauses=("cost",))),
        action(by_judge, verdict("ERROR")),
        action(by_person, verdict("PASS")),
    ]


@pytest.mark.parametrize(
    ("gates", "decided", "expected"),
    [
        (("click",), (), "pause"),
        (("click",), ("click",), ""),
        (("click", "buy"), ("click",), "pause"),
        (("click",), ("click", "buy"), ""),
        # A futile verdict that names no gate.
        ((), (), "pause"),
        ((), ("click",), "pause"),
    ],
)
def test_a_futile_gate_pauses_once(gates, decided, expected):
    assert expected == action(state(futile=decided), verdict("FUTILE", futile=gates))


@pytest.mark.parametrize(("waited_s", "expected"), [(3599.9, ""), (3600.0, "pause")])
def test_a_step_is_paused_at_its_max_time(waited_s, expected):
    assert expected == action(state(), verdict(), waited_s=waited_s)


def test_a_step_without_traffic_or_with_shares_of_another_hand_is_not_paused():
    assert "" == action(state(), verdict(idle=True), waited_s=9e9)
    for share in (0.02, 0.2):
        by_hand = state().set_share(share)
        assert not by_hand.is_planned
        assert "" == action(by_hand, verdict(), waited_s=9e9)


def test_a_freeze_window_and_an_approval_hold_a_pass_and_no_rollback():
    for plan, held in (
        (evolve(PLAN, freeze=[Freeze("10:00", "14:00", days=("mon",))]), "held by the freeze window"),
        (evolve(PLAN, approve=lambda verdict: False), "held until it is approved"),
    ):
        no = lambda approve, verdict: approve(verdict)
        step = asked(state(), verdict("PASS"), plan=plan, approved=no)
        assert ("", True) == (step.action, step.held.startswith(held))
        assert "roll_back" == action(state(), verdict("FAIL"), plan=plan, approved=no)


def test_which_of_several_everybody_gets_is_a_persons_choice_and_no_earlier_step_is():
    passed = verdict("PASS", passed=("v2", "v3"))
    both, last = state(("v2", "v3")), state(("v2", "v3"), step=1)
    assert ("promote", "") == (action(both, passed), action(last, passed))
    assert "v2, v3 have passed" in asked(last, passed).held
    assert "promote" == action(last, verdict("PASS", passed=("v2",)))
