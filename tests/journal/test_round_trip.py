"""What is written is read: every event, whatever of it is empty, and whatever a strategy leaves out."""

import json

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import Canary, Decision, Runtime, rollout
from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.analysis.facts import recorded, routed, shadowed
from rollout_sdk.journal import JournalSink, JournalWriter, read_journal
from rollout_sdk.journal.lines import line
from rollout_sdk.journal.schema import FIELDS
from rollout_sdk.records import (
    BreakerEvent,
    Comparison,
    RecordedEvent,
    RoutedEvent,
    RoutedRows,
    Run,
    ShadowedEvent,
    TransitionedEvent,
)

texts = st.sampled_from(["", "a", "\x00\n\u2028", "\ud800", '"\\'])
maybe = st.none() | texts
times = st.sampled_from([0.0, 1.5, 1_795_928_708.123456])
numbers = st.sampled_from([0.0, -1.0, 0.5, 1e300])
some = st.none() | numbers
seconds = st.sampled_from([0.0, 0.25, 1e3])
flags = st.booleans()
rates = st.sampled_from([1.0, 0.5, 2.0**-12])
tables = st.sampled_from([{}, {"": 0.0}, {"a": 1.0, "b": 0.0}])
tuples = st.lists(texts, max_size=2).map(tuple)

segments = st.dictionaries(texts, texts, max_size=2).map(lambda found: tuple(found.items()))
runs = st.builds(Run, texts, seconds, maybe, st.none() | seconds)
decisions = st.builds(
    Decision, texts, texts, numbers, tuples, tuples, texts, texts, texts, texts, some, st.integers(0, 511), times, texts
)
calls = st.builds(
    RoutedEvent,
    decision=decisions, served=texts, runs=st.lists(runs, max_size=2).map(tuple), error=maybe, unit=maybe, items=tuples,
    teams=st.lists(maybe, max_size=2).map(tuple), rule=st.none() | tables, closed_early=flags, excluded=flags, withheld=maybe,
    answered=flags, no_evidence=flags, unmeasured=maybe, covariate=some, segments=segments, rate=rates,
)  # fmt: skip
parts = st.dictionaries(texts, st.builds(Comparison, flags, some, maybe), max_size=2)
comparisons = st.builds(Comparison, flags, some, maybe, texts, parts, st.none() | st.tuples(texts, texts))
shadows = st.builds(
    ShadowedEvent,
    decision=decisions, variant=texts, end=texts, duration_s=st.none() | seconds, wait_s=st.none() | seconds, error=maybe,
    comparison=st.none() | comparisons, unit=maybe, excluded=flags,
    first_item_s=st.none() | seconds, control_error=maybe, control_duration_s=st.none() | seconds,
    control_first_item_s=st.none() | seconds, rate=rates,
)  # fmt: skip
outcomes = st.builds(
    RecordedEvent,
    texts, texts, numbers, times, maybe, maybe, maybe, st.none() | st.integers(0, 511), maybe, maybe,
    st.none() | st.integers(0, 3), st.none() | times, flags, texts, maybe, rates, rates, flags,
)  # fmt: skip
breakers = st.builds(BreakerEvent, texts, texts, texts, st.integers(0, 3), st.integers(0, 3), seconds, times)
transitions = st.builds(
    TransitionedEvent,
    texts, texts, texts, texts, st.integers(0, 3), maybe, texts, tables, texts, texts, times, numbers, st.none() | tables,
    texts, texts, texts, texts,
)  # fmt: skip


def written(folder, events):
    """What a reader has of events, without the heads of files."""
    faults = []
    sink = JournalSink(JournalWriter(folder), describe={}.get, failed=lambda *fault: faults.append(fault))
    sink(events, 0)
    sink.close()
    journal = read_journal(folder)
    records = [record for record in journal if record["event"] != "journal"]
    assert ([], {}) == (faults, journal.skipped)
    return records


def full(event):
    """An event, in which what is empty is as it is where it was left out."""
    kind = type(event)
    empty = {each.name: each.default for each in fields(kind) if each.eq and not getattr(event, each.name)}
    return evolve(event, **{name: value for name, value in empty.items() if value is None})


@settings(deadline=None, max_examples=200)
@given(calls)
def test_a_call_is_read_as_it_was(tmp_path_factory, event):
    (record,) = written(tmp_path_factory.mktemp("journal"), [event])
    found, decision = routed(record), event.decision
    assert [
        decision.strategy, decision.reason, decision.propensity, decision.share, list(decision.shadows), list(decision.blend),
        list(event.items), list(event.teams), event.rule,
    ] == [
        record["strategy"], record["reason"], record["propensity"], record.get("share"), record.get("shadows", []),
        record.get("blend", []), record.get("items", []), record.get("teams", []), record.get("rule"),
    ]  # fmt: skip
    kept = evolve(
        event,
        decision=evolve(decision, strategy="", reason="split", propensity=1.0, share=None, shadows=(), blend=()),
        items=(), teams=(), rule=None,
    )  # fmt: skip
    assert kept == found


@settings(deadline=None, max_examples=200)
@given(st.lists(calls, min_size=1, max_size=2), st.lists(st.tuples(texts, maybe, some), max_size=3))
def test_rows_are_read_as_they_were(tmp_path_factory, like, columns):
    kinds = [number % len(like) for number in range(len(columns))]
    rows = RoutedRows(
        like=tuple(like),
        kind=tuple(kinds),
        ids=tuple(id_ for id_, _, _ in columns),
        buckets=tuple(range(len(columns))),
        units=tuple(unit for _, unit, _ in columns),
        covariates=tuple(covariate for _, _, covariate in columns),
    )
    found = [routed(record) for record in written(tmp_path_factory.mktemp("journal"), [rows])]
    each = [
        (like[kind].served, id_, bucket, unit, covariate)
        for kind, (bucket, (id_, unit, covariate)) in zip(kinds, enumerate(columns), strict=True)
    ]
    assert each == [(row.served, row.decision.id, row.decision.bucket, row.unit, row.covariate) for row in found]


@settings(deadline=None, max_examples=200)
@given(shadows)
def test_a_shadow_is_read_as_it_was(tmp_path_factory, event):
    (record,) = written(tmp_path_factory.mktemp("journal"), [event])
    decision, comparison = event.decision, event.comparison
    known = Decision(
        event.decision.variant, id=decision.id, rollout=decision.rollout, phase=decision.phase, bucket=decision.bucket,
        time_s=decision.time_s, fingerprint=decision.fingerprint,
    )  # fmt: skip
    if comparison is not None:
        # What is empty is left out.
        comparison = evolve(comparison, reason=comparison.reason or None, name=comparison.name or "default")
    kept = evolve(event, decision=known, comparison=comparison, wait_s=None)
    assert full(kept) == full(shadowed(record, event.decision.variant))
    assert (event.wait_s, None if comparison is None else comparison.difference) == (
        record.get("wait_s"),
        record.get("difference"),
    )


@settings(deadline=None, max_examples=200)
@given(outcomes)
def test_an_outcome_is_read_as_it_was(tmp_path_factory, event):
    (record,) = written(tmp_path_factory.mktemp("journal"), [event])
    assert full(event) == full(recorded(record))


@settings(deadline=None, max_examples=200)
@given(breakers | transitions)
def test_a_breaker_and_a_transition_are_read_as_they_were(tmp_path_factory, event):
    (record,) = written(tmp_path_factory.mktemp("journal"), [event])
    names = {"time_s": "t", "evidence": "verdict"}
    found = {names.get(each.name, each.name): getattr(event, each.name) for each in fields(type(event))}
    assert {name: value for name, value in found.items() if value or name in record} == {
        name: value for name, value in record.items() if name not in ("event", "v")
    }


@pytest.mark.parametrize("event", sorted(FIELDS))
def test_a_line_keeps_what_it_must_have_also_where_that_is_empty(event):
    required = [name for name, field in FIELDS[event].items() if field.required]
    said = json.loads(line(event, 1.0, **dict.fromkeys(FIELDS[event].keys() - {"t"}, "")))
    assert {"event", "v", "t", *required} == set(said)


# Strategies of others ----------------------------------------------------------------------------------------------------


class Flips:
    """States no shares."""

    def rollout_route(self, request):
        return Decision("candidate" if request.point < 0.5 else request.control, propensity=0.5)


class SaysLittle:
    """Gives nothing but the variant, and an empty reason."""

    name = "little"

    def rollout_route(self, request):
        return Decision("candidate" if request.point < 0.5 else "control", reason="", propensity=0.0)


class Shadows:
    """Shadows every call, and states no shares."""

    def rollout_route(self, request):
        return Decision(request.control, reason="static", shadows=("candidate",))


class Blends:
    """Makes one answer of two, with items and teams, and states no shares."""

    def rollout_route(self, request):
        return Decision("both", blend=("control", "candidate"))

    def rollout_merge(self, request, outputs):
        from rollout_sdk import Merged

        return Merged(outputs, items=(), teams=(), rule={})


@pytest.mark.parametrize("strategy", [Flips, SaysLittle, Shadows, Blends])
@pytest.mark.parametrize("kind", ["function", "batch", "coroutine", "generator"])
def test_the_lines_of_a_strategy_without_shares_can_be_read(strategy, kind, tmp_path):
    import asyncio

    functions = {
        "function": lambda user: 1,
        "batch": lambda user: [1 for _ in user],
        "coroutine": _coroutine,
        "generator": _generator,
    }
    runtime = Runtime(journal=tmp_path)
    model = rollout(
        candidate=functions[kind], strategy=strategy(), effects="read", unit="user", key="k", runtime=runtime,
        **({"batch": "user"} if kind == "batch" else {}),
    )(functions[kind])  # fmt: skip

    async def ask(users):
        for user in users:
            await model(user)

    users = [f"u{number}" for number in range(10)]
    if kind == "batch":
        model(users)
    elif kind == "coroutine":
        asyncio.run(ask(users))
    else:
        for user in users:
            answer = model(user)
            if kind == "generator":
                list(answer)
    runtime.flush()
    model.rollout.record("good", 0.0, unit="u1")
    model.rollout.abort(actor="", reason="")
    runtime.close()
    journal = read_journal(tmp_path)
    events = [record["event"] for record in journal]
    assert ({}, 10) == (journal.skipped, events.count("decision"))
    assert {"rollout", "outcome", "transition"} <= set(events)
    assert "skipped" not in as_text(summarise(tmp_path))


async def _coroutine(user):
    return 1


def _generator(user):
    yield 1


def test_a_breaker_of_a_plan_without_words_can_be_read(watch, tmp_path):
    def fails(user):
        raise ValueError

    runtime = watch(journal=tmp_path)
    model = rollout(candidate=fails, strategy=Canary(["100%"], guardrails=[]), unit="user", key="k", runtime=runtime)(
        lambda user: 1
    )
    for number in range(60):
        model(f"u{number}")
    runtime.flush()
    journal = read_journal(tmp_path)
    assert ("breaker" in [record["event"] for record in journal], {}) == (True, journal.skipped)
