"""A journal that is read as it is written says what a report of it says."""

import random
import tracemalloc

import pytest

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Runtime, Shadow, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.live import Live


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


def test_memory_does_not_grow_with_calls(tmp_path):
    runtime = Runtime(journal=tmp_path, key=b"k" * 16)
    model = rollout(candidate=answer, strategy=ABTest(0.5), unit="unit", key="m", effects="read", runtime=runtime)(answer)
    live, held = Live(tmp_path), []
    tracemalloc.start()
    try:
        for piece in range(4):
            for number in range(5_000):
                model(f"u{piece * 5_000 + number}")
                if number % 1_000 == 0:
                    runtime.flush()
            runtime.flush()
            live.read()
            live.report()
            held.append(
                sum(
                    each.size
                    for each in tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/analysis/*")]).traces
                )
            )
    finally:
        tracemalloc.stop()
        runtime.close()
    # Latencies of the latest runs fill up first.
    assert held[3] < held[1] * 1.5 + 100_000
