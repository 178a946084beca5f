"""Outcomes of units in verdicts: each is one of the unit's last call before it, whoever recorded it, wherever its line is."""

import json
import random

import pytest

import rollout_sdk
from rollout_sdk import ABTest, Gate, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.importing import Columns, import_outcomes
from rollout_sdk.analysis.of_units import in_order_by_call
from rollout_sdk.analysis.replay import replay
from rollout_sdk.journal import Journal
from rollout_sdk.runtime import registry

KEY = b"k" * 16
GATE = Gate("buy", mde=0.1)
STARTED_S = 1_800_000_000


def shop(folder, recording):
    """A test whose candidate sells three times as much; how the purchases come into the journal is for `recording` to say."""
    clock = [float(STARTED_S)]
    runtime = Runtime(journal=folder, key=KEY, time_ns=lambda: int(clock[0] * 1e9))
    runtime.reconciler.start = lambda: None
    rng, bought = random.Random(1), []

    @rollout(candidate=lambda user: "b", strategy=ABTest(0.5, gates=[GATE]), unit="user", key="shop", runtime=runtime)
    def model(user):
        return "a"

    for number in range(600):
        clock[0] += 1.0
        # Every unit has had an earlier call, in which it bought nothing.
        user = f"u{number % 300}"
        routed = model.rollout.route(user)
        clock[0] += 0.5
        if number >= 300 and rng.random() < (0.45 if routed.value == "b" else 0.15):
            bought.append((user, clock[0]))
            recording(model, user, routed.decision.id)
    live = model.rollout.judge()
    runtime.close(10)
    return bought, live


def by_id(model, user, decision_id):
    model.rollout.record("buy", 1.0, decision_id=decision_id)


def by_unit(model, user, decision_id):
    model.rollout.record("buy", 1.0, unit=user)


def said(folder):
    """What the report and the replay say of the purchases: all of it."""
    (reported,) = summarise(folder).rollouts
    (shown,) = [each for each in reported.verdict.differences if each.metric == "buy"]
    phase = replay(folder, ABTest(0.5, gates=[GATE]).criteria).phases[-1]
    (finding,) = [each for each in phase.last.findings if each.name == "buy"]
    numbers = finding.estimate, finding.low, finding.high, finding.outcome, phase.last.outcome
    same = shown.estimate, shown.low, shown.high, shown.outcome, shown.value_total, shown.control_total
    return reported.verdict.headline, same, numbers, phase.decided.outcome, dict(phase.last.outcomes), reported.verdict.outcomes


@pytest.fixture
def expected(tmp_path):
    bought, live = shop(tmp_path / "by id", by_id)
    told = said(tmp_path / "by id")
    assert ("SHIP", "PASS", len(bought)) == (told[0], told[3], told[4]["counted"])
    assert live.outcomes == told[4]
    return told


def test_by_unit_is_as_by_id(tmp_path, expected):
    _, live = shop(tmp_path / "by unit", by_unit)
    assert expected == said(tmp_path / "by unit")
    assert "not counted: by unit (reports count them) " in str(live)
    # The judge of a serving process does not know which process served the unit last: it says what it leaves to the report.
    assert live.outcomes == {"by unit": expected[4]["counted"]}


def test_recorded_by_another_process_is_as_by_id(tmp_path, expected, monkeypatch):
    folder = tmp_path / "elsewhere"
    bought, _ = shop(folder, lambda *_: None)
    job = Runtime(journal=folder, key=KEY)
    monkeypatch.setattr(registry, "_default", job)
    for user, time_s in bought:
        rollout_sdk.record("buy", 1.0, unit=user, rollout="shop", time_s=time_s)
    job.close(10)
    assert expected == said(folder)


def test_imported_is_as_by_id(tmp_path, expected):
    folder, table = tmp_path / "imported", tmp_path / "purchases.jsonl"
    bought, _ = shop(folder, lambda *_: None)
    table.write_text("".join(json.dumps({"unit": user, "value": 1.0, "time": time_s}) + "\n" for user, time_s in bought))
    import_outcomes(table, folder, rollout="shop", metric="buy", columns=Columns("unit", "value", "time"), key=KEY)
    assert expected == said(folder)


def decision(number, time_s, **more):
    return {
        "event": "decision", "v": 1, "t": time_s, "rollout": "r", "id": f"d{number}", "strategy": "ab", "phase": "0:50%",
        "variant": "control", "served": "control", "reason": "split", "propensity": 0.5, "share": 0.5, "bucket": 3,
        "fingerprint": "f1", "unit": "u", "runs": [["control", 0.1, None, None]], **more,
    }  # fmt: skip


def bought(time_s, value=1.0, **more):
    return {"event": "outcome", "v": 1, "t": time_s, "rollout": "r", "metric": "buy", "value": value, "unit": "u", **more}


def lines(folder, *processes):
    for number, records in enumerate(processes):
        path = folder / f"events-h-{number + 1}-1f-0.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = in_order_by_call(Journal(folder), None)
    return [(each["event"], each.get("id"), each["seen_s"]) for each in found]


def test_goes_to_the_last_call_before_it_of_any_process(tmp_path):
    found = lines(
        tmp_path, [decision(1, 10.0), bought(12.0), bought(14.0, value=2.0)], [decision(2, 13.0, variant="candidate")]
    )
    # The line of the second is read before its call is: it waits for that.
    assert [
        ("decision", "d1", 10.0), ("outcome", "d1", 10.0), ("decision", "d2", 13.0), ("outcome", "d2", 13.0)
    ] == found  # fmt: skip


def test_of_a_later_file_comes_after_its_call_at_its_own_time(tmp_path):
    found = lines(
        tmp_path, [bought(25.0), bought(99.0), bought(5.0)], [decision(1, 10.0), decision(2, 20.0), decision(3, 30.0)]
    )
    assert [
        ("outcome", None, 0.0), ("decision", "d1", 10.0), ("decision", "d2", 20.0), ("outcome", "d2", 25.0),
        ("decision", "d3", 30.0), ("outcome", "d3", 30.0),
    ] == found  # fmt: skip


def test_of_an_excluded_call_is_excluded_and_a_rate_is_that_of_its_call(tmp_path):
    records = [decision(1, 10.0, excluded=True), bought(11.0), decision(2, 20.0, rate=0.5), bought(21.0, rate=0.25)]
    lines(tmp_path, records)
    _, first, _, second = in_order_by_call(Journal(tmp_path), "r")
    assert (True, 1.0) == (first["excluded"], first["call_rate"])
    assert (False, 0.5, 0.25) == (second["excluded"], second["call_rate"], second["rate"])
    assert (3, "f1", "0:50%", 20.0, "control") == tuple(
        second[name] for name in ("bucket", "fingerprint", "phase", "decided", "variant")
    )


def test_without_outcomes_of_units_calls_are_read_once(tmp_path, monkeypatch):
    lines(tmp_path, [decision(1, 10.0), {**bought(11.0), "unit": None, "id": "d1"}])
    asked = []
    whole = Journal.only
    monkeypatch.setattr(Journal, "only", lambda self, event, **more: asked.append(event) or whole(self, event, **more))
    assert 2 == len(list(in_order_by_call(Journal(tmp_path), None)))
    assert ["outcome"] == asked
