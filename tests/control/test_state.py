"""The state of a rollout: pure transitions, every one of them."""

import math

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rollout_sdk import Canary, ConfigurationError, Phase, StateError, Step
from rollout_sdk.control import RolloutState
from rollout_sdk.control.state import start


def canary(*steps, candidates=("candidate",)):
    return start("model", Canary(steps).rollout_phases("control", candidates), ramps=True)


def running():
    return canary("5%", "25%")


def shadowing():
    return start("model", Canary([Step("0%", shadow="10%"), "5%", "25%"]).rollout_phases("control", ("candidate",)), ramps=True)


CAUSE = "the shares are broken."
STATES = {
    "shadowing": shadowing(),
    "running": running(),
    "paused": running().pause(),
    "promoted": running().promote().promote(),
    "rolled_back": running().roll_back(),
    "aborted": running().abort(),
    "invalid": running().invalidate(CAUSE),
    "paused and invalid": running().invalidate(CAUSE).pause(),
}
ACTIONS = {
    "promote": RolloutState.promote,
    "promote_full": RolloutState.promote_full,
    "skip_step": RolloutState.skip_step,
    "roll_back": RolloutState.roll_back,
    "pause": RolloutState.pause,
    "resume": RolloutState.resume,
    "set_share": lambda state: state.set_share("10%"),
    "abort": RolloutState.abort,
    "invalidate": lambda state: state.invalidate("another cause."),
    "clear": lambda state: state.resume(clear_invalid=True),
}
TABLE = {
    ("shadowing", "promote"): ("running", "1:5%"),
    ("shadowing", "promote_full"): ("promoted", "1:100%"),
    ("shadowing", "skip_step"): ("running", "1:25%"),
    ("shadowing", "roll_back"): ("rolled_back", "1:aborted"),
    ("shadowing", "pause"): ("paused", "0:0%"),
    ("shadowing", "resume"): "Cannot resume 'model': it is shadowing. This is possible while paused. It is running already.",
    ("shadowing", "set_share"): ("running", "1:10%"),
    ("shadowing", "abort"): ("aborted", "1:aborted"),
    ("running", "promote_full"): ("promoted", "1:100%"),
    ("running", "skip_step"): "Cannot skip a step of 'model': no step after 0:5% can be left out.",
    ("running", "roll_back"): ("rolled_back", "1:aborted"),
    ("paused", "promote_full"): ("promoted", "1:100%"),
    ("paused", "skip_step"): "Cannot skip a step of 'model': it is paused. This is possible while running. Resume it first.",
    ("paused", "roll_back"): ("rolled_back", "1:aborted"),
    ("promoted", "promote_full"): "Cannot promote 'model': it is promoted. This is possible while running or paused.",
    ("promoted", "skip_step"): "Cannot skip a step of 'model': it is promoted. This is possible while running. It is over:",
    ("promoted", "roll_back"): "Cannot roll back 'model': it is promoted. This is possible while running or paused.",
    ("rolled_back", "promote"): "Cannot promote 'model': it is rolled_back. This is possible while running. A rollback",
    ("rolled_back", "promote_full"): "Cannot promote 'model': it is rolled_back. This is possible while",
    ("rolled_back", "skip_step"): "Cannot skip a step of 'model': it is rolled_back. This is possible while running.",
    ("rolled_back", "roll_back"): "Cannot roll back 'model': it is rolled_back. This is possible while",
    ("rolled_back", "pause"): "Cannot pause 'model': it is rolled_back. This is possible while running. A rollback is final.",
    ("rolled_back", "resume"): "Cannot resume 'model': it is rolled_back. This is possible while paused. A rollback is final.",
    ("rolled_back", "set_share"): "Cannot set the share of 'model': it is rolled_back. This is possible while",
    ("rolled_back", "abort"): ("aborted", "2:aborted"),
    ("aborted", "promote_full"): "Cannot promote 'model': it is aborted. This is possible while running or paused. An abort is",
    ("aborted", "skip_step"): "Cannot skip a step of 'model': it is aborted. This is possible while running. An abort",
    ("aborted", "roll_back"): "Cannot roll back 'model': it is aborted. This is possible while running or paused. An abort is",
    ("running", "promote"): ("running", "1:25%"),
    ("running", "pause"): ("paused", "0:5%"),
    ("running", "resume"): "Cannot resume 'model': it is running. This is possible while paused. It is running already.",
    ("running", "set_share"): ("running", "1:10%"),
    ("running", "abort"): ("aborted", "1:aborted"),
    ("paused", "promote"): "Cannot promote 'model': it is paused. This is possible while running. Resume it first.",
    ("paused", "pause"): "Cannot pause 'model': it is paused. This is possible while running. It is paused already.",
    ("paused", "resume"): ("running", "0:5%"),
    ("paused", "set_share"): ("paused", "1:10%"),
    ("paused", "abort"): ("aborted", "1:aborted"),
    ("promoted", "promote"): "Cannot promote 'model': it is promoted. This is possible while running. It is over:",
    ("promoted", "pause"): "Cannot pause 'model': it is promoted. This is possible while running. It is over:",
    ("promoted", "resume"): "Cannot resume 'model': it is promoted. This is possible while paused. It is over:",
    ("promoted", "set_share"): "Cannot set the share of 'model': it is promoted. This is possible while running or paused.",
    ("promoted", "abort"): ("aborted", "3:aborted"),
    ("aborted", "promote"): "Cannot promote 'model': it is aborted. This is possible while running. An abort is final.",
    ("aborted", "pause"): "Cannot pause 'model': it is aborted. This is possible while running. An abort is final.",
    ("aborted", "resume"): "Cannot resume 'model': it is aborted. This is possible while paused. An abort is final.",
    ("aborted", "set_share"): "Cannot set the share of 'model': it is aborted. This is possible while running or paused.",
    ("aborted", "abort"): ("aborted", "1:aborted"),
    ("shadowing", "invalidate"): ("shadowing", "0:0%"),
    ("running", "invalidate"): ("running", "0:5%"),
    ("paused", "invalidate"): ("paused", "0:5%"),
    ("promoted", "invalidate"): "Cannot invalidate 'model': it is promoted. This is possible while running or paused.",
    ("rolled_back", "invalidate"): "Cannot invalidate 'model': it is rolled_back. This is possible while running or paused.",
    ("aborted", "invalidate"): "Cannot invalidate 'model': it is aborted. This is possible while running or paused.",
    ("shadowing", "clear"): "Cannot clear the alarm of 'model': it is not invalid.",
    ("running", "clear"): "Cannot clear the alarm of 'model': it is not invalid.",
    ("paused", "clear"): "Cannot clear the alarm of 'model': it is not invalid.",
    ("promoted", "clear"): "Cannot clear the alarm of 'model': it is promoted.",
    ("rolled_back", "clear"): "Cannot clear the alarm of 'model': it is rolled_back.",
    ("aborted", "clear"): "Cannot clear the alarm of 'model': it is aborted.",
    ("invalid", "promote"): "Cannot promote 'model': it is invalid: the shares are broken. The data so far",
    ("invalid", "promote_full"): "Cannot promote 'model': it is invalid: the shares are broken. The data so far",
    ("invalid", "skip_step"): "Cannot skip a step of 'model': it is invalid: the shares are broken. The data so far",
    ("invalid", "set_share"): "Cannot raise the share of 'model': it is invalid: the shares are broken. The data so far",
    ("invalid", "roll_back"): ("rolled_back", "1:aborted"),
    ("invalid", "pause"): ("paused", "0:5%"),
    ("invalid", "resume"): "Cannot resume 'model': it is running. This is possible while paused. It is running, and invalid.",
    ("invalid", "abort"): ("aborted", "1:aborted"),
    ("invalid", "invalidate"): ("running", "0:5%"),
    ("invalid", "clear"): ("running", "1:5%"),
    ("paused and invalid", "promote"): "Cannot promote 'model': it is paused. This is possible while running. Resume it first.",
    ("paused and invalid", "promote_full"): "Cannot promote 'model': it is invalid: the shares are broken.",
    ("paused and invalid", "skip_step"): "Cannot skip a step of 'model': it is paused.",
    ("paused and invalid", "set_share"): "Cannot raise the share of 'model': it is invalid: the shares are broken.",
    ("paused and invalid", "roll_back"): ("rolled_back", "1:aborted"),
    (
        "paused and invalid",
        "pause",
    ): "Cannot pause 'model': it is paused. This is possible while running. It is paused already.",
    ("paused and invalid", "resume"): ("running", "0:5%"),
    ("paused and invalid", "abort"): ("aborted", "1:aborted"),
    ("paused and invalid", "invalidate"): ("paused", "0:5%"),
    ("paused and invalid", "clear"): ("running", "1:5%"),
}


def test_the_table_has_every_status_and_every_action():
    assert set(TABLE) == {(status, action) for status in STATES for action in ACTIONS}


@pytest.mark.parametrize(("status", "action"), TABLE)
def test_every_action_in_every_status_does_what_the_table_says(status, action):
    expected = TABLE[status, action]
    if isinstance(expected, str):
        with pytest.raises(StateError) as caught:
            ACTIONS[action](STATES[status])
        assert str(caught.value).startswith(expected)
    else:
        after = ACTIONS[action](STATES[status])
        assert (after.status, after.phase.name) == expected


@pytest.mark.parametrize("status", ["invalid", "paused and invalid"])
@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_but_clearing_it_ends_an_alarm_and_its_first_cause_stays(status, action):
    before = STATES[status]
    try:
        after = ACTIONS[action](before)
    except StateError:
        after = before
    assert ("" if action == "clear" else CAUSE) == after.invalid


def test_a_share_may_always_be_lowered():
    state = two().invalidate(CAUSE)
    assert {"v2": 0.01, "v3": 0.05} == state.set_share("1%", "v2").phase.shares
    with pytest.raises(StateError, match="Cannot raise the share of"):
        state.set_share("6%", "v2")


def test_a_pause_of_the_judge_is_taken_over_by_a_person_and_forgotten_when_it_is_over():
    paused = running().pause(by=("returns",))
    assert [("returns",), (), (), ()] == [
        state.paused_by for state in (paused, paused.pause(), paused.resume(), paused.promote_full())
    ]


def test_a_state_error_is_a_runtime_error():
    with pytest.raises(RuntimeError):
        STATES["aborted"].promote()


def test_a_refused_action_changes_nothing():
    before = evolve(STATES["paused"])
    with pytest.raises(StateError):
        before.promote()
    assert before == STATES["paused"]


# Promote ----------------------------------------------------------------------------------------------------------------


def test_promotes_go_through_the_plan_to_everybody():
    state, seen = canary("1%", "10%", "50%"), []
    while state.status == "running":
        seen.append((state.phase.name, state.phase.shares["candidate"], state.status))
        state = state.promote()
    assert seen == [("0:1%", 0.01, "running"), ("1:10%", 0.1, "running"), ("2:50%", 0.5, "running")]
    assert (state.phase.name, state.phase.all_shares, state.status) == (
        "3:100%",
        {"control": 0.0, "candidate": 1.0},
        "promoted",
    )


def test_a_last_step_of_everybody_is_the_promotion_and_no_step():
    done = canary("50%", "100%").promote()
    assert (done.status, done.phase.name, done.revision) == ("promoted", "1:100%", 1)
    assert canary("50%").promote() == evolve(done)


def test_a_candidate_that_is_rolled_back_leaves_the_others_running_and_never_comes_back():
    state = canary({"a": "5%", "b": "10%"}, {"a": "20%", "b": "40%"}, candidates=("a", "b"))
    out = state.roll_back("b")
    assert (out.status, out.phase.shares, out.dropped) == ("running", {"a": 0.05, "b": 0.0}, ("b",))
    assert out.promote().phase.shares == {"a": 0.2, "b": 0.0}
    assert out.promote().promote().phase.shares == {"a": 1.0, "b": 0.0}
    assert out.roll_back().status == "rolled_back"
    with pytest.raises(StateError, match="Cannot tell which candidate"):
        out.set_share("5%", "b")


def test_a_new_version_begins_again_with_evidence_of_its_own_even_after_an_abort():
    old = evolve(running(), version="v1").promote().abort()
    old = evolve(old, invalid=CAUSE, valid_from=7, futile=("click",))
    new = old.begun_again(evolve(running(), version="v2"))
    assert ("", 0, ()) == (new.invalid, new.valid_from, new.futile)
    assert (new.status, new.phase.name, new.epoch, new.superseded, new.stopped) == ("running", "3:5%", 1, ("v1",), False)
    assert old.begun_again(evolve(running(), version="v1")).status == "aborted"


@pytest.mark.parametrize(
    ("share", "following"),
    [("1%", "2:5%"), ("5%", "1:25%"), ("10%", "2:25%"), ("25%", "2:50%"), ("30%", "2:50%"), ("60%", "2:100%")],
)
def test_after_another_share_promote_goes_to_the_next_planned_step_above_it(share, following):
    assert canary("5%", "25%", "50%").set_share(share).promote().phase.name == following


def test_a_share_can_be_lowered_and_raised_again_in_new_phases():
    state = running().set_share("1%").set_share("5%")
    assert (state.phase.name, state.phase.shares, state.revision) == ("2:5%", {"candidate": 0.05}, 2)


def test_the_share_that_it_has_already_changes_nothing():
    state = running()
    assert state.set_share(0.05) is state


@pytest.mark.parametrize("share", [1.5, -0.1, math.nan, True, "half", None])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigurationError, match=r"^The share of 'candidate' is "):
        running().set_share(share)


def test_a_strategy_without_steps_has_no_shares_to_change():
    state = start("model", [Phase("whole", {"candidate": 0.5})], ramps=False)
    for action in ("promote", "set_share"):
        with pytest.raises(StateError, match=r"its strategy has no steps. Steps belong to a canary. Use Canary\(\[...\]\)."):
            ACTIONS[action](state)
    assert state.pause().resume().abort().status == "aborted"


# Several candidates -----------------------------------------------------------------------------------------------------


def two():
    return canary({"v2": "5%", "v3": "5%"}, {"v2": "25%", "v3": "5%"}, candidates=("v2", "v3"))


def test_of_several_candidates_the_winner_must_be_named():
    last = two().promote()
    with pytest.raises(
        StateError, match=r"Cannot tell which candidate of 'model' is meant by None. .* Pass candidate= one of: v2, v3."
    ):
        last.promote()
    assert last.promote("v3").phase.all_shares == {"control": 0.0, "v2": 0.0, "v3": 1.0}


def test_before_the_end_nobody_needs_to_be_named():
    assert two().promote().phase.name == "1:v2=25%,v3=5%"


@pytest.mark.parametrize("state", [two(), two().promote(), running()], ids=["first", "last", "alone"])
@pytest.mark.parametrize(
    "act", [lambda state: state.promote("v9"), lambda state: state.set_share(0.1, "v9")], ids=["promote", "share"]
)
def test_an_unknown_candidate_is_refused_at_every_step(state, act):
    with pytest.raises(StateError, match="is meant by 'v9'"):
        act(state)


def test_one_candidates_share_leaves_the_others_alone():
    assert two().set_share("40%", "v3").phase == Phase("1:v2=5%,v3=40%", {"v2": 0.05, "v3": 0.4})


def test_shares_over_everybody_are_refused():
    with pytest.raises(ConfigurationError, match=r"add up to 101.0000%"):
        two().set_share("96%", "v3")


# Abort ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATES)
def test_after_an_abort_nobody_has_a_candidate(status):
    assert STATES[status].abort().phase.all_shares == {"control": 1.0, "candidate": 0.0}


def test_aborting_twice_changes_nothing():
    aborted = running().abort()
    assert aborted.abort() is aborted


def test_an_abort_where_nobody_had_a_candidate_is_a_new_phase_all_the_same():
    state = start("model", [Phase("shadow", {"candidate": 0.0})], ramps=False)
    assert state.abort().phase.name == "1:aborted"


# Begun again ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["running", "paused", "promoted"])
def test_with_other_settings_a_rollout_begins_again_in_a_new_phase(status):
    before = STATES[status]
    after = before.begun_again(canary("2%", "50%"))
    assert (after.status, after.step, after.number, after.revision) == ("running", 0, before.number + 1, before.revision + 1)
    assert after.phase == Phase(f"{before.number + 1}:2%", {"candidate": 0.02})


def test_an_abort_stays_with_other_settings():
    after = STATES["aborted"].begun_again(canary("2%", candidates=("v3",)))
    assert (after.status, after.phase.all_shares) == ("aborted", {"control": 1.0, "v3": 0.0})
    assert after.number > STATES["aborted"].number


# Whatever an operator does ----------------------------------------------------------------------------------------------

shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]))


class AnyOperator(RuleBasedStateMachine):
    """Takes any actions in any order."""

    @initialize(several=st.booleans(), steps=st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True))
    def begin(self, several, steps):
        self.candidates = ("v2", "v3") if several else ("v2",)
        plan = [dict.fromkeys(self.candidates, step / 100) for step in sorted(steps)]
        self.state = canary(*plan, candidates=self.candidates)
        self.before = self.state
        self.refused = self.cleared = False

    def act(self, action):
        self.before, self.refused, self.cleared = self.state, False, False
        try:
            self.state = action(self.state)
        except (StateError, ConfigurationError):
            self.refused = True

    @rule(data=st.data())
    def promote(self, data):
        self.act(lambda state: state.promote(data.draw(st.sampled_from([None, *self.candidates]))))

    @rule(share=shares, data=st.data())
    def set_share(self, share, data):
        self.act(lambda state: state.set_share(share, data.draw(st.sampled_from(self.candidates))))

    @rule(data=st.data())
    def promote_full(self, data):
        self.act(lambda state: state.promote_full(data.draw(st.sampled_from([None, *self.candidates]))))

    @rule()
    def skip_step(self):
        self.act(RolloutState.skip_step)

    @rule(data=st.data())
    def roll_back(self, data):
        self.act(lambda state: state.roll_back(data.draw(st.sampled_from(self.candidates))))

    @rule(by=st.sampled_from([(), ("returns",)]))
    def pause(self, by):
        self.act(lambda state: state.pause(by=by))

    @rule(clear_invalid=st.booleans())
    def resume(self, clear_invalid):
        self.act(lambda state: state.resume(clear_invalid=clear_invalid))
        self.cleared = clear_invalid and not self.refused

    @rule()
    def invalidate(self):
        self.act(lambda state: state.invalidate(CAUSE))

    @precondition(lambda self: self.state.revision > 3)
    @rule()
    def abort(self):
        self.act(RolloutState.abort)

    @invariant()
    def shares_are_at_most_everybody(self):
        assert math.fsum(self.state.phase.all_shares.values()) <= 1 + 1e-9
        assert all(0 <= share <= 1 for share in self.state.phase.all_shares.values())

    @invariant()
    def a_transition_raises_the_revision_by_one(self):
        assert self.state.revision - self.before.revision == (self.state is not self.before)

    @invariant()
    def a_refusal_changes_nothing(self):
        assert not self.refused or self.state is self.before

    @invariant()
    def an_abort_is_for_good(self):
        assert self.before.status != "aborted" or self.state is self.before
        assert self.state.status != "aborted" or set(self.state.phase.shares.values()) == {0.0}

    @invariant()
    def a_rollback_is_left_by_nothing_but_an_abort(self):
        assert self.before.status != "rolled_back" or self.state.status in ("rolled_back", "aborted")
        assert self.state.status != "rolled_back" or set(self.state.phase.shares.values()) == {0.0}

    @invariant()
    def who_was_rolled_back_never_has_a_share_again(self):
        assert set(self.before.dropped) <= set(self.state.dropped)
        assert not any(self.state.phase.shares[name] for name in self.state.dropped)

    @invariant()
    def a_phase_is_new_exactly_when_shares_change_an_alarm_is_cleared_or_everything_stops(self):
        changed = self.state.phase.shares != self.before.phase.shares
        stopped = self.state.stopped and self.state.status != self.before.status
        assert self.state.number - self.before.number == (changed or stopped or self.cleared)

    @invariant()
    def a_phase_is_named_by_its_number(self):
        assert self.state.phase.name.partition(":")[0] == str(self.state.number)

    @invariant()
    def the_plan_stays_as_it_was(self):
        assert self.state.plan == self.before.plan
        assert -1 <= self.state.step < len(self.state.plan)

    @invariant()
    def an_alarm_stays_until_it_is_cleared(self):
        assert not self.before.invalid or bool(self.state.invalid) != self.cleared

    @invariant()
    def while_it_is_invalid_no_share_grows(self):
        before, after = self.before.phase.shares, self.state.phase.shares
        assert not self.before.invalid or all(after[name] <= before[name] for name in after)

    @invariant()
    def only_a_pause_has_checks_that_it_is_for(self):
        assert self.state.status == "paused" or not self.state.paused_by

    @invariant()
    def promoted_is_everybody(self):
        assert self.state.status != "promoted" or max(self.state.phase.shares.values()) == 1.0


AnyOperator.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestWhateverAnOperatorDoes = AnyOperator.TestCase
