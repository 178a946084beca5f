"""Under overload, whole calls are kept or not, drawn by a hash of their ids, at a rate that every line tells."""

import math
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ABTest, Runtime, Shadow, rollout
from rollout_sdk.assignment import BUCKETS
from rollout_sdk.assignment.ids import decode_id, encode_id
from rollout_sdk.journal import JournalWriter, read_journal
from rollout_sdk.recording import intake as intake_module
from rollout_sdk.recording.recorder import Recorder
from rollout_sdk.records.sampling import HIGHEST_LEVEL, is_drawn, level_of, rate_of

KEY = b"k" * 16
MOST, FULL = 10_000, 15_000


# The draw ----------------------------------------------------------------------------------------------------------------


def test_a_queue_with_room_takes_everything_and_a_full_one_nothing():
    assert (0, 1, HIGHEST_LEVEL + 1) == (level_of(MOST - 1, MOST), level_of(MOST, MOST), level_of(FULL, MOST))


def test_the_fuller_a_queue_is_the_fewer_calls_it_takes():
    levels = [level_of(waiting, MOST) for waiting in range(MOST - 1, FULL + 1)]
    assert sorted(levels) == levels
    assert set(range(HIGHEST_LEVEL + 2)) == set(levels)
    # Each level may take half of what is left.
    assert [2_500, 1_250, 625] == [levels.count(level) for level in (1, 2, 3)]


@given(st.text(), st.integers(0, HIGHEST_LEVEL), st.integers(0, HIGHEST_LEVEL))
def test_what_is_kept_at_a_rate_is_kept_at_every_higher_one(name, one, other):
    low, high = sorted((rate_of(one), rate_of(other)))
    assert is_drawn(name, high) or not is_drawn(name, low)
    assert is_drawn(name, 1.0)


@pytest.mark.parametrize("level", [1, 2, 4])
def test_calls_of_every_arm_and_bucket_are_kept_at_the_same_rate(level):
    """Ids of a fixed process: the same in every run."""
    rate, number = rate_of(level), 4 * BUCKETS * 16
    kept = Counter(
        (arm, bucket % 4)
        for index in range(number)
        for arm in ("control", "candidate")
        if is_drawn(encode_id("m", "0:50%", arm, bucket := index % BUCKETS, 1_795_928_708_000_000_000, f"{index:x}", KEY), rate)
    )
    expected = number / 4 * rate
    assert 8 == len(kept)
    assert all(abs(count - expected) < 4.5 * math.sqrt(expected * (1 - rate)) for count in kept.values())


# The recorder ------------------------------------------------------------------------------------------------------------


class Held:
    """A runtime whose facts wait until they are released."""

    def __init__(self, watch, monkeypatch, **settings):
        self.runtime = watch(key=KEY, **settings)
        self._go = threading.Event()
        deliver = self.runtime.recorder._hand_over

        def held(facts):
            self._go.wait(30)
            deliver(facts)

        monkeypatch.setattr(self.runtime.recorder, "_hand_over", held)

    def release(self):
        self._go.set()
        assert self.runtime.flush(30.0)


def split(runtime, **options):
    return rollout(candidate=lambda u: 2, strategy=ABTest(0.5), unit="u", key="m", runtime=runtime, **options)(lambda u: 1)


def same(rows):
    return rows


def lines(folder, event):
    return [record for record in read_journal(folder) if record["event"] == event]


def test_what_is_kept_was_drawn_at_the_rate_that_its_line_tells_and_stands_for_all(watch, monkeypatch, tmp_path):
    held = Held(watch, monkeypatch, journal=tmp_path)
    model = split(held.runtime)
    for number in range(30_000):
        model(number)
    held.release()
    held.runtime.close()
    kept = lines(tmp_path, "decision")
    rates = [record.get("rate", 1.0) for record in kept]
    assert all(is_drawn(record["id"], rate) for record, rate in zip(kept, rates, strict=True))
    assert {1.0, 0.5, 0.25, 0.125} <= set(rates)
    (missing,) = [(record["count"], record.get("sampled", 0)) for record in lines(tmp_path, "lost")]
    assert (30_000 - len(kept), missing[0]) == (missing[0], missing[1])
    # Of 5,000 calls at each level, (1 - rate) / rate is the variance that each adds.
    error = math.sqrt(5_000 * (1 + 3 + 7 + 15))
    assert abs(30_000 - sum(1 / rate for rate in rates)) < 5 * error
    arms = Counter()
    for record, rate in zip(kept, rates, strict=True):
        arms[record["variant"]] += 1 / rate
    assert abs(arms["control"] - arms["candidate"]) < 5 * (error + math.sqrt(30_000))


def test_no_more_waits_than_the_queue_holds_however_many_calls_come(watch, monkeypatch):
    held = Held(watch, monkeypatch)
    recorder, model = held.runtime.recorder, split(held.runtime)
    monkeypatch.setattr(intake_module, "_MOST_WAITING", 100)
    for number in range(20_000):
        model(number)
    assert recorder.waiting <= 150
    # Those for which there was no room even at the lowest rate are lost without a draw.
    assert recorder.drawn_out <= recorder.dropped < 20_000
    held.release()
    assert 20_000 == sum(held.runtime.tally("m").decisions.values()) + recorder.dropped


def test_a_fact_that_is_no_calls_is_dropped_when_the_queue_is_full(monkeypatch):
    monkeypatch.setattr(intake_module, "_MOST_WAITING", 10)
    go, facts = threading.Event(), []
    recorder = Recorder(lambda batch: (go.wait(30), facts.extend(batch)), failed=lambda *_: None, tick=lambda: None)
    for number in range(2_000):
        recorder.put(number)
    assert (0, True) == (recorder.drawn_out, recorder.waiting <= 10)
    go.set()
    assert recorder.flush(30.0)
    assert 2_000 == len(facts) + recorder.dropped
    recorder.close()


def test_a_transition_and_a_breaker_are_kept_while_calls_are_drawn(watch, monkeypatch, tmp_path):
    held = Held(watch, monkeypatch, journal=tmp_path)
    model = split(held.runtime)
    for number in range(14_000):
        model(number)
    model.rollout.abort(actor="ann", reason="why")
    held.release()
    held.runtime.close()
    assert ["abort"] == [record["action"] for record in lines(tmp_path, "transition")]


def test_an_outcome_is_there_exactly_where_its_call_is(watch, monkeypatch, tmp_path):
    """Also when it comes when all is calm again: the id of a call says at which level it began."""
    held = Held(watch, monkeypatch, journal=tmp_path)
    model = split(held.runtime)
    ids = [model.rollout.route(number).decision.id for number in range(22_000)]
    held.release()
    for place, id_ in enumerate(ids):
        model.rollout.record("good", 1.0, decision_id=id_)
        if place % 2_000 == 0:
            assert held.runtime.flush(30.0)
    held.runtime.close()
    calls = {record["id"]: record.get("rate", 1.0) for record in lines(tmp_path, "decision")}
    outcomes = {record["id"]: record.get("rate", 1.0) for record in lines(tmp_path, "outcome")}
    assert 10_000 < len(calls) < 16_000
    # A call during which the level rose, which is one for each level, was drawn at the next one.
    assert len(outcomes.keys() - calls.keys()) <= HIGHEST_LEVEL
    assert set() == calls.keys() - outcomes.keys()
    differing = sum(outcomes[id_] != rate for id_, rate in calls.items())
    assert differing <= HIGHEST_LEVEL


def test_another_process_draws_the_outcomes_of_a_call_as_its_own_did(watch, monkeypatch, tmp_path):
    held = Held(watch, monkeypatch)
    model = split(held.runtime)
    ids = [model.rollout.route(number).decision.id for number in range(13_000)]
    held.release()
    drawn = [id_ for id_ in ids if decode_id(id_, KEY).rate == 0.5]
    assert 1_000 < len(drawn)
    other = watch(key=KEY, journal=tmp_path)
    elsewhere = split(other)
    for id_ in drawn:
        elsewhere.rollout.record("good", 1.0, decision_id=id_)
    other.close()
    assert [(id_, 0.5, 0.5) for id_ in drawn if is_drawn(id_, 0.5)] == [
        (record["id"], record["rate"], record["call_rate"]) for record in lines(tmp_path, "outcome")
    ]
    assert sum(not is_drawn(id_, 0.5) for id_ in drawn) == other.recorder.drawn_out


def test_where_there_is_room_ids_say_nothing_of_it(watch):
    model = split(watch(key=KEY))
    decoded = decode_id(model.rollout.route("u").decision.id, KEY)
    assert (1.0, False, False) == (decoded.rate, "~" in decoded.nonce, decoded.excluded)


def test_an_excluded_call_says_so_beside_its_level(watch, monkeypatch):
    held = Held(watch, monkeypatch)
    model = split(held.runtime, holdout=1.0)
    ids = [model.rollout.route(number).decision.id for number in range(12_000)]
    held.release()
    decoded = decode_id(ids[-1], KEY)
    assert (0.5, True) == (decoded.rate, decoded.excluded)


def test_outcomes_that_are_too_many_are_drawn_by_their_calls_and_say_both_rates(watch, monkeypatch, tmp_path):
    held = Held(watch, monkeypatch, journal=tmp_path)
    model = split(held.runtime)
    held._go.set()
    ids = []
    for _ in range(8):
        ids += [model.rollout.route(number).decision.id for number in range(2_000)]
        assert held.runtime.flush(30.0)
    held._go.clear()
    for id_ in ids:
        model.rollout.record("good", 1.0, decision_id=id_)
    held.release()
    held.runtime.close()
    outcomes = lines(tmp_path, "outcome")
    assert (16_000, True) == (len(lines(tmp_path, "decision")), len(outcomes) < 16_000)
    assert {(1.0, 1.0), (0.5, 1.0)} <= {(each.get("rate", 1.0), each.get("call_rate", 1.0)) for each in outcomes}
    assert all(is_drawn(each["id"], each.get("rate", 1.0)) for each in outcomes)


def test_outcomes_of_units_are_drawn_by_their_units(watch, monkeypatch, tmp_path):
    held = Held(watch, monkeypatch, journal=tmp_path)
    model = split(held.runtime)
    for number in range(14_000):
        model.rollout.record("good", 1.0, unit=number)
    held.release()
    held.runtime.close()
    outcomes = lines(tmp_path, "outcome")
    assert 0.5 in {each.get("rate", 1.0) for each in outcomes}
    assert all(is_drawn(each["unit"], each.get("rate", 1.0)) for each in outcomes)


@pytest.mark.parametrize("units", [True, False])
def test_rows_of_a_batch_are_drawn_one_by_one(units, watch, monkeypatch, tmp_path):
    monkeypatch.setattr(intake_module, "_MOST_ROWS_WAITING", 10_000)
    held = Held(watch, monkeypatch, journal=tmp_path)
    model = rollout(
        candidate=lambda rows: rows, strategy=ABTest(0.5), batch="rows", key="m", runtime=held.runtime,
        **({"unit": "rows"} if units else {}),
    )(lambda rows: rows)  # fmt: skip
    rows = [list(range(start, start + 2_000)) for start in range(0, 14_000, 2_000)]
    ids = [decision.id for batch in rows for decision in model.rollout.route(batch).decisions]
    held.release()
    held.runtime.close()
    kept = lines(tmp_path, "decision")
    rates = {record.get("rate", 1.0) for record in kept}
    assert ({1.0, 0.5} <= rates, set()) == (True, {record["id"] for record in kept} - set(ids))
    assert all(is_drawn(record["id"], record.get("rate", 1.0)) for record in kept)
    lost = [(record["count"], record["sampled"]) for record in lines(tmp_path, "lost")]
    assert {14_000 - len(kept)} == {sum(count for count, _ in lost), sum(sampled for _, sampled in lost)}
    # Rows whose batch came with room are all there.
    assert set(ids[:10_000]) <= {record["id"] for record in kept}


def test_shadows_are_drawn_with_their_calls(watch, monkeypatch, tmp_path):
    held = Held(watch, monkeypatch, journal=tmp_path, shadows={"max_jobs": 1})
    model = rollout(candidate=lambda u: 2, strategy=Shadow(1.0), effects="read", unit="u", key="s", runtime=held.runtime)(
        lambda u: 1
    )
    for number in range(8_000):
        model(number)
    held.release()
    held.runtime.close()
    shadows, calls = lines(tmp_path, "shadow"), {record["id"] for record in lines(tmp_path, "decision")}
    assert any("rate" in record for record in shadows)
    assert all(is_drawn(record["id"], record.get("rate", 1.0)) for record in shadows)
    # A fact or two of calls that had their other one just before the level rose.
    assert len({record["id"] for record in shadows} ^ calls) <= 2 * HIGHEST_LEVEL


def test_a_call_waits_for_no_draw_where_there_is_room(watch, monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr("rollout_sdk.engine.call.is_drawn", refuse)
    model = split(watch(key=KEY))
    assert {1, 2} == {model(number) for number in range(100)}


def test_when_the_queue_is_empty_again_calls_begin_as_if_it_never_was_full(watch, monkeypatch):
    held = Held(watch, monkeypatch)
    model = split(held.runtime)
    for number in range(12_000):
        model(number)
    assert 0 < held.runtime.nonces.load.level
    held.release()
    assert (0, 1.0) == (held.runtime.nonces.load.level, decode_id(model.rollout.route("u").decision.id, KEY).rate)


def test_a_forked_child_begins_with_room(watch, monkeypatch):
    held = Held(watch, monkeypatch)
    model = split(held.runtime)
    for number in range(12_000):
        model(number)
    held.runtime.recorder.renew()
    assert 0 == held.runtime.nonces.load.level
    held.release()


# The journal's queue -----------------------------------------------------------------------------------------------------


def test_what_a_slow_disk_cannot_take_is_drawn_likewise_and_still_counted(watch, monkeypatch, tmp_path):
    go, write = threading.Event(), JournalWriter.write

    def held(self, data):
        go.wait(30)
        write(self, data)

    monkeypatch.setattr(JournalWriter, "write", held)
    runtime = watch(key=KEY, journal=tmp_path)
    model = split(runtime)
    for number in range(30):
        for unit in range(1_000):
            model(number * 1_000 + unit)
        assert runtime.recorder.flush(30.0)
    assert 30_000 == sum(runtime.tally("m").decisions.values())
    assert ("journal", "DroppedError") in runtime.faults
    go.set()
    assert runtime.flush(30.0)
    runtime.close()
    kept = lines(tmp_path, "decision")
    rates = [record.get("rate", 1.0) for record in kept]
    assert {1.0, 0.5, 0.25} <= set(rates)
    assert all(is_drawn(record["id"], rate) for record, rate in zip(kept, rates, strict=True))
    lost = lines(tmp_path, "lost")
    assert 30_000 == len(kept) + sum(record["count"] for record in lost)
    assert sum(record["count"] for record in lost) == sum(record["sampled"] for record in lost)


def test_rows_that_a_slow_disk_cannot_take_are_drawn_one_by_one(watch, monkeypatch, tmp_path):
    go, write = threading.Event(), JournalWriter.write

    def held(self, data):
        go.wait(30)
        write(self, data)

    monkeypatch.setattr(JournalWriter, "write", held)
    monkeypatch.setattr("rollout_sdk.recording.sinks._MOST_FOR_JOURNAL", 20)
    runtime = watch(key=KEY, journal=tmp_path)
    model = rollout(candidate=same, strategy=ABTest(0.5), batch="rows", key="m", runtime=runtime)(same)
    for _ in range(8):
        model(list(range(1_000)))
        assert runtime.recorder.flush(30.0)
    go.set()
    assert runtime.flush(30.0)
    runtime.close()
    kept = lines(tmp_path, "decision")
    assert 0.5 in {record.get("rate", 1.0) for record in kept}
    assert all(is_drawn(record["id"], record.get("rate", 1.0)) for record in kept)
    assert 8_000 == len(kept) + sum(record["count"] for record in lines(tmp_path, "lost"))


def test_observers_are_told_the_rate_of_what_they_hear(watch, monkeypatch):
    held = Held(watch, monkeypatch)
    model = split(held.runtime)
    for number in range(13_000):
        model(number)
    held.release()
    rates = Counter(event.rate for event in held.runtime.routed())
    assert {1.0, 0.5} <= set(rates)
    assert isinstance(held.runtime, Runtime)
