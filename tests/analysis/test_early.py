"""Outcomes that another process recorded: they come after their calls, so that a report says the same of them."""

import json
import random

import pytest
from attrs import asdict

from rollout_sdk import ABTest, Gate, Guardrail, Interleave, Runtime, rollout
from rollout_sdk.analysis import early, summarise
from rollout_sdk.analysis.facts import Read, in_order
from rollout_sdk.analysis.live import Live
from rollout_sdk.journal import Journal


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self):
        return int(self.now_s * 10**9)


def lists(folder, seed, clock):
    """A ranker that is clicked more often than the other one."""
    draw = random.Random(seed)
    runtime = Runtime(journal=folder, key=b"k" * 16, time_ns=clock)
    films = rollout(
        candidates={"other": lambda unit: ["c", "d", "a"]},
        strategy=Interleave(k=3, gates=[Gate("click", mde=0.02)]),
        unit="unit",
        key="films",
        runtime=runtime,
    )(lambda unit: ["a", "b", "c"])
    for number in range(600):
        clock.now_s += draw.expovariate(1)
        routed = films.rollout.route(f"u{number}")
        if draw.random() < 0.5:
            films.rollout.record("click", 1.0, decision_id=routed.decision.id, item=draw.choice(routed.value[:2]))
    runtime.close()


def purchases(folder, seed, clock):
    """A label counts once, spending is bounded and has a window; the control has an outage."""
    draw = random.Random(seed)
    runtime = Runtime(journal=folder, key=b"k" * 16, time_ns=clock)
    strategy = ABTest(
        0.5,
        gates=[Gate("label", per="outcome"), Gate("click", mde=0.1)],
        guardrails=[Guardrail("spend", margin=0.5, clip=(0, 4), window=90.0), Guardrail("error_rate")],
    )

    def failing(unit):
        if 900 < clock.now_s % 1_800 < 1_200:
            raise ValueError(unit)
        return unit

    model = rollout(candidate=failing, strategy=strategy, unit="unit", key="shop", runtime=runtime, breaker=None)(failing)
    for number in range(1_200):
        clock.now_s += draw.expovariate(1)
        try:
            decision = model.rollout.route(f"u{number % 500}").decision
        except ValueError:
            continue
        for metric, value in (("label", draw.random()), ("spend", draw.lognormvariate(1, 1)), ("click", 1.0)):
            for _ in range(draw.choice([0, 0, 1, 2])):
                clock.now_s += draw.choice([0.0, 0.01, 100.0 if metric == "spend" else 1.0])
                model.rollout.record(metric, value, decision_id=decision.id, event_id=draw.choice([None, f"e{number}"]))
    runtime.close()


def moved(source, target, name):
    """The same journal, had another process recorded its outcomes, whose clock was late."""
    target.mkdir()
    (path,) = source.glob("events-*.jsonl")
    for line in path.read_bytes().splitlines(keepends=True):
        where = name if b'"event":"outcome"' in line else path.name
        with (target / where).open("ab") as file:
            file.write(line)


def said(folder):
    """What a report says; without what depends on the time of the last line, and without the looks on the way."""
    (reported,) = summarise(folder).rollouts
    verdict = reported.verdict
    left_out = {"to_go", "numbers", "looks"}
    found = [{name: value for name, value in asdict(each).items() if name not in left_out} for each in verdict.differences]
    preferences = [asdict(each) for phase in reported.phases for each in phase.preferences]
    return verdict.headline, dict(verdict.outcomes), found, preferences


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["events-a-1-1f-0.jsonl", "events-zz-1-1f-0.jsonl"], ids=["first file", "last file"])
@pytest.mark.parametrize("served", [purchases, lists])
def test_a_report_says_the_same_whoever_recorded_the_outcomes(tmp_path, served, name, seed):
    served(tmp_path / "one", seed, Clock())
    moved(tmp_path / "one", tmp_path / "two", name)
    expected = said(tmp_path / "one")
    assert expected[2]
    assert expected == said(tmp_path / "two")


def test_a_page_that_stays_open_says_it_too(tmp_path):
    lists(tmp_path / "one", 1, Clock())
    moved(tmp_path / "one", tmp_path / "two", "events-a-1-1f-0.jsonl")
    live = Live(tmp_path / "two")
    live.read()
    (ours,), (theirs,) = live.report().rollouts, summarise(tmp_path / "one").rollouts
    (mine,), (expected,) = ours.phases[0].preferences, theirs.phases[0].preferences
    assert (expected.wins, expected.losses, expected.ties) == (mine.wins, mine.losses, mine.ties)
    assert sum((mine.wins, mine.losses)) > 100


# The order


def decision(call, t, **more):
    return {
        "event": "decision", "v": 1, "t": t, "rollout": "r", "id": call, "strategy": "ab", "phase": "0:50%",
        "variant": "control", "served": "control", "reason": "split", "propensity": 0.5, "share": 0.5, "bucket": 3, **more,
    }  # fmt: skip


def outcome(call, t, decided, **more):
    return {
        "event": "outcome", "v": 1, "t": t, "rollout": "r", "metric": "buy", "value": 1.0, "id": call, "phase": "0:50%",
        "variant": "control", "bucket": 3, "decided": decided, **more,
    }  # fmt: skip


def write(folder, process, *records):
    with (folder / f"events-{process}-1-1f-0.jsonl").open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))


def order(folder):
    return [(each["event"], each["id"], each["seen_s"]) for each in in_order(Journal(folder), None, None)]


def test_an_outcome_comes_after_its_call(tmp_path):
    # The call of "a" was written after the later one of "b", because it took longer; the recorder's clock is late.
    write(tmp_path, "a", outcome("a", 9.0, 10.0), outcome("b", 9.5, 11.0))
    write(tmp_path, "z", decision("b", 11.0), decision("a", 10.0))
    assert [("decision", "b", 11.0), ("outcome", "b", 11.0), ("decision", "a", 11.0), ("outcome", "a", 11.0)] == order(tmp_path)


def test_an_outcome_of_a_call_that_is_not_there_comes_at_the_end(tmp_path):
    write(tmp_path, "a", outcome("lost", 20.0, 10.0))
    write(tmp_path, "z", decision("b", 11.0), decision("c", 12.0))
    assert ["b", "c", "lost"] == [call for _, call, _ in order(tmp_path)]


def test_a_time_that_cannot_be_does_not_change_the_order(tmp_path):
    # An id without a key can be forged: its call is said to be of another century.
    write(tmp_path, "a", outcome("forged", 10.0, 4e9), decision("a", 12.0))
    write(tmp_path, "z", decision("b", 11.0))
    assert [("decision", "b", 11.0), ("decision", "a", 12.0), ("outcome", "forged", 0.0)] == order(tmp_path)


def test_the_outcome_of_a_call_long_ago_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(early, "_MOST_CALLS", 2)
    write(tmp_path, "a", *(decision(f"c{number}", float(number)) for number in range(10)), outcome("c0", 20.0, 0.0))
    write(tmp_path, "z", *(decision(f"d{number}", 100.0 + number) for number in range(10)))
    assert 10 == [call for _, call, _ in order(tmp_path)].index("c0", 1)


def test_no_more_outcomes_wait_than_a_few_thousand(tmp_path, monkeypatch):
    monkeypatch.setattr(early, "_MOST_WAITING", 2)
    write(tmp_path, "a", *(outcome(f"lost{number}", 20.0, 10.0) for number in range(4)))
    write(tmp_path, "z", decision("b", 11.0))
    assert ["lost0", "lost1", "b", "lost2", "lost3"] == [call for _, call, _ in order(tmp_path)]


def test_in_a_journal_that_is_followed_an_outcome_waits_for_a_few_readings(tmp_path):
    live, read = Live(tmp_path), Read()

    def taken():
        return [each["id"] for each in in_order(live._journal, None, None, read)]

    write(tmp_path, "a", outcome("b", 12.0, 11.0), outcome("lost", 20.0, 10.0))
    # Of a rollout without a call, not even the plan is known.
    assert [[]] * 9 == [taken() for _ in range(9)]
    write(tmp_path, "z", decision("b", 11.0))
    read.served.add("r")
    assert ["b", "b", "lost"] == taken()
    write(tmp_path, "a", outcome("lost too", 20.0, 10.0))
    assert [[], [], ["lost too"], []] == [taken() for _ in range(4)]
    assert not read.early.waiting


def test_a_page_that_stays_open_has_news_when_an_outcome_has_waited_long_enough(tmp_path):
    write(tmp_path, "z", decision("b", 11.0))
    live = Live(tmp_path)
    assert live.read()
    write(tmp_path, "a", outcome("lost", 20.0, 11.5))
    assert [True, False, True, False] == [live.read() for _ in range(4)]
