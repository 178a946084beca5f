"""A fact of many rows is delivered in parts, counts as many facts, and waits only where there is room."""

import threading

import pytest

from rollout_sdk.recording import intake as intake_module
from rollout_sdk.recording.recorder import Recorder


class Rows(list):
    """A fact of many rows."""

    @property
    def weight(self):
        return len(self)

    def part(self, start, stop):
        return Rows(self[start:stop])


@pytest.fixture
def make():
    made = []

    def maker(deliver):
        recorder = Recorder(deliver, failed=lambda what, error: None, tick=lambda: None, gather_s=0.0)
        made.append(recorder)
        return recorder

    yield maker
    for recorder in made:
        recorder.close(5.0)


def test_a_large_fact_comes_in_parts_and_in_its_place(make):
    got = []
    recorder = make(got.append)
    for fact in ("first", Rows(range(2_500)), "last"):
        recorder.put(fact)
    assert recorder.flush(10.0)
    sizes = [len(each) for portion in got for each in portion if isinstance(each, Rows)]
    assert [1_000, 1_000, 500] == sizes
    flat = [row for portion in got for each in portion for row in (each if isinstance(each, Rows) else [each])]
    assert ["first", *range(2_500), "last"] == flat


def test_a_small_fact_of_rows_is_delivered_whole_with_others(make):
    got, go = [], threading.Event()

    def deliver(facts):
        go.wait(10)
        got.append(facts)

    recorder = make(deliver)
    recorder.put("busy")
    for _ in range(3):
        recorder.put(Rows(range(10)))
    go.set()
    assert recorder.flush(10.0)
    assert [10, 10, 10] == [len(each) for portion in got for each in portion if isinstance(each, Rows)]


def test_rows_that_have_no_room_are_counted_one_by_one_and_a_lone_fact_always_has_room(make, monkeypatch):
    monkeypatch.setattr(intake_module, "_MOST_ROWS_WAITING", 100)
    go, got = threading.Event(), []

    def deliver(facts):
        go.wait(10)
        got.extend(facts)

    recorder = make(deliver)
    recorder.put("busy")
    recorder.put(Rows(range(150)))
    recorder.put(Rows(range(20)))
    assert 20 == recorder.dropped
    go.set()
    assert recorder.flush(10.0)
    assert 150 == sum(len(each) for each in got if isinstance(each, Rows))
    recorder.put(Rows(range(20)))
    assert recorder.flush(10.0)
    assert (20, 170) == (recorder.dropped, sum(len(each) for each in got if isinstance(each, Rows)))


def test_rows_that_come_after_the_end_are_lost_one_by_one(make):
    recorder = make(lambda facts: None)
    recorder.put("fact")
    assert recorder.close(5.0)
    recorder.put(Rows(range(7)))
    assert 7 == recorder.dropped
