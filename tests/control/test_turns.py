"""Of many processes that find the last verdict too old at once, one judges; and where that takes long, verdicts are rarer."""

import json
from contextlib import contextmanager

import pytest

from rollout_sdk import Canary, Guardrail, Runtime, Step, rollout
from rollout_sdk.control import judge_loop
from rollout_sdk.control.stored_status import verdict_from_note
from rollout_sdk.testing import FakeClock

from .test_lost_store import LostStore

PLAN = Canary([Step("50%", min_units=10_000, min_time=0)], guardrails=[Guardrail("error_rate")])


class Fleet:
    """Processes of one store, judged by hand; counts who judges, and how long that takes by a clock of the test's."""

    def __init__(self, monkeypatch, size):
        self.store, self.clock, self.monotonic_s, self.takes_s = LostStore(), FakeClock(), 1000.0, 0.01
        self.judged, self.judgings = [], []
        monkeypatch.setattr(judge_loop, "monotonic", lambda: self.monotonic_s)
        for number in range(size):
            runtime = Runtime(store=self.store, time_ns=self.clock)
            runtime.reconciler.start = lambda: None
            model = rollout(candidate=lambda u: 1, strategy=PLAN, unit="u", key="model", runtime=runtime)(lambda u: 0)
            managed, judging = runtime.reconciler.rollouts["model"], runtime.reconciler._judging
            judging.judge = self.counted(judging.judge, number)
            self.judgings.append((runtime, judging, managed, model))

    def counted(self, judge, number):
        def judge_and_count(managed):
            self.judged.append(number)
            self.monotonic_s += self.takes_s
            return judge(managed)

        return judge_and_count

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.monotonic_s += seconds

    def all_judge(self):
        """Every process finds that it is time to judge; who does."""
        self.judged.clear()
        for _, judging, managed, _ in self.judgings:
            judging.judge_in_turn(managed)
        return list(self.judged)

    def close(self):
        for runtime, *_ in self.judgings:
            runtime.close(1.0)


@pytest.fixture
def fleet(monkeypatch):
    made = []

    def make(size):
        made.append(Fleet(monkeypatch, size))
        return made[-1]

    yield make
    for each in made:
        each.close()


@contextmanager
def without_verdicts(fleet):
    """The verdicts of this time do not arrive: the process that judges is slow, or dies."""
    fleet.store.note = lambda key, name, text: None
    yield
    del fleet.store.note


def test_one_process_judges_at_a_time_though_its_verdict_is_not_there_yet(fleet):
    some = fleet(5)
    assert some.all_judge() == [0]
    for _ in range(6):
        some.advance(10.0)
        with without_verdicts(some):
            assert len(some.all_judge()) == 1


def test_one_process_judges_at_a_time_also_before_the_first_verdict_and_after_a_transition(fleet):
    some = fleet(5)
    with without_verdicts(some):
        assert some.all_judge() == [0]
    *_, model = some.judgings[3]
    model.rollout.pause(actor="ann")
    for other, _, each, _ in some.judgings:
        other.reconciler.look(each)
    with without_verdicts(some):
        assert some.all_judge() == [0]


def test_where_the_one_that_had_the_turn_dies_another_judges_at_the_next(fleet):
    some = fleet(3)
    some.all_judge()
    some.advance(5.0)
    with without_verdicts(some):
        assert some.all_judge() == [0]
    some.judgings = some.judgings[1:]
    assert some.all_judge() == []
    some.advance(5.0)
    assert some.all_judge() == [1]
    # From now on, it goes on judging.
    some.advance(5.0)
    assert some.all_judge() == [1]


def test_the_process_that_has_judged_last_judges_again_and_the_others_let_go_of_its_evidence(fleet):
    some = fleet(3)
    some.all_judge()
    for _ in range(4):
        some.advance(5.0)
        some.judgings.reverse()
        assert some.all_judge() == [0]
    held = {number: len(managed._gathered) for number, (_, _, managed, _) in enumerate(some.judgings)}
    assert sorted(held.values())[:2] == [0, 0]


def test_where_no_turn_is_to_be_had_another_judges_all_the_same_after_a_while(fleet):
    some = fleet(2)
    some.all_judge()
    # The turns of the next minutes were taken by a process whose clock is ahead.
    for number in range(1, 100):
        turn = f"judge {some.judgings[0][2].state.revision} {int(some.clock() / 1e9 // 5) + number}"
        assert some.store.claim("model", 0, "ahead", [turn]) == {turn}
    for _ in range(3):
        some.advance(5.0)
        assert some.all_judge() == []
    some.advance(5.0)
    assert some.all_judge() == [0]


def test_verdicts_take_a_tenth_of_a_threads_time_at_the_most(fleet):
    some = fleet(3)
    some.takes_s = 4.0
    assert some.all_judge() == [0]
    for _ in range(7):
        some.advance(5.0)
        assert some.all_judge() == []
    some.advance(5.0)
    assert len(some.all_judge()) == 1
    some.takes_s = 0.01
    some.advance(40.0)
    assert len(some.all_judge()) == 1
    some.advance(5.0)
    assert len(some.all_judge()) == 1


def test_however_long_a_verdict_takes_the_next_is_ten_minutes_later_at_the_most(fleet):
    some = fleet(1)
    some.takes_s = 90.0
    assert some.all_judge() == [0]
    some.advance(400.0)
    assert some.all_judge() == []
    some.advance(200.0)
    assert some.all_judge() == [0]


def test_what_a_verdict_needs_is_published_four_times_between_two(fleet, monkeypatch):
    some, published = fleet(1), []
    some.takes_s = 4.0
    some.all_judge()
    _, judging, managed, _ = some.judgings[0]
    monkeypatch.setattr(type(managed), "publish", lambda *arguments: published.append(some.monotonic_s) or True)
    for _ in range(8):
        some.advance(5.0)
        judging.judge_in_turn(managed)
    assert len(published) in (4, 5)


@pytest.mark.parametrize("damaged", [{"time_s": None}, {"revision": None}, {"phase": "5%"}])
def test_a_verdict_that_cannot_be_used_is_replaced(fleet, damaged):
    some = fleet(1)
    assert some.all_judge() == [0]
    some.store.note("model", "verdict", json.dumps(json.loads(some.store.noted("model", "verdict")) | damaged))
    some.advance(5.0)
    assert some.all_judge() == [0]
    assert verdict_from_note(some.store.noted("model", "verdict")).rollout == "model"


def test_a_pace_that_cannot_be_read_is_the_configured_one(fleet):
    some = fleet(1)
    some.store.note("model", "pace", "soon")
    assert some.all_judge() == [0]
    some.advance(5.0)
    assert some.all_judge() == [0]
