"""Outcomes: what may be recorded, and whose it is."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import rollout_sdk
from rollout_sdk import (
    ABTest,
    ConfigurationError,
    DecisionIdError,
    Interleave,
    OutcomeError,
    RecordedEvent,
    Runtime,
    UnknownItemError,
    rollout,
)


@pytest.fixture
def decorate():
    def make(runtime, *, strategy=None, key="search", **options):
        @rollout(
            candidate=lambda user: ["c", "b", "a"],
            strategy=strategy or ABTest(0.5),
            unit="user",
            key=key,
            runtime=runtime,
            **options,
        )
        def search(user):
            return ["a", "b", "c"]

        return search

    return make


@pytest.fixture
def search(decorate, runtime):
    return decorate(runtime)


def recorded(runtime):
    return [event for event in runtime.events() if isinstance(event, RecordedEvent)]


def test_an_outcome_of_a_decision_carries_what_the_decision_was(search, runtime):
    decision = search.rollout.route("u-1").decision
    search.rollout.record("click", 1.0, decision_id=decision.id, time_s=123.5)
    assert recorded(runtime) == [
        RecordedEvent(
            rollout="search",
            metric="click",
            value=1.0,
            time_s=123.5,
            decision_id=decision.id,
            phase=decision.phase,
            variant=decision.variant,
            bucket=decision.bucket,
            decided_s=pytest.approx(decision.time_s, abs=1e-3),
            fingerprint=search.rollout.status().fingerprint,
        )
    ]


def test_an_outcome_of_a_unit_carries_the_units_pseudonym_and_bucket(search, runtime):
    routed = search.rollout.route("u-1")
    search.rollout.record("purchase", 9.5, unit="u-1", time_s=123.5)
    (event,) = runtime.routed()
    assert recorded(runtime) == [
        RecordedEvent(
            rollout="search", metric="purchase", value=9.5, time_s=123.5, bucket=routed.decision.bucket, unit=event.unit
        )
    ]


def test_an_outcome_is_of_now_unless_it_says_otherwise(decorate, watch):
    runtime = watch(time_ns=lambda: 1_700_000_000_500_000_000)
    decorate(runtime).rollout.record("click", 1.0, unit="u-1")
    assert [event.time_s for event in recorded(runtime)] == [1_700_000_000.5]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1.0),
        (0, 0.0),
        (-3, -3.0),
        (1.5, 1.5),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7.0),
    ],
)
def test_any_finite_number_is_a_value(search, runtime, value, number):
    search.rollout.record("metric", value, unit="u-1")
    assert [event.value for event in recorded(runtime)] == [number]


class Unreadable:
    def __float__(self):
        raise RuntimeError("no number")


BAD_VALUES = [
    math.nan,
    math.inf,
    -math.inf,
    None,
    "1.0",
    b"1.0",
    bytearray(b"1"),
    [1.0],
    1j,
    10**400,
    np.array([1.0, 2.0]),
    Unreadable(),
    {},
]


@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: type(value).__name__)
def test_a_value_that_is_no_finite_number_is_refused(search, value):
    with pytest.raises(OutcomeError, match=r"^The value of metric 'click' is .* An outcome is a finite number. Leave out what"):
        search.rollout.record("click", value, unit="u-1")


@pytest.mark.parametrize("time_s", [math.nan, math.inf, "yesterday", [0], 10**400], ids=repr)
def test_a_time_that_is_no_finite_number_is_refused(search, time_s):
    with pytest.raises(OutcomeError, match=r"^The time of metric 'click' is .* seconds since 1970. Pass time.time\(\)"):
        search.rollout.record("click", 1.0, unit="u-1", time_s=time_s)


@pytest.mark.parametrize("metric", ["", "a\nb", "\x1f", "\ud800", "x" * 129, None, 7, b"click", ["click"]], ids=repr)
def test_a_metric_without_a_printable_name_is_refused(search, metric):
    with pytest.raises(
        OutcomeError, match=r"^The metric is .* A metric is a printable text of 1 to 128 characters. Write 'click'."
    ):
        search.rollout.record(metric, 1.0, unit="u-1")


@pytest.mark.parametrize("unit", ["", b"", math.nan, [1], object(), ()], ids=lambda unit: type(unit).__name__)
def test_a_unit_that_names_nobody_is_refused(search, unit):
    with pytest.raises(OutcomeError, match=r"^The unit of the outcome is .* Pass what the rollout's unit= finds in a call."):
        search.rollout.record("click", 1.0, unit=unit)


def test_an_outcome_names_a_decision_or_a_unit(search):
    decision_id = search.rollout.route("u-1").decision.id
    with pytest.raises(OutcomeError, match=r"names nothing. .* Pass decision_id=, unit= or token=."):
        search.rollout.record("click", 1.0)
    with pytest.raises(OutcomeError, match=r"names decision_id and unit. .* Pass decision_id=, unit= or token=."):
        search.rollout.record("click", 1.0, decision_id=decision_id, unit="u-1")


def test_a_refused_outcome_records_nothing(search, runtime):
    for value in BAD_VALUES:
        with pytest.raises(OutcomeError):
            search.rollout.record("click", value, unit="u-1")
    assert recorded(runtime) == []


def test_every_refusal_is_a_value_error(search):
    with pytest.raises(ValueError, match="finite number"):
        search.rollout.record("click", math.nan, unit="u-1")


# Whose it is ------------------------------------------------------------------------------------------------------------


def test_an_outcome_of_another_rollout_is_refused(decorate, runtime, search):
    other = decorate(runtime, key="other")
    with pytest.raises(
        DecisionIdError, match=r"belongs to rollout 'search', not to 'other'. .* or with rollout_sdk.record\(\)"
    ):
        other.rollout.record("click", 1.0, decision_id=search.rollout.route("u-1").decision.id)


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-3], lambda text: text + "\n", lambda text: "x" + text, lambda text: text.upper()]
)
def test_a_damaged_id_is_refused(search, damage):
    with pytest.raises(DecisionIdError):
        search.rollout.record("click", 1.0, decision_id=damage(search.rollout.route("u-1").decision.id))


def test_an_id_of_a_runtime_with_another_key_is_refused(decorate, watch):
    one, other = decorate(watch(key="one")), decorate(watch(key="other"))
    with pytest.raises(DecisionIdError, match="is not signed with this runtime's key"):
        other.rollout.record("click", 1.0, decision_id=one.rollout.route("u-1").decision.id)


def test_another_process_of_the_same_service_may_record(decorate, watch):
    one, other = watch(key="shared"), watch(key="shared")
    decision = decorate(one).rollout.route("u-1").decision
    decorate(other).rollout.record("click", 1.0, decision_id=decision.id)
    assert [(event.variant, event.phase) for event in recorded(other)] == [(decision.variant, decision.phase)]


# Items ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(decorate, runtime):
    search = decorate(runtime, strategy=Interleave(), key="page")
    return search, search.rollout.route("u-1").decision.id


def test_an_item_is_recorded_by_the_pseudonym_that_the_decision_has(page, runtime):
    search, decision_id = page
    search.rollout.record("click", 1.0, decision_id=decision_id, item="b")
    (event,) = recorded(runtime)
    (routed,) = runtime.routed()
    assert event.item in routed.items
    assert event.item != "b"


def test_an_item_that_was_not_shown_is_refused(page):
    search, decision_id = page
    with pytest.raises(UnknownItemError, match=r"^item='z' was not shown in the decision .* it showed 3 items. .* Pass what"):
        search.rollout.record("click", 1.0, decision_id=decision_id, item="z")


def test_an_unknown_item_is_a_lookup_error(page):
    search, decision_id = page
    with pytest.raises(LookupError):
        search.rollout.record("click", 1.0, decision_id=decision_id, item="z")


def test_another_process_does_not_know_what_was_shown_and_takes_any_item(page, decorate, watch):
    _, decision_id = page
    elsewhere = watch()
    decorate(elsewhere, strategy=Interleave(), key="page").rollout.record("click", 1.0, decision_id=decision_id, item="z")
    assert len(recorded(elsewhere)) == 1


def test_the_same_item_has_the_same_pseudonym_in_every_process(page, decorate, runtime, watch):
    search, decision_id = page
    elsewhere = watch()
    search.rollout.record("click", 1.0, decision_id=decision_id, item="b")
    decorate(elsewhere, strategy=Interleave(), key="page").rollout.record("click", 1.0, decision_id=decision_id, item="b")
    assert recorded(runtime)[0].item == recorded(elsewhere)[0].item


def test_an_item_of_an_answer_that_was_not_blended_is_refused(search):
    decision = search.rollout.route("u-1").decision
    with pytest.raises(UnknownItemError, match=f"that variant '{decision.variant}' answered alone. .* Leave it out."):
        search.rollout.record("click", 1.0, decision_id=decision.id, item="b")


def test_an_item_of_a_unit_has_the_pseudonym_that_the_list_shows_it_by(page, runtime):
    search, decision_id = page
    search.rollout.record("click", 1.0, decision_id=decision_id, item="b")
    search.rollout.record("booking", 1.0, unit="u-1", item="b")
    click, booking = recorded(runtime)
    assert (click.item, None) == (booking.item, booking.decision_id)
    assert booking.unit is not None


# Without the function ---------------------------------------------------------------------------------------------------


@pytest.fixture
def default(monkeypatch, tmp_path):
    """The default runtime, with a journal and nothing decorated."""
    import rollout_sdk.runtime.registry as module

    runtime = Runtime(journal=tmp_path / "journal", key="shared")
    monkeypatch.setattr(module, "_default", runtime)
    yield runtime
    runtime.close(0.5)


def test_a_process_that_decorates_nothing_can_record(default, decorate, watch, tmp_path):
    decision = decorate(watch(key="shared"), strategy=Interleave()).rollout.route("u-1").decision
    rollout_sdk.record("click", 1.0, decision_id=decision.id, item="b", time_s=5.0)
    default.close(2.0)
    (outcome,) = [line for line in rollout_sdk.journal.read_journal(tmp_path / "journal") if line["event"] == "outcome"]
    expected = {"rollout": "search", "metric": "click", "value": 1.0, "id": decision.id, "phase": decision.phase, "t": 5.0}
    assert {name: outcome[name] for name in expected} == expected


@pytest.mark.parametrize("value", [math.nan, None, "1"])
def test_that_process_is_told_of_bad_values_too(default, decorate, watch, value):
    decision = decorate(watch(key="shared")).rollout.route("u-1").decision
    with pytest.raises(OutcomeError, match="is a finite number"):
        rollout_sdk.record("click", value, decision_id=decision.id)


def test_a_process_without_a_journal_is_told_that_the_outcome_would_be_lost(monkeypatch, decorate, watch):
    import rollout_sdk.runtime.registry as module

    monkeypatch.setattr(module, "_default", watch())
    decision = decorate(watch()).rollout.route("u-1").decision
    with pytest.raises(
        ConfigurationError, match=r"has nowhere to go: the default runtime keeps no journal. .* Set ROLLOUT_JOURNAL"
    ):
        rollout_sdk.record("click", 1.0, decision_id=decision.id)
