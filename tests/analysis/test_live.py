"""A journal that is read as it is written says what a report of it says."""

import gc
import random
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence, Set
from functools import partial
from types import FunctionType, ModuleType

import pytest
from attrs import evolve

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Runtime, Shadow, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.live import Live
from rollout_sdk.analysis.togo import Forecasts
from rollout_sdk.analysis.waiting import Wait
from rollout_sdk.judging import Traffic
from rollout_sdk.judging.remembered import Remembered
from rollout_sdk.plan import Criteria


def answer(unit):
    return unit[-1]


def other(unit):
    if unit.endswith("77"):
        raise ValueError(unit)
    return unit[-1] if not unit.endswith("5") else "-"


STRATEGIES = {
    "ab": lambda: ABTest(0.5, gates=[Gate("purchase", mde=0.05)], guardrails=[Guardrail("error_rate")]),
    "plain": lambda: ABTest(0.3),
    "canary": lambda: Canary(["10%", "50%"], guardrails=[Guardrail("error_rate")]),
    "shadow": lambda: Shadow(guardrails=[Guardrail("error_rate")]),
}


@pytest.fixture(params=STRATEGIES)
def written(request, tmp_path):
    """Calls of a rollout, written piece by piece; after each piece, what a test does."""

    def written(after, pieces=6, calls=400):
        draw = random.Random(7)
        runtime = Runtime(journal=tmp_path, key=b"k" * 16)
        model = rollout(
            candidate=other, strategy=STRATEGIES[request.param](), unit="unit", key="m", effects="read", runtime=runtime
        )(answer)
        for piece in range(pieces):
            for number in range(calls):
                decision = model.rollout.route(f"u{piece * calls + number}").decision
                if draw.random() < 0.3:
                    model.rollout.record("purchase", 1.0, decision_id=decision.id)
            if piece == 3 and request.param == "canary":
                model.rollout.promote(actor="ann", reason="test")
            runtime.flush()
            after(tmp_path)
        runtime.close()
        return tmp_path

    return written


def told(verdict):
    """What a verdict says, without the looks on the way: when they were depends on when it was read."""
    known = {
        name: getattr(verdict, name)
        for name in ("headline", "candidate", "reason", "action", "by_candidate", "calls", "shares", "step", "status", "phase")
    }
    metrics = {
        (each.metric, each.candidate, each.kind): (each.outcome, each.value_total, each.control_total, each.value_count)
        for each in verdict.differences
    }
    intervals = [
        value
        for each in verdict.differences
        for value in (each.estimate, each.low, each.high, each.harm_log_e, each.safe_log_e)
        if value is not None
    ]
    return (known, metrics), intervals


def test_says_what_a_report_says(written):
    live = None

    def read(folder):
        nonlocal live
        live = live or Live(folder)
        live.read()
        live.report()

    folder = written(read)
    live.read()
    (ours,), (theirs,) = live.report().rollouts, summarise(folder).rollouts
    said, numbers = told(ours.verdict)
    expected, expected_numbers = told(theirs.verdict)
    assert said == expected
    assert numbers == pytest.approx(expected_numbers, rel=1e-9, abs=1e-9)
    assert [each["action"] for each in ours.transitions] == [each["action"] for each in theirs.transitions]
    assert [each.phase for each in ours.phases] == [each.phase for each in theirs.phases]
    for mine, other_phase in zip(ours.phases, theirs.phases, strict=True):
        for one, two in zip(mine.variants, other_phase.variants, strict=True):
            assert (one.variant, one.calls, one.errors, one.fallbacks) == (two.variant, two.calls, two.errors, two.fallbacks)
        for one, two in zip(mine.shadows, other_phase.shadows, strict=True):
            assert (one.variant, one.planned, one.compared, one.ends) == (two.variant, two.planned, two.compared, two.ends)
            assert one.agreement.mean == two.agreement.mean


def test_a_second_look_at_nothing_new_costs_nothing_and_says_the_same(written):
    folder = written(lambda folder: None, pieces=2)
    live = Live(folder)
    assert live.read()
    first = live.report()
    assert not live.read()
    assert live.report().rollouts[0] is first.rollouts[0]


def test_a_forecast_is_made_once_for_traffic_that_hardly_changes(written, monkeypatch):
    made, passing = [], Wait.passing
    monkeypatch.setattr(Wait, "passing", lambda wait: made.append(wait.criterion.metric) or passing(wait))
    folder = written(lambda folder: None, pieces=2)
    live, again = Live(folder), Live(folder)
    live.read()
    first = live.report().rollouts[0].verdict
    before = list(made)
    assert len(set(before)) == len(before)
    # As if a line had come that changes nothing.
    live._changed.update(live._reports)
    assert live.report().rollouts[0].verdict.to_go == first.to_go
    assert made == before
    again.read()
    assert again.report().rollouts[0].verdict.to_go == first.to_go


ERRORS = Guardrail("error_rate")
TRAFFIC = Traffic(units_per_day=1000.0, error_rate=0.01, slow_rates={"latency>0.25s": 0.1}, means={"click": (0.1, 0.3)})


@pytest.mark.parametrize(
    ("is_known", "criterion", "arms", "changed"),
    [
        (True, ERRORS, (0.5, 0.5), {}),
        (True, ERRORS, (0.5, 0.5), {"units_per_day": 1015.0, "error_rate": 0.0101}),
        (False, ERRORS, (0.5, 0.5), {"units_per_day": 1030.0}),
        (False, ERRORS, (0.5, 0.5), {"error_rate": 0.0105}),
        (False, ERRORS, (0.5, 0.5), {"slow_rates": {"latency>0.25s": 0.11}}),
        (False, ERRORS, (0.5, 0.5), {"slow_rates": {}}),
        (False, ERRORS, (0.5, 0.5), {"means": {"click": (0.1, 0.4)}}),
        (False, ERRORS, (0.5, 0.5), {"means": {"buy": (0.1, 0.3)}}),
        (False, ERRORS, (0.8, 0.2), {}),
        (False, Guardrail("error_rate", margin=0.5), (0.5, 0.5), {}),
    ],
)
def test_a_forecast_is_made_again_when_more_than_a_fiftieth_has_changed(monkeypatch, is_known, criterion, arms, changed):
    made = []
    monkeypatch.setattr(Wait, "passing", lambda wait: made.append(wait) or len(made))
    forecasts, plan = Forecasts(), Criteria.of_test([ERRORS])
    name = "error_rate", "v2"
    assert forecasts.passing(name, Wait.of(ERRORS, plan, TRAFFIC, (0.5, 0.5))) == 1
    assert forecasts.passing(name, Wait.of(criterion, plan, evolve(TRAFFIC, **changed), arms)) == (1 if is_known else 2)
    assert forecasts.passing(("error_rate", "v3"), Wait.of(ERRORS, plan, TRAFFIC, (0.5, 0.5))) == len(made)


def entries(root):
    """How many entries all containers have that can be reached from something, by the type of the container."""
    found, seen, waiting = Counter(), set(), [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType):
            continue
        seen.add(id(one))
        if isinstance(one, Mapping | Sequence | Set | deque | array) and not isinstance(one, str | bytes):
            found[type(one).__name__] += len(one)
        waiting += gc.get_referents(one)
    return found


def test_memory_does_not_grow_with_calls_and_outcomes(tmp_path, monkeypatch):
    # What is kept of the latest is full after a few thousand calls here, and not after a million.
    monkeypatch.setattr("rollout_sdk.analysis.live._LATEST", 100)
    monkeypatch.setattr("rollout_sdk.analysis.early._MOST_CALLS", 100)
    monkeypatch.setattr("rollout_sdk.judging.outcome_evidence.Remembered", partial(Remembered, 200))
    runtime = Runtime(journal=tmp_path, key=b"k" * 16)
    model = rollout(candidate=answer, strategy=STRATEGIES["ab"](), unit="unit", key="m", effects="read", runtime=runtime)(
        answer
    )
    live, held, pieces, calls = Live(tmp_path), [], 4, 1_000
    for _ in range(pieces):
        for number in range(calls):
            decision = model.rollout.route(f"u{number % 100}").decision
            model.rollout.record("purchase", float(number % 3 == 0), decision_id=decision.id)
            model.rollout.record("reply", 1.0, decision_id=decision.id)
            if number % 250 == 0:
                runtime.flush()
        runtime.flush()
        live.read()
        live.report()
        held.append(entries(live))
    runtime.close()
    assert sum(live.report().rollouts[0].verdict.calls.values()) == pieces * calls
    more = {name: count - held[1][name] for name, count in held[-1].items() if count != held[1][name]}
    # Of the last few looks, the sums of each bucket are kept: two looks more than before.
    assert more.pop("array", 0) <= 2 * 2_048
    # Two thousand calls and four thousand outcomes later: findings of a few looks more, and not an entry for each call.
    assert sum(more.values()) <= 1_000, more


def test_lines_of_rollouts_beyond_the_most_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("rollout_sdk.analysis.judged.MOST_ROLLOUTS", 2)
    runtime = Runtime(journal=tmp_path, key=b"k" * 16)
    for key in ("a", "b", "c"):
        rollout(candidate=answer, strategy=ABTest(0.5), unit="unit", key=key, runtime=runtime)(answer)("u")
    runtime.close()
    live = Live(tmp_path)
    live.read()
    report = live.report()
    assert 2 == len(report.rollouts)
    # What is said of the rollout, and its call.
    assert {"over the limit": 2} == report.skipped
