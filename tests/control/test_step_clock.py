"""How long a step has lasted: a jump of the wall clock ends none early, and a process that joins begins none anew."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import Canary, Gate, Guardrail, Runtime, Step, rollout
from rollout_sdk.control.state import start
from rollout_sdk.control.step_clock import StepClock

HOUR = 3600.0
T0 = 1_800_000_000.0
LOOSE = [Guardrail("error_rate", floor=0.2)]


class Clocks:
    """The wall clock and the monotonic clock of one machine; time passes on both, a jump moves the wall clock alone."""

    def __init__(self, wall_s=T0, mono_s=5000.0):
        self.wall_ns, self.mono_ns = int(wall_s * 1e9), int(mono_s * 1e9)

    def wall(self):
        return self.wall_ns

    def mono(self):
        return self.mono_ns

    def pass_by(self, seconds):
        self.wall_ns += int(seconds * 1e9)
        self.mono_ns += int(seconds * 1e9)

    def jump(self, seconds):
        self.wall_ns += int(seconds * 1e9)

    def sleep(self, seconds):
        """The machine is suspended: its monotonic clock stands still."""
        self.jump(seconds)

    @property
    def now(self):
        return self.wall_ns / 1e9, self.mono_ns / 1e9


def state(entered_s=T0, phase=0, resumed_s=0.0):
    begun = start("m", Canary(["5%"]).rollout_phases("control", ("candidate",)), ramps=True)
    return evolve(begun, phase=evolve(begun.phase, name=f"{phase}:5%"), number=phase, entered_s=entered_s, resumed_s=resumed_s)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 86_400.0, -86_400.0])
def test_a_process_that_is_there_from_the_start_counts_what_passed_whatever_the_wall_clock_does(jump):
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(600)
    clocks.jump(jump)
    clocks.pass_by(600)
    clock.look(state(), *clocks.now)
    assert (1200.0, 1200.0) == (clock.elapsed_s, clock.waited_s)


def test_a_process_that_joins_later_takes_what_had_passed_from_the_stored_wall_clock():
    clocks, clock = Clocks(), StepClock()
    clocks.pass_by(1800)
    clock.look(state(), *clocks.now)
    clocks.pass_by(60)
    clock.look(state(), *clocks.now)
    assert 1860.0 == clock.elapsed_s


def test_a_process_that_joined_with_a_wrong_wall_clock_is_corrected_when_it_is_set_right():
    clocks, clock = Clocks(wall_s=T0 + HOUR), StepClock()
    clocks.pass_by(600)
    clock.look(state(), *clocks.now)
    clocks.jump(-HOUR)
    clocks.pass_by(60)
    clock.look(state(), *clocks.now)
    assert 660.0 == clock.elapsed_s


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_process_that_joins_after_a_jump_goes_on_from_what_the_others_have_noted(jump):
    clocks, first = Clocks(), StepClock()
    first.look(state(), *clocks.now)
    clocks.pass_by(900)
    clocks.jump(jump)
    first.look(state(), *clocks.now)
    note = first.note(clocks.now[0])
    clocks.pass_by(5)
    joins = StepClock()
    joins.look(state(), *clocks.now, note)
    assert (905.0, 905.0) == (joins.elapsed_s, joins.waited_s)


@pytest.mark.parametrize(
    "note",
    [
        None,
        "no JSON",
        "[]",
        "{}",
        json.dumps({"phase": "7:50%", "resumed_s": 0.0, "time_s": T0, "elapsed_s": 9e9, "waited_s": 9e9}),
        json.dumps({"phase": "0:5%", "resumed_s": 0.0, "time_s": T0, "elapsed_s": "long", "waited_s": 1}),
        json.dumps({"phase": "0:5%", "resumed_s": 0.0, "time_s": T0, "elapsed_s": float("nan"), "waited_s": 1}),
        json.dumps({"phase": "0:5%", "resumed_s": 0.0, "time_s": T0, "elapsed_s": -1, "waited_s": 1}),
    ],
)
def test_a_note_about_another_phase_or_that_cannot_be_read_says_nothing(note):
    clocks, clock = Clocks(), StepClock()
    clocks.pass_by(300)
    clock.look(state(), *clocks.now, note)
    assert 300.0 == clock.elapsed_s


def test_a_step_that_another_machine_began_by_a_clock_of_its_own_began_no_longer_ago_than_the_last_look():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(0.5)
    # That machine's clock is an hour behind.
    clock.look(state(entered_s=clocks.now[0] - HOUR, phase=1), *clocks.now)
    clocks.pass_by(60)
    clock.look(state(entered_s=clocks.now[0] - HOUR, phase=1), *clocks.now)
    assert 60.5 == clock.elapsed_s


def test_while_a_machine_is_suspended_its_step_does_not_go_on():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(60)
    clocks.sleep(8 * HOUR)
    clocks.pass_by(60)
    clock.look(state(), *clocks.now)
    assert 120.0 == clock.elapsed_s


def test_a_step_that_is_resumed_is_waited_for_anew_and_has_lasted_all_the_same():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(100)
    resumed = state(resumed_s=clocks.now[0])
    clock.look(resumed, *clocks.now)
    clocks.pass_by(10)
    clock.look(resumed, *clocks.now)
    assert (110.0, 10.0) == (clock.elapsed_s, clock.waited_s)


def test_time_without_traffic_is_not_waited_for_and_a_process_that_joins_knows():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    for idle in (False, True, True, False):
        clocks.pass_by(100)
        clock.look(state(), *clocks.now)
        clock.judged(idle=idle)
    joins = StepClock()
    joins.look(state(), *clocks.now, clock.note(clocks.now[0]))
    assert [(400.0, 200.0)] * 2 == [(each.elapsed_s, each.waited_s) for each in (clock, joins)]


def test_time_without_traffic_before_a_step_was_resumed_is_not_taken_off_what_it_is_waited_for_since():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(200)
    clock.look(state(), *clocks.now)
    clock.judged(idle=True)
    resumed = state(resumed_s=clocks.now[0])
    clock.look(resumed, *clocks.now)
    clocks.pass_by(300)
    clock.look(resumed, *clocks.now)
    clock.judged(idle=False)
    assert 300.0 == clock.waited_s


def test_a_note_from_before_a_step_was_resumed_says_how_long_it_has_lasted_and_not_how_long_it_is_waited_for():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(900)
    clock.look(state(), *clocks.now)
    note, resumed = clock.note(clocks.now[0]), state(resumed_s=clocks.now[0])
    clocks.pass_by(10)
    joins = StepClock()
    joins.look(resumed, *clocks.now, note)
    assert (910.0, 10.0) == (joins.elapsed_s, joins.waited_s)


def test_the_time_that_others_have_waited_is_not_idle_for_a_process_that_joins():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(900)
    clock.look(state(), *clocks.now)
    joins = StepClock()
    joins.look(state(), *clocks.now, clock.note(clocks.now[0]))
    clocks.pass_by(100)
    joins.look(state(), *clocks.now)
    joins.judged(idle=True)
    assert 900.0 == joins.waited_s


def test_a_process_that_is_there_goes_by_its_own_clock_and_not_by_the_note_of_another():
    clocks, clock = Clocks(), StepClock()
    clock.look(state(), *clocks.now)
    clocks.pass_by(1)
    note = {"phase": "1:5%", "resumed_s": 0.0, "time_s": clocks.now[0], "elapsed_s": 9e3, "waited_s": 9e3}
    clock.look(state(entered_s=clocks.now[0], phase=1), *clocks.now, json.dumps(note))
    assert (0.0, 0.0) == (clock.elapsed_s, clock.waited_s)


def test_no_clock_that_is_set_back_makes_a_time_negative():
    """With an injected wall clock, that clock counts, and it may be set to anything."""
    clock = StepClock()
    clock.look(state(), T0 + 100, 5000.0)
    clock.look(state(), T0 - 1000, 3900.0)
    assert (0.0, 0.0) == (clock.elapsed_s, clock.waited_s)


seconds = st.floats(0, 10_000)


@given(seconds, st.lists(st.tuples(seconds, st.floats(-10_000, 10_000)), max_size=8))
def test_a_step_never_seems_longer_than_it_was_and_never_shorter_than_it_was_seen(joined_s, history):
    """The wall clock is right when the process joins, and anything afterwards."""
    clocks, clock = Clocks(), StepClock()
    clocks.pass_by(joined_s)
    clock.look(state(), *clocks.now)
    seen = 0.0
    for passed, jump in history:
        clocks.pass_by(passed)
        clocks.jump(jump)
        seen += passed
        clock.look(state(), *clocks.now)
        assert seen - 1e-3 <= clock.elapsed_s <= joined_s + seen + 1e-3


# Through the API ----------------------------------------------------------------------------------------------------------


def decorate(runtime, steps, **plan):
    strategy = Canary(steps, guardrails=LOOSE, **plan)
    return rollout(candidate=lambda user: 1, strategy=strategy, unit="user", key="m", runtime=runtime)(lambda user: 0)


def serve(model, users=600):
    for user in range(users):
        model(f"user-{user}")


STEPS = [Step("20%", min_units=20, min_time="1h", max_time="3h"), Step("50%", min_units=20, min_time="1h")]


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_an_hour_ends_no_step_early(jump):
    clocks = Clocks()
    model = decorate(Runtime(time_ns=clocks.wall, monotonic_ns=clocks.mono), STEPS)
    serve(model)
    seen = []
    for minutes in (10, 49, 1):
        clocks.pass_by(minutes * 60)
        clocks.jump(jump)
        model.rollout.judge()
        seen.append(model.rollout.status().phase)
    assert ["0:20%", "0:20%", "1:50%"] == seen


@pytest.mark.parametrize("jump", [6 * HOUR, -6 * HOUR])
def test_a_jump_does_not_use_up_the_time_that_a_verdict_is_waited_for(jump):
    clocks = Clocks()
    model = decorate(Runtime(time_ns=clocks.wall, monotonic_ns=clocks.mono), STEPS, gates=[Gate("click")])
    seen = []
    for minutes in (90, 89, 1):
        clocks.pass_by(minutes * 60)
        clocks.jump(jump)
        # Without traffic, nothing is waited for.
        serve(model)
        model.rollout.judge()
        seen.append(model.rollout.status().status)
    assert ["running", "running", "paused"] == seen


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_service_that_is_restarted_after_a_jump_ends_the_step_in_its_time(tmp_path, jump):
    clocks = Clocks()

    def begin():
        runtime = Runtime(store=f"sqlite:///{tmp_path}/rollouts.db", time_ns=clocks.wall, monotonic_ns=clocks.mono)
        runtime.reconciler.start = lambda: None
        return runtime, decorate(runtime, STEPS)

    runtime, model = begin()
    serve(model)
    seen = []
    for minutes in (20, 39, 1):
        clocks.pass_by(minutes * 60)
        clocks.jump(jump)
        model.rollout.judge()
        seen.append(model.rollout.status().phase)
        runtime.close(1.0)
        # Another machine: its monotonic clock says something else.
        clocks.mono_ns = 7 * 10**9
        runtime, model = begin()
    runtime.close(1.0)
    assert ["0:20%", "0:20%", "1:50%"] == seen


def test_with_an_injected_wall_clock_that_clock_alone_counts():
    clocks = Clocks()
    model = decorate(Runtime(time_ns=clocks.wall), STEPS)
    serve(model)
    clocks.jump(HOUR)
    model.rollout.judge()
    assert "1:50%" == model.rollout.status().phase
