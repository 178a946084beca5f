"""Evidence in a store that cannot be read: it is left out and named, and the rest is judged."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rollout_sdk import Canary, Guardrail, Runtime, Step, rollout
from rollout_sdk.control.stores import MemoryStore
from tests.processes import Shared

PLAN = Canary([Step("50%", min_units=20, min_time=0)], guardrails=[Guardrail("error_rate", floor=0.2, per="call")])


def process(store):
    runtime = Runtime(store=Shared(store))
    # The test looks and judges by hand.
    runtime.reconciler.start = lambda: None

    def candidate(user):
        raise ValueError

    model = rollout(candidate=candidate, strategy=PLAN, unit="user", key="m", runtime=runtime, effects="read", breaker=None)(
        lambda user: "old"
    )
    return model, runtime


def serve(model, runtime, name, users=300):
    for user in range(users):
        model(f"{name}-{user}")
    assert runtime.flush(10.0)


def published(store):
    """What every process has published, by (writer, part)."""
    return dict(store.gather("m", store.load("m").document["epoch"]).parts)


def publish(store, model, runtime, name="b"):
    """Ten more users of a process: what it then publishes about its phase, as ((writer, part), text)."""
    serve(model, runtime, name, users=10)
    assert runtime.reconciler.rollouts["m"].publish(store, runtime.reconciler.writer, time.time())
    [found] = [each for each in published(store).items() if each[0][0] == runtime.reconciler.writer and "phase:" in each[0][1]]
    return found


def put(store, part, text):
    epoch = store.load("m").document["epoch"]
    assert store.publish("m", epoch, part[0], {part[1]: text})


@pytest.fixture
def two():
    store = MemoryStore()
    made = [process(store), process(store)]
    yield store, *made
    for _, runtime in made:
        runtime.close(1.0)


DAMAGES = {
    "cut short": lambda text: text[: len(text) // 2],
    "not a table": lambda text: "7",
    "empty": lambda text: "",
    "a part is missing": lambda text: json.dumps({name: each for name, each in json.loads(text).items() if name != "sums"}),
    "too few buckets": lambda text: json.dumps({**json.loads(text), "calls": {"control": [], "candidate": []}}),
    "fewer than no calls": lambda text: json.dumps({**json.loads(text), "calls": {"control": [-1] * 512}}),
    "a sampling level that needs all memory": lambda text: text.replace('"level":0', '"level":1000000000000'),
    "nested for ever": lambda text: "[" * 100_000,
    "buckets of another number": lambda text: text.replace('"buckets":512', '"buckets":4'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_others_evidence_is_judged_and_the_process_is_named(two, damage):
    store, (first, one), (second, other) = two
    name, text = publish(store, second, other)
    assert damage(text) != text
    put(store, name, damage(text))
    with capture_logs() as logged:
        serve(first, one, "a", users=10)
        assert 10 == sum(first.rollout.judge().units.values())
        assert one.flush(10.0)
    assert {("store", "StoreError"): 1} == dict(one.faults)
    [line] = [each for each in logged if "rollout.store.failed" == each["event"]]
    assert name[0] in line["why"]
    serve(first, one, "c", users=400)
    verdict = first.rollout.judge()
    assert ("FAIL", 410) == (verdict.outcome, sum(verdict.units.values()))
    assert "rolled_back" == first.rollout.status().status


def test_it_counts_again_when_its_process_publishes_again(two):
    store, (first, one), (second, other) = two
    name, _ = publish(store, second, other)
    put(store, name, "{")
    serve(first, one, "a", users=10)
    assert 10 == sum(first.rollout.judge().units.values())
    publish(store, second, other, "d")
    assert 30 == sum(first.rollout.judge().units.values())


def test_what_was_read_before_the_damage_still_counts(two):
    store, (first, one), (second, other) = two
    name, _ = publish(store, second, other)
    assert 10 == sum(first.rollout.judge().units.values())
    put(store, name, "{")
    serve(first, one, "a", users=10)
    assert 20 == sum(first.rollout.judge().units.values())
    assert {("store", "StoreError"): 1} == dict(one.faults)


@pytest.fixture(scope="module")
def part():
    store = MemoryStore()
    model, runtime = process(store)
    serve(model, runtime, "b", users=40)
    model.rollout.judge()
    [text] = [text for name, text in published(store).items() if name[1].startswith("phase:")]
    runtime.close(1.0)
    return text


def places(table, path=()):
    """The way to everything in it."""
    yield path
    pairs = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for name, each in list(pairs)[:6]:
        yield from places(each, (*path, name))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=3), each, max_size=2),
    max_leaves=3,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_its_place_judging_goes_on(part, data):
    table = json.loads(part)
    *way, last = data.draw(st.sampled_from([path for path in places(table) if path]))
    place = table
    for name in way:
        place = place[name]
    place[last] = data.draw(JSON)
    store = MemoryStore()
    model, runtime = process(store)
    try:
        serve(model, runtime, "a", users=40)
        model.rollout.judge()
        [name] = [name for name in published(store) if name[1].startswith("phase:")]
        put(store, ("another", name[1]), json.dumps(table))
        verdict = model.rollout.judge()
        # Counted, or left out and named; never in the way.
        assert verdict is not None
        assert "running" == model.rollout.status().status or "FAIL" == verdict.outcome
        assert len(runtime.faults) <= 1
    finally:
        runtime.close(1.0)
