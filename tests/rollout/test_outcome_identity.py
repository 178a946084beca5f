"""An outcome counts once, however often it is sent; two events are two; and what is odd about one is told."""

import json
import math
import time
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

import rollout_sdk
from rollout_sdk import ABTest, Canary, ConfigurationError, Gate, Layer, OutcomeError, Runtime, Step, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.replay import replay
from rollout_sdk.plan import Criteria
from rollout_sdk.recording.outcome_checks import odd_time
from rollout_sdk.records import RecordedEvent
from rollout_sdk.runtime import registry as module

KEY = b"k" * 16
PLAN = Canary([Step("50%", min_units=20, min_time=0)], guardrails=[], gates=[Gate("buy"), Gate("label", per="outcome")])


def decorate(folder, *, strategy=PLAN, **options):
    runtime = Runtime(journal=folder, key=KEY)
    runtime.reconciler.start = lambda: None
    model = rollout(candidate=lambda user: 1, strategy=strategy, unit="user", key="shop", runtime=runtime, **options)(
        lambda user: 0
    )
    return model, runtime


def sums(folder, metric="buy"):
    """Sum and number of a metric's outcomes in the report, and its problems."""
    found = summarise(folder).rollouts[0]
    metrics = [
        each for phase in found.phases for variant in phase.variants for each in variant.metrics if each.metric == metric
    ]
    total = sum(each.per_outcome.mean * each.outcomes for each in metrics if each.outcomes)
    return round(total, 9), sum(each.outcomes for each in metrics), dict(found.problems)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([0.0, 1.0, 9.5]),
        st.sampled_from([None, "o-1", "o-2", 3, "3", UUID(int=4)]),
        st.sampled_from([0.0, 0.0004, 0.5, 1.0]),
    ),
    max_size=25,
)


@given(sent=EVENTS)
@settings(max_examples=25, deadline=None)
def test_judge_replay_and_report_count_the_same_outcomes_once(tmp_path_factory, sent):
    folder = tmp_path_factory.mktemp("journal")
    model, runtime = decorate(folder)
    ids = [model.rollout.route(f"u-{user}").decision.id for user in range(6)]
    begin = float(math.ceil(time.time())) + 5
    expected = {}
    for which, value, event_id, later in sent:
        model.rollout.record("buy", value, decision_id=ids[which], event_id=event_id, time_s=begin + later)
        at = int(later * 1000)
        expected.setdefault((which, value, at) if event_id is None else str(event_id), value)
    assert runtime.flush(10.0)
    verdict = model.rollout.judge()
    runtime.close(5.0)
    again = replay(folder, Criteria(steps=PLAN.criteria.steps, guardrails=[], gates=PLAN.criteria.gates)).phases[0].last
    total, number, problems = sums(folder)
    assert (round(sum(expected.values()), 9), len(expected)) == (total, number)
    told = {"counted": len(expected), "duplicate": len(sent) - len(expected)}
    for outcomes in (verdict.outcomes, again.outcomes, {"counted": number, **problems}):
        assert told == {"counted": 0, "duplicate": 0, **outcomes}
    (buy,) = [each for each in verdict.findings if "buy" == each.name]
    (replayed,) = [each for each in again.findings if "buy" == each.name]
    for found in (buy, replayed):
        assert sum(expected.values()) == pytest.approx(found.numbers["control_total"] + found.numbers["value_total"])


def test_a_retry_that_reaches_another_process_counts_once_in_the_report(tmp_path):
    first, one = decorate(tmp_path)
    second, other = decorate(tmp_path)
    decision_id = first.rollout.route("u").decision.id
    for model in (first, second, first):
        model.rollout.record("buy", 9.5, decision_id=decision_id, event_id="order-7")
    one.close(5.0)
    other.close(5.0)
    assert (9.5, 1, {"duplicate": 2}) == sums(tmp_path)


def test_an_event_that_is_sent_again_after_another_visit_of_the_unit_counts_once(tmp_path):
    model, runtime = decorate(tmp_path)
    for _ in range(2):
        model("u")
        model.rollout.record("buy", 9.5, unit="u", event_id=7)
    runtime.close(5.0)
    assert (9.5, 1, {"duplicate": 1}) == sums(tmp_path)


def test_of_one_event_each_item_counts(tmp_path):
    event = {"rollout": "shop", "metric": "buy", "value": 1.0, "time_s": 5.0, "decision_id": "d", "event_id": "e"}
    made = [
        rollout_sdk.RecordedEvent(**event, **what)
        for what in ({"item": "a"}, {"item": "b"}, {"position": 0}, {"position": 1}, {})
    ]
    assert 5 == len({each.identity for each in made})


def test_a_decision_has_one_label_and_any_number_of_purchases(tmp_path):
    model, runtime = decorate(tmp_path)
    decision_id = model.rollout.route("u").decision.id
    for metric in ("buy", "label"):
        for count in range(3):
            model.rollout.record(metric, 1.0, decision_id=decision_id, event_id=f"{metric}-{count}")
    assert runtime.flush(10.0)
    assert {"counted": 4, "duplicate": 2} == model.rollout.judge().outcomes
    runtime.close(5.0)


def test_the_journal_does_not_tell_the_name_of_an_event(tmp_path):
    model, runtime = decorate(tmp_path)
    model.rollout.record("buy", 1.0, unit="u", event_id="order of Ann Example")
    runtime.close(5.0)
    text = "".join(path.read_text() for path in tmp_path.glob("events-*.jsonl"))
    [line] = [json.loads(each) for each in text.splitlines() if '"event":"outcome"' in each]
    assert 16 == len(line["event_id"])
    assert "Ann" not in text


@pytest.mark.parametrize("event_id", ["", float("nan"), [1], {"order": 1}, object()])
def test_an_event_id_that_names_nothing_is_refused(tmp_path, event_id):
    model, runtime = decorate(tmp_path)
    with pytest.raises(OutcomeError, match="Pass the number of the order, or the id of the message"):
        model.rollout.record("buy", 1.0, unit="u", event_id=event_id)
    runtime.close(5.0)


# When it was measured ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9])
def test_a_time_in_milliseconds_or_smaller_is_refused(tmp_path, scale):
    model, runtime = decorate(tmp_path)
    decision_id = model.rollout.route("u").decision.id
    for whom in ({"decision_id": decision_id}, {"unit": "u"}):
        with pytest.raises(OutcomeError, match="It looks like milliseconds, or smaller"):
            model.rollout.record("buy", 1.0, time_s=time.time() * scale, **whom)
    runtime.close(5.0)


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [(3600.0, "ahead of this machine's clock"), (-3600.0, "before their decision"), (-5.0, None), (5.0, None)],
)
def test_an_odd_time_is_noted_and_counts(tmp_path, ahead_s, words):
    model, runtime = decorate(tmp_path)
    decision_id = model.rollout.route("u").decision.id
    for _ in range(2):
        model.rollout.record("buy", 1.0, decision_id=decision_id, time_s=time.time() + ahead_s)
    notes = [note for note in model.rollout.status().notes if "dated" in note]
    assert ([words] if words else []) == [words for note in notes if words in note]
    runtime.close(5.0)
    assert sums(tmp_path)[1] >= 1


@pytest.mark.parametrize(
    ("ahead_s", "after_s", "words"),
    [
        (60.0, 60.0, None),
        (60.5, 60.5, "ahead of this machine's clock"),
        (-100.0, -60.0, None),
        (-100.0, -60.5, "before their decision"),
        (60.5, -60.5, "ahead of this machine's clock"),
    ],
)
def test_times_may_be_off_by_a_minute(ahead_s, after_s, words):
    now_s = 1_700_000_000.0
    event = RecordedEvent("r", "buy", 1.0, now_s + ahead_s, decision_id="d", decided_s=now_s + ahead_s - after_s)
    strange = odd_time(event, now_s)
    assert strange is None if words is None else words in strange
    assert odd_time(evolve(event, decided_s=None), now_s) == (strange if ahead_s > 60 else None)


# Where it goes -------------------------------------------------------------------------------------------------------------


class Watching:
    def __init__(self):
        self.events = []

    @rollout_sdk.hookimpl
    def rollout_recorded(self, event):
        self.events.append(event)


@pytest.mark.parametrize("whom", ["decision_id", "unit"])
def test_an_outcome_with_nowhere_to_go_is_an_error(whom):
    runtime = Runtime()
    model = rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="shop", runtime=runtime)(lambda user: 0)
    named = {"unit": "u"} if whom == "unit" else {"decision_id": model.rollout.route("u").decision.id}
    with pytest.raises(ConfigurationError, match="'shop' has nowhere to go"):
        model.rollout.record("buy", 1.0, **named)
    runtime.close(1.0)


def test_an_observer_or_a_plan_is_somewhere_to_go():
    watching = Watching()
    runtime = Runtime(plugins=[watching])
    model = rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="shop", runtime=runtime)(lambda user: 0)
    model.rollout.record("buy", 1.0, unit="u")
    assert runtime.flush(5.0)
    assert ["buy"] == [event.metric for event in watching.events]
    judged = rollout(candidate=lambda user: 1, strategy=PLAN, unit="user", key="judged", runtime=Runtime())(lambda user: 0)
    decision_id = judged.rollout.route("u").decision.id
    judged.rollout.record("buy", 1.0, decision_id=decision_id)
    runtime.close(1.0)
    # It judges no other metric, and none of a unit, whose last decision only a journal knows.
    with pytest.raises(ConfigurationError, match="no plan of 'judged' judges this metric, and"):
        judged.rollout.record("bye", 1.0, decision_id=decision_id)
    with pytest.raises(ConfigurationError, match="no plan of 'judged' judges this metric by unit, and"):
        judged.rollout.record("buy", 1.0, unit="u")


# Where the function is not decorated ---------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The default runtime of a process that decorates nothing."""
    made = Runtime(journal=tmp_path, key=KEY)
    monkeypatch.setattr(module, "_default", made)
    yield made
    made.close(5.0)


@pytest.mark.parametrize("layer", [None, "checkout"])
def test_another_process_records_for_a_unit(tmp_path, elsewhere, layer):
    model, runtime = decorate(tmp_path, strategy=ABTest(0.5), layer=None if layer is None else Layer(layer, 0.0, 1.0))
    model(42)
    assert runtime.flush(5.0)
    rollout_sdk.record("buy", 9.5, unit="42", rollout="shop", layer=layer, event_id="o-1")
    elsewhere.close(5.0)
    runtime.close(5.0)
    assert (9.5, 1, {}) == sums(tmp_path)


def test_a_unit_without_a_rollout_is_refused(elsewhere):
    with pytest.raises(OutcomeError, match="Pass rollout=, its key"):
        rollout_sdk.record("buy", 9.5, unit="42")


def test_an_id_of_another_rollout_than_was_said_is_refused(tmp_path, elsewhere):
    model, runtime = decorate(tmp_path)
    decision_id = model.rollout.route("u").decision.id
    with pytest.raises(rollout_sdk.DecisionIdError, match="belongs to rollout 'shop', not to 'search'"):
        rollout_sdk.record("buy", 9.5, decision_id=decision_id, rollout="search")
    runtime.close(5.0)


def test_an_odd_time_elsewhere_is_a_fault_that_is_told_of_its_rollout_alone(elsewhere, caplog):
    with caplog.at_level("ERROR", logger="rollout_sdk"):
        rollout_sdk.record("buy", 9.5, unit="42", rollout="shop", time_s=time.time() + 3600)
        elsewhere.flush(5.0)
    assert {("outcome", "OutcomeError"): 1} == dict(elsewhere.faults) == elsewhere.faults_of("shop")
    assert {} == elsewhere.faults_of("search")
    told = " ".join(caplog.messages)
    assert "rollout.outcome.odd rollout=shop" in told
    assert "Outcomes of metric 'buy' are dated more than a minute ahead of this machine's clock. They count." in told


def test_a_process_that_decorates_the_function_knows_its_layer(tmp_path, monkeypatch):
    model, runtime = decorate(tmp_path, strategy=ABTest(0.5), layer=Layer("checkout", 0.0, 1.0))
    monkeypatch.setattr(module, "_default", runtime)
    model(42)
    found = {layer: rollout_sdk.pseudonym("shop", 42, layer=layer) for layer in (None, "checkout", "another")}
    elsewhere = rollout_sdk.pseudonym("bakery", 42, layer="another")
    runtime.close(5.0)
    text = "".join(path.read_text() for path in tmp_path.glob("events-*.jsonl"))
    [unit] = [json.loads(each)["unit"] for each in text.splitlines() if '"decision"' in each]
    assert unit == found[None] == found["checkout"] != found["another"]
    # Units of a layer have one pseudonym in all of its rollouts.
    assert elsewhere == found["another"]


@pytest.mark.parametrize("layer", [None, "checkout"])
def test_a_pseudonym_is_the_one_in_the_journal(tmp_path, elsewhere, layer):
    model, runtime = decorate(tmp_path, strategy=ABTest(0.5), layer=None if layer is None else Layer(layer, 0.0, 1.0))
    model(42)
    runtime.close(5.0)
    text = "".join(path.read_text() for path in tmp_path.glob("events-*.jsonl"))
    [unit] = [json.loads(each)["unit"] for each in text.splitlines() if '"decision"' in each]
    assert unit == rollout_sdk.pseudonym("shop", "42", layer=layer) == rollout_sdk.pseudonym("shop", 42.0, layer=layer)
    assert unit != rollout_sdk.pseudonym("shop", "43", layer=layer)
    with pytest.raises(OutcomeError, match="A unit is a non-empty text"):
        rollout_sdk.pseudonym("shop", "")
