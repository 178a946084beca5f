"""The schema: what is written is what is documented, and what is documented is what a reader accepts."""

import csv
import json
import math
import re
import time

import numpy
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Breaker, Canary, Comparison, Interleave, Runtime, Shadow, ShadowLimits, Step, rollout
from rollout_sdk.analysis import facts
from rollout_sdk.control import RolloutState
from rollout_sdk.interleaving import Balanced
from rollout_sdk.journal import read_journal, schema
from rollout_sdk.journal.decoding import why_skipped
from rollout_sdk.journal.lines import as_line, line
from rollout_sdk.journal.schema import FIELDS
from rollout_sdk.records import Decision, RecordedEvent, RoutedEvent, Run, ShadowedEvent, TransitionedEvent


def documented():
    rows = re.findall(r"^\| `(\w+)` +\|[^|]*\|([^|]*)\|$", schema.__doc__, re.MULTILINE)
    return {event: ["t", *re.findall(r"`(\w+)`", fields)] for event, fields in rows}


def test_the_table_is_what_a_reader_holds_lines_against():
    assert {event: list(fields) for event, fields in FIELDS.items()} == documented()


def everything(runtime):
    """Every kind of event, and every field of it, at least once."""

    def fail(u):
        raise ValueError("payload")

    def stream(u):
        yield from (1, 2)

    rank = rollout(candidate=lambda u: [2, 1], strategy=Interleave(), unit="u", key="rank", runtime=runtime)(lambda u: [1, 2])
    routed = rank.rollout.route("u")
    rank.rollout.record("click", 1, decision_id=routed.decision.id, item=2)
    rank.rollout.record("click", 1, decision_id=routed.decision.id, position=0)
    rank.rollout.record("purchase", 9.5, unit="u")
    rollout(candidate=lambda u: [2, 1], strategy=Interleave(Balanced()), unit="u", key="fair", runtime=runtime)(
        lambda u: [1, 2]
    )("u")
    ramp = rollout(
        candidate=lambda u: 2, strategy=Canary(["50%"], shadow=1.0), effects="read", unit="u", key="ramp", runtime=runtime
    )(lambda u: 1)
    for number in range(20):
        ramp(f"u{number}")
    shown = ramp.rollout.route("u-labelled").decision
    other = "candidate" if shown.variant == "control" else "control"
    ramp.rollout.record("correct", 1.0, decision_id=shown.id, variant=other, source="human")
    ramp.rollout.promote(actor="ann", reason="good")
    streamed = rollout(candidate=stream, strategy=Shadow(1.0), effects="read", unit="u", key="stream", runtime=runtime)(stream)
    opened = streamed("u")
    next(opened)
    opened.close()
    assert [1, 2] == list(streamed("u"))
    rollout(candidate=lambda: csv.reader([]), strategy=ABTest(1.0), key="lazy", runtime=runtime)(lambda: None)()
    failing = rollout(
        candidate=fail, strategy=Shadow(1.0), effects="read", unit="u", key="failing", holdout=0.5, runtime=runtime
    )(fail)
    for number in range(20):
        with pytest.raises(ValueError, match="payload"):
            failing(number)
    tripped = rollout(
        candidate=fail,
        strategy=ABTest(1.0, segments={"u": ["NL"]}),
        breaker=Breaker(min_runs=1),
        covariate="u.real",
        key="tripped",
        runtime=runtime,
    )(lambda u: 1 / u)
    assert [1, 1] == [tripped(1), tripped(1)]
    with pytest.raises(ZeroDivisionError):
        tripped(0)
    judged = rollout(
        candidate=unknown, strategy=Canary([Step("20%", shadow="5%"), Step("50%", shadow="5%")]), effects="read",
        passthrough=(LookupError,), override={"fixed": "candidate"}, unit="u", key="judged", runtime=runtime,
    )(lambda u: 1)  # fmt: skip
    with pytest.raises(LookupError):
        judged("fixed")
    decision = judged.rollout.assign("fixed")
    judged.rollout.record("click", 1.0, decision_id=decision.id, event_id="e-1")
    judged.rollout.promote()
    runtime.reconciler.transitions.change(
        "judged",
        "invalidate",
        lambda state: state.invalidate("shares"),
        actor="judge",
        reason="shares",
        evidence={"valid": False},
    )
    runtime.reconciler.transitions.change(
        "judged", "roll_back", RolloutState.roll_back, actor="judge", reason="harm", evidence={"outcome": "FAIL"}
    )
    scored = rollout(
        candidate=lambda rows, u, known: rows, strategy=ABTest(0.5), batch="rows", unit="u", covariate="known", key="scored",
        runtime=runtime,
    )(lambda rows, u, known: rows)  # fmt: skip
    assert [1, 2] == scored([1, 2], ["u1", "u2"], [0.5, 1.5])
    for version in ("1", "2"):
        rollout(candidate=unknown, strategy=ABTest(0.0), key="anew", version=version, runtime=runtime)(lambda u: 1)("u")
    runtime.flush()


def unknown(u):
    raise LookupError(u)


def test_every_field_of_every_event_is_written_by_some_run_and_no_other(tmp_path):
    class Far:
        def rollout_compare(self, control, candidate):
            part = Comparison(match=False, difference=0.5, reason="value")
            far = evolve(part, name="far", fields={"score": part}, labels=("ham", "spam"))
            return far if control != [1, 2] else None

    runtime = Runtime(journal=tmp_path, plugins=[Far()], shadows=ShadowLimits(cpu_share=1.0))
    everything(runtime)
    runtime.close()
    seen = {event: set() for event in FIELDS}
    for record in read_journal(tmp_path):
        seen[record["event"]] |= set(record)
    for file in tmp_path.iterdir():
        # A reader gives a decision for each row in place of the line.
        records = map(json.loads, file.read_text().splitlines())
        seen["rows"].update(*(record for record in records if record["event"] == "rows"))
    # Written only when the queue overflowed, see test_sink.
    seen["lost"] |= set(json.loads(line("lost", time.time(), count=1, sampled=1)))
    # Likewise, see tests/runtime/test_overload.py.
    for event in ("decision", "shadow", "outcome"):
        seen[event].add("rate")
    seen["outcome"].add("call_rate")
    # Written for what a `Judge` says only.
    seen["outcome"].add("details")
    # A call that is not analysed has no shadows, unless its flow breaks off.
    seen["shadow"].add("excluded")
    assert {event: {"event", "v", *fields} for event, fields in FIELDS.items()} == seen


names = st.text(min_size=1, max_size=20)
numbers = st.floats(width=64)
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)
seconds = st.floats(min_value=0, max_value=1e6)
decisions = st.builds(
    Decision,
    variant=names, reason=names, propensity=st.one_of(numbers, finite.map(numpy.float32)), shadows=st.lists(names).map(tuple),
    blend=st.lists(names).map(tuple), id=names, rollout=names, strategy=names, phase=names, share=st.none() | numbers,
    bucket=st.integers(0, 511), time_s=st.floats(min_value=0, max_value=4e9),
)  # fmt: skip
runs = st.builds(Run, variant=names, duration_s=seconds, error=st.none() | names, first_item_s=st.none() | seconds)
hashes = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
teams = st.lists(st.tuples(hashes, st.none() | names), max_size=5)
routed = st.builds(
    lambda shown, **fields: RoutedEvent(items=tuple(i for i, _ in shown), teams=tuple(t for _, t in shown), **fields),
    teams, decision=decisions, served=names, runs=st.lists(runs, max_size=3).map(tuple), error=st.none() | names,
    unit=st.none() | hashes, closed_early=st.booleans(), excluded=st.booleans(), no_evidence=st.booleans(),
    covariate=st.none() | finite, unmeasured=st.none() | names,
    segments=st.dictionaries(names, st.text(), max_size=3).map(lambda found: tuple(found.items())),
)  # fmt: skip
comparisons = st.builds(
    Comparison, match=st.sampled_from([True, False, numpy.bool_(True), numpy.bool_(False)]),
    difference=st.none() | numbers | finite.map(numpy.float32), reason=st.none() | names, name=names,
)  # fmt: skip
shadowed = st.builds(
    ShadowedEvent, decision=decisions, variant=names, end=st.sampled_from(["ok", "error", "dropped_full"]),
    duration_s=st.none() | numbers, wait_s=st.none() | numbers, error=st.none() | names,
    comparison=st.none() | comparisons, unit=st.none() | hashes, excluded=st.booleans(),
)  # fmt: skip
recorded = st.builds(
    RecordedEvent, rollout=names, metric=names, value=finite, time_s=seconds, decision_id=st.none() | names,
    phase=st.none() | names, variant=st.none() | names, bucket=st.none() | st.integers(0, 511), unit=st.none() | hashes,
    item=st.none() | hashes,
)  # fmt: skip
transitioned = st.builds(
    TransitionedEvent, rollout=names, strategy=names, action=st.sampled_from(["start", "promote", "abort"]), status=names,
    revision=st.integers(0, 99), from_phase=st.none() | names, to_phase=names,
    shares=st.dictionaries(names, st.floats(0, 1), min_size=1, max_size=3), actor=st.text(), reason=st.text(), time_s=seconds,
)  # fmt: skip


@settings(deadline=None)
@given(st.one_of(routed, shadowed, recorded, transitioned))
def test_whatever_an_event_holds_its_line_is_one_of_ascii_that_a_strict_reader_takes(event):
    raw = as_line(event)
    assert (True, False) == (raw.isascii(), b"\n" in raw)

    def refuse(constant):
        raise AssertionError(constant)

    assert None is why_skipped(json.loads(raw, parse_constant=refuse))


@settings(deadline=None)
@given(routed)
def test_a_decision_comes_back_as_it_was(event):
    record, decision = json.loads(as_line(event)), event.decision
    same = ("variant", "reason", "id", "rollout", "strategy", "phase", "bucket")
    assert {name: getattr(decision, name) for name in same} == {name: record[name] for name in same}
    assert (event.served, event.error, event.unit) == (record["served"], record.get("error"), record.get("unit"))
    lists = {"shadows": decision.shadows, "blend": decision.blend, "items": event.items, "teams": event.teams}
    assert lists == {name: tuple(record.get(name, ())) for name in lists}
    flags = {"closed_early": event.closed_early, "excluded": event.excluded, "no_evidence": event.no_evidence}
    assert flags == {name: record.get(name, False) for name in flags}
    assert (event.covariate, event.unmeasured) == (record.get("cov"), record.get("unmeasured"))
    assert dict(event.segments) == record.get("segments", {})
    share = decision.share is not None and math.isfinite(decision.share)
    assert (decision.share if share else None) == record.get("share")
    expected = [[run.variant, run.duration_s, run.error, run.first_item_s] for run in event.runs]
    assert expected == [
        [variant, pytest.approx(s, abs=1e-9), error, first if first is None else pytest.approx(first, abs=1e-9)]
        for variant, s, error, first in record.get("runs", [])
    ]
    assert decision.time_s == pytest.approx(record["t"], abs=1e-6)


def test_a_judge_that_replays_a_journal_sees_what_it_saw_when_it_was_written():
    decision = Decision("v", id="d", rollout="r", strategy="s", phase="p", time_s=1.0)
    call = RoutedEvent(decision, "control", (), no_evidence=True, covariate=2.5, unmeasured="reader")
    again = facts.routed(json.loads(as_line(call)))
    assert (True, 2.5, "reader") == (again.no_evidence, again.covariate, again.unmeasured)
    pair = {"first_item_s": 0.5, "control_error": "ValueError", "control_duration_s": 2.0, "control_first_item_s": 0.0}
    shadow = facts.shadowed(json.loads(as_line(ShadowedEvent(decision, "v", "ok", **pair))))
    assert pair == {name: getattr(shadow, name) for name in pair}


def test_lines_written_before_a_field_was_added_leave_it_unknown():
    decision = Decision("v", id="d", rollout="r", strategy="s", phase="p", time_s=1.0)
    call = facts.routed(json.loads(as_line(RoutedEvent(decision, "v", ()))))
    assert (False, None, None) == (call.no_evidence, call.covariate, call.unmeasured)
    shadow = facts.shadowed(json.loads(as_line(ShadowedEvent(decision, "v", "ok"))))
    assert [None] * 4 == [
        shadow.first_item_s, shadow.control_error, shadow.control_duration_s, shadow.control_first_item_s,
    ]  # fmt: skip


def test_a_mismatch_and_a_zero_are_written_and_what_is_empty_is_not():
    decision = Decision("control", id="d", rollout="r", phase="p")
    record = json.loads(as_line(ShadowedEvent(decision, "v", "ok", duration_s=0.0, comparison=Comparison(match=False))))
    assert (0, 0.0, 0) == (record["match"], record["duration_s"], record["bucket"])
    assert {"wait_s", "error", "difference", "unit", "excluded"}.isdisjoint(record)


DECISION = Decision("control", id="d", rollout="r", strategy="s", phase="p")


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (RoutedEvent(DECISION, "control", ()), ["rate"]),
        (ShadowedEvent(DECISION, "v", "ok"), ["rate"]),
        (RecordedEvent("r", "click", 1.0, 2.0, decision_id="d"), ["rate", "call_rate"]),
    ],
)
def test_a_line_of_all_calls_has_no_rate_and_one_of_a_part_has(event, names):
    assert {"rate", "call_rate"}.isdisjoint(json.loads(as_line(event)))
    part = json.loads(as_line(evolve(event, **dict.fromkeys(names, 0.5))))
    assert [0.5] * len(names) == [part[name] for name in names]


@pytest.mark.parametrize(
    ("event", "names"),
    [
        ("rollout", "rollout strategy control phase"),
        ("decision", "t rollout id strategy phase variant served reason bucket"),
        ("rows", "rollout like kind ids buckets"),
        ("shadow", "rollout id phase variant end"),
        ("outcome", "t rollout metric value"),
        ("breaker", "rollout variant action failures runs"),
        ("lost", "count"),
        ("transition", "rollout action to_phase"),
    ],
)
def test_what_no_line_of_an_event_can_do_without_is_required(event, names):
    assert names.split() == [name for name, field in FIELDS[event].items() if field.required]


@pytest.mark.parametrize("event", [object(), None, {"event": "decision"}])
def test_what_is_no_event_has_no_line(event):
    with pytest.raises(TypeError, match="is not an event"):
        as_line(event)


def test_a_decision_has_its_fields_in_the_order_of_the_table(watch, tmp_path):
    runtime = watch(journal=tmp_path)
    rollout(candidate=lambda u: 2, strategy=ABTest(0.5), unit="u", key="m", runtime=runtime)(lambda u: 1)("u")
    runtime.flush()
    (record,) = [record for record in read_journal(tmp_path) if record["event"] == "decision"]
    assert ["event", "v", "t", *[name for name in FIELDS["decision"] if name in record and name != "t"]] == list(record)


def test_a_field_that_is_added_later_is_no_damage():
    decision = Decision("control", id="d", rollout="r", strategy="s", phase="p")
    record = json.loads(as_line(RoutedEvent(evolve(decision), "control", ())))
    assert None is why_skipped({**record, "new": {"deep": [1]}})
