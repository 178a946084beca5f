"""Events: what one is that says nothing else, what is not shown of it, and names that are the same in every process."""

import re

import pytest
from attrs import evolve, fields

from rollout_sdk.records import (
    BreakerEvent,
    Decision,
    RecordedEvent,
    RoutedEvent,
    RoutedRows,
    ShadowedEvent,
    TransitionedEvent,
)

DECISION = Decision("v2", id="d", rollout="model", phase="0:50%")
CALL = RoutedEvent(DECISION, "v2", ())
SHADOW = ShadowedEvent(DECISION, "v2", "ok")
OUTCOME = RecordedEvent("model", "click", 1.0, 1_700_000_000.25, decision_id="d")


@pytest.mark.parametrize("event", [CALL, SHADOW, OUTCOME], ids=lambda event: type(event).__name__)
def test_an_event_that_says_nothing_else_is_of_an_ordinary_call_that_stands_for_itself(event):
    given = {each.name: getattr(event, each.name) for each in fields(type(event))}
    assert not [name for name, value in given.items() if value is True]
    assert {1.0} == {value for name, value in given.items() if name.endswith("rate")}


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_a_call_is_kept_at_the_lower_of_two_rates(rate):
    call, shadow = evolve(CALL, rate=rate), evolve(SHADOW, rate=rate)
    assert (rate, rate) == (call.drawn(1.0).rate, shadow.drawn(1.0).rate)
    kept = [evolve(call, decision=evolve(DECISION, id=f"d{n}")).drawn(0.25) for n in range(400)]
    assert {0.25} == {each.rate for each in kept if each is not None}
    assert 60 < sum(each is not None for each in kept) < 140


def test_of_rows_those_are_kept_that_are_kept_as_calls():
    ids = tuple(f"d{n}" for n in range(400))
    rows = RoutedRows(
        (CALL,), (0,) * 400, ids, tuple(range(400)), tuple(f"u{n}" for n in range(400)), tuple(map(float, range(400)))
    )
    kept = rows.drawn(0.25)
    calls = [n for n in range(400) if evolve(CALL, decision=evolve(DECISION, id=ids[n])).drawn(0.25) is not None]
    assert (kept.ids, kept.buckets) == (tuple(ids[n] for n in calls), tuple(calls))
    assert (kept.units, kept.covariates) == (tuple(f"u{n}" for n in calls), tuple(map(float, calls)))
    assert (len(calls), (0.25,)) == (kept.weight, tuple(each.rate for each in kept.like))


def test_the_callers_context_and_exception_are_not_shown_and_make_no_event_another():
    class Secret:
        def __repr__(self):
            return "a secret payload"

    for event, name in ((CALL, "context"), (SHADOW, "exception")):
        other = evolve(event, **{name: Secret()})
        assert "secret" not in repr(other)
        assert event == other


def test_the_name_of_an_outcome_is_one_for_all_processes_and_versions():
    """Another process, maybe of an earlier version during an upgrade, must know it again."""
    assert "741eebff7cae0cda" == OUTCOME.name
    names = [
        OUTCOME.name, evolve(OUTCOME, value=2.0).name, evolve(OUTCOME, metric="buy").name, evolve(OUTCOME, event_id="e").name,
        evolve(OUTCOME, time_s=OUTCOME.time_s + 0.001).name, evolve(OUTCOME, item="i").name, evolve(OUTCOME, position=0).name,
        evolve(OUTCOME, decision_id="e").name,
    ]  # fmt: skip
    assert len(names) == len(set(names))
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    assert OUTCOME.name == evolve(OUTCOME, time_s=OUTCOME.time_s + 1e-7).name


def test_two_events_a_millisecond_apart_are_two_and_what_is_sent_again_is_one():
    others = [
        evolve(OUTCOME, value=2.0), evolve(OUTCOME, metric="buy"), evolve(OUTCOME, rollout="other"),
        evolve(OUTCOME, event_id="e"),
        evolve(OUTCOME, time_s=OUTCOME.time_s + 0.001), evolve(OUTCOME, item="i"), evolve(OUTCOME, position=0),
        evolve(OUTCOME, decision_id="e"), evolve(OUTCOME, decision_id=None, unit="u"),
    ]  # fmt: skip
    assert 10 == len({OUTCOME.identity, *(each.identity for each in others)})
    # A journal has microseconds, and the unit may have had another decision since.
    assert OUTCOME.identity == evolve(OUTCOME, time_s=OUTCOME.time_s + 1e-7, unit="u", phase="1:5%").identity
    named = evolve(OUTCOME, event_id="e")
    assert named.identity == evolve(named, value=2.0, time_s=1.0, decision_id="another").identity


@pytest.mark.parametrize("rate", [1.0, 0.5, 2.0**-12])
def test_what_happens_to_a_rollout_is_kept_at_every_rate(rate):
    breaker = BreakerEvent("model", "v2", "open", 20, 20, 30.0, 1.0)
    moved = TransitionedEvent("model", "canary", "abort", "aborted", 1, "0:5%", "1:aborted", {}, "ann", "", 1.0)
    assert (breaker, moved) == (breaker.drawn(rate), moved.drawn(rate))
