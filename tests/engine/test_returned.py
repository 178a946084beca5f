"""A stream that a plain function returns is measured, falls back and is recorded as that of a generator function."""

import collections.abc
import copy
import gc
import inspect
import json
import operator
import threading
import time
import types
from itertools import count, islice

import pytest

from rollout_sdk import ABTest, Breaker, Canary, Guardrail, Interleave, Shadow, Step, current_decision, rollout
from rollout_sdk.resilience import kill_switch

NEW, OLD = ABTest(1.0), ABTest(0.0)


def both(control, candidate, runtime, *, strategy=NEW, key="model", **options):
    return rollout(candidate=candidate, strategy=strategy, key=key, runtime=runtime, **options)(control)


class Client:
    """A stream object of a client library, written in Python."""

    def __init__(self, items, *, fails=None):
        self.items = iter(items)
        self.fails = fails
        self.response = "200 OK"
        self.is_closed = False
        self.entered = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.fails is not None:
            raise self.fails
        return next(self.items)

    def __enter__(self):
        self.entered += 1
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.is_closed = True


class Indirect(Client):
    """One that gives a generator of its own to `for`."""

    def __iter__(self):
        yield from self.items


def broken_before(n):
    def items():
        raise ConnectionError("429")
        yield

    return items()


def broken_after(n):
    def items():
        yield "new"
        raise ConnectionError("429")

    return items()


def returning(value):
    return lambda n: value


RETURNS = {
    "generator": lambda n: (i for i in range(n)),
    "map": lambda n: map(int, range(n)),
    "zip": lambda n: zip(range(n), "abcdefgh", strict=False),
    "list_iterator": lambda n: iter(list(range(n))),
    "islice": lambda n: islice(count(), n),
    "client": lambda n: Client(range(n)),
    "indirect": lambda n: Indirect(range(n)),
}
returns = pytest.mark.parametrize("new", RETURNS.values(), ids=RETURNS)


# What the caller gets -----------------------------------------------------------------------------------------------------


@returns
def test_the_caller_gets_the_items_of_the_bare_function(runtime, new):
    model = both(lambda n: iter(()), new, runtime)
    assert list(new(4)) == list(model(4))
    (event,) = runtime.routed()
    ((variant, error, first_item_s, duration_s),) = [(r.variant, r.error, r.first_item_s, r.duration_s) for r in event.runs]
    assert ("candidate", None, False) == (variant, error, event.closed_early)
    assert 0 < first_item_s <= duration_s < 30


@returns
def test_the_caller_gets_an_object_of_the_same_type(runtime, new):
    model, bare = both(lambda n: iter(()), new, runtime), new(4)
    stream = model(4)
    assert isinstance(stream, type(bare))
    for kind in (collections.abc.Generator, collections.abc.Iterator, collections.abc.Iterable):
        assert isinstance(bare, kind) == isinstance(stream, kind)
    assert iter(stream) is stream
    assert inspect.isgenerator(bare) == inspect.isgenerator(stream)


def test_a_returned_generator_has_its_name_and_frame(runtime):
    def new(n):
        def items():
            yield 1

        return items()

    stream = both(lambda n: iter(()), new, runtime)(1)
    assert ("items", types.GeneratorType) == (stream.__name__, type(stream))
    assert stream.__qualname__.endswith("new.<locals>.items")
    assert stream.gi_frame is not None
    assert [1] == list(stream)
    assert stream.gi_frame is None


def test_nothing_runs_before_the_first_item_is_asked_for(runtime):
    ran = []

    def new(n):
        def items():
            ran.append("generator")
            yield 1

        return items()

    model = both(lambda n: iter(()), new, runtime)
    stream = model(1)
    lazy = both(lambda n: iter(()), lambda n: map(ran.append, [1, 2]), runtime, key="map")(1)
    assert [] == ran
    assert 1 == next(stream)
    next(lazy)
    assert ["generator", 1] == ran


def test_a_consumer_sends_throws_and_reads_the_return_value(runtime):
    def new(n):
        def items():
            got = []
            try:
                got.append((yield "first"))
            except LookupError:
                got.append("thrown")
            got.append((yield "second"))
            return got

        return items()

    def consume(stream):
        said = [next(stream), stream.throw(LookupError())]
        with pytest.raises(StopIteration) as stop:
            stream.send("sent")
        return said, stop.value.value

    model = both(lambda n: iter(()), new, runtime)
    assert (["first", "second"], ["thrown", "sent"]) == consume(new(1)) == consume(model(1))
    (event,) = runtime.routed()
    assert (None, False) == (event.error, event.closed_early)


def test_what_a_consumer_throws_before_the_first_item_comes_back_and_is_not_a_failure(runtime):
    model = both(broken_before, broken_before, runtime)
    thrown = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        model(1).throw(thrown)
    assert thrown is caught.value
    with pytest.raises(TypeError, match="just-started generator"):
        model(1).send("too early")
    assert [(None, True)] * 2 == [(event.error, event.closed_early) for event in runtime.routed()]


def test_a_client_stream_keeps_its_attributes_and_its_with_block(runtime):
    made = []

    def new(n):
        made.append(Client("ab"))
        return made[-1]

    model = both(lambda n: iter(()), new, runtime)
    with model(1) as stream:
        assert ("200 OK", "a") == (stream.response, next(stream))
        stream.response = "changed"
    (client,) = made
    assert ("changed", True, 1) == (client.response, client.is_closed, client.entered)
    assert repr(client) == repr(stream)
    (event,) = runtime.routed()
    assert (True, None) == (event.closed_early, event.error)
    del stream.response
    assert not hasattr(client, "response")


def test_a_builtin_iterator_is_copied_and_sized_as_the_bare_one(runtime):
    stream = both(lambda n: iter(()), lambda n: iter([1, 2, 3]), runtime)("x")
    assert (1, 2) == (next(stream), operator.length_hint(stream))
    twin = copy.copy(stream)
    assert ([2, 3], [2, 3]) == (list(twin), list(stream))
    assert stream == stream
    assert 1 == len({stream})


def test_a_generator_class_of_its_own_is_sent_thrown_into_and_closed(runtime):
    class Echo(collections.abc.Generator):
        def __init__(self):
            self.closed = 0

        def send(self, value):
            return value

        def throw(self, kind, value=None, traceback=None):
            raise kind

        def close(self):
            self.closed += 1

    made = []

    def new(n):
        made.append(Echo())
        return made[-1]

    model = both(lambda n: iter(()), new, runtime)
    stream = model(1)
    assert ("x", None) == (stream.send("x"), next(stream))
    with pytest.raises(KeyError):
        stream.throw(KeyError("mine"))
    closed = model(1)
    closed.close()
    assert [0, 1] == [each.closed for each in made]
    assert [(True, None), (True, None)] == [(event.closed_early, event.error) for event in runtime.routed()]


@pytest.mark.parametrize("kind", [list, str, dict, range, memoryview], ids=lambda kind: kind.__name__)
def test_containers_are_returned_as_they_are(runtime, kind):
    value = kind(b"x") if kind is memoryview else kind() if kind is not range else range(3)
    assert both(lambda n: value, lambda n: value, runtime)(1) is value
    assert 1 == len(runtime.routed())


def test_files_cursors_and_coroutines_of_generators_are_returned_as_they_are(runtime, tmp_path):
    import sqlite3

    @types.coroutine
    def awaited():
        yield

    with sqlite3.connect(":memory:") as database, (tmp_path / "file").open("w+") as file:
        for number, value in enumerate([file, database.execute("select 1"), awaited()]):
            assert both(lambda n: None, returning(value), runtime, key=f"k{number}")(1) is value
    database.close()
    assert [False] * 3 == [event.closed_early for event in runtime.routed()]


def test_an_iterator_that_the_caller_gave_is_given_back_as_it_is(runtime):
    class Rows(Client):
        @rollout(candidate=lambda self: self, strategy=NEW, key="rows", runtime=runtime)
        def itself(self):
            return self

    given, rows = iter([1, 2]), Rows([1])
    model = both(lambda n: n, lambda n: n, runtime, on_error="raise")
    assert model(given) is given
    assert rows.itself() is rows
    assert [1, 2] == list(given)


def test_the_kill_switch_returns_the_bare_stream(runtime, monkeypatch):
    monkeypatch.setattr(kill_switch, "off", True)
    stream = iter([1])
    assert both(lambda n: stream, broken_before, runtime)(1) is stream


# Errors -------------------------------------------------------------------------------------------------------------------


@returns
def test_an_error_before_the_first_item_falls_back_to_the_stream_of_the_control(runtime, new):
    for key, failing in (("generator", broken_before), ("client", lambda n: Client("x", fails=ConnectionError()))):
        assert list(new(3)) == list(both(new, failing, runtime, key=key)(3))
    events = runtime.routed()
    assert 2 == len(events)
    for event in events:
        assert ("candidate", "control", None) == (event.decision.variant, event.served, event.error)
        assert [("candidate", "ConnectionError"), ("control", None)] == [(run.variant, run.error) for run in event.runs]
        assert event.runs[0].first_item_s is None
        assert 0 < event.runs[1].first_item_s < 30


def test_an_error_after_the_first_item_is_the_callers_and_the_candidates(runtime):
    model = both(lambda n: iter("ab"), broken_after, runtime)
    got = []
    with pytest.raises(ConnectionError) as caught:
        got.extend(model(1))
    assert caught.value.__context__ is None
    (event,) = runtime.routed()
    assert (["new"], "candidate", "ConnectionError") == (got, event.served, event.error)


def test_the_caller_iterates_over_whatever_the_control_returns_in_its_place(runtime):
    for number, value in enumerate([["a", "b"], "ab", ("a", "b")]):
        for failing in (broken_before, lambda n: Client("x", fails=ConnectionError())):
            model = both(returning(value), failing, runtime, key=f"{number}{failing is broken_before}")
            assert ["a", "b"] == list(model(1))
    assert {("control", None)} == {(event.served, event.error) for event in runtime.routed()}


def test_where_the_control_returns_what_is_not_iterable_the_candidates_error_is_the_callers(runtime):
    for failing in (broken_before, lambda n: Client("x", fails=ConnectionError("429"))):
        model = both(lambda n: 17, failing, runtime, key=str(failing is broken_before))
        with pytest.raises(ConnectionError):
            next(model(1))
    runs = [("candidate", "ConnectionError"), ("control", None)]
    assert [(runs, "ConnectionError")] * 2 == [
        ([(run.variant, run.error) for run in event.runs], event.error) for event in runtime.routed()
    ]


def test_when_both_fail_the_caller_gets_the_controls_own_exception(runtime):
    mine = LookupError("control")

    def control(n):
        raise mine

    with pytest.raises(LookupError) as caught:
        next(both(control, broken_before, runtime)(1))
    assert (mine, None) == (caught.value, caught.value.__context__)
    assert "LookupError" == runtime.routed()[0].error


def test_with_on_error_raise_and_with_passthrough_there_is_no_fallback(runtime):
    for number, options in enumerate([{"on_error": "raise"}, {"passthrough": (ConnectionError,)}]):
        with pytest.raises(ConnectionError):
            next(both(lambda n: iter("ab"), broken_before, runtime, key=str(number), **options)(1))
    assert [("ConnectionError", False), ("ConnectionError", True)] == [(e.error, e.answered) for e in runtime.routed()]


def test_lazy_failures_open_the_breaker(runtime):
    model = both(lambda n: iter("ab"), broken_before, runtime, breaker=Breaker(min_runs=5))
    assert [["a", "b"]] * 20 == [list(model(1)) for _ in range(20)]
    assert [None] * 5 + ["breaker_open"] * 15 == [event.withheld for event in runtime.routed()]


def test_a_candidates_stream_that_was_not_begun_when_it_was_aborted_is_never_begun(runtime):
    ran = []
    streams = []
    for key, new in (("generator", lambda n: (ran.append(i) for i in range(3))), ("map", lambda n: map(ran.append, "x"))):
        model = both(lambda n: iter("ab"), new, runtime, key=key)
        streams.append(model(1))
        model.rollout.abort(actor="test", reason="test")
    assert [["a", "b"]] * 2 == [list(stream) for stream in streams]
    assert [] == ran
    assert ["aborted"] * 2 == [event.withheld for event in runtime.routed()]


# Records ------------------------------------------------------------------------------------------------------------------


@returns
def test_a_stream_that_is_let_go_of_unread_or_half_read_is_recorded_as_closed_early(runtime, new):
    model = both(lambda n: iter(()), new, runtime)
    model(3)
    half = model(3)
    next(half)
    del half
    gc.collect()
    unread, read = runtime.routed()
    assert [(True, None)] * 2 == [(event.closed_early, event.error) for event in (unread, read)]
    assert unread.runs[0].first_item_s is None
    assert 0 < read.runs[0].first_item_s < 30


def test_a_closed_generator_cleans_up_and_is_recorded_at_once(runtime):
    cleaned = []

    def new(n):
        def items():
            try:
                yield 1
            finally:
                cleaned.append(1)

        return items()

    model = both(lambda n: iter(()), new, runtime)
    stream = model(1)
    next(stream)
    stream.close()
    assert [1] == cleaned
    unread = model(1)
    unread.close()
    assert [True, True] == [event.closed_early for event in runtime.routed()]
    dropped = model(1)
    next(dropped)
    del dropped
    gc.collect()
    assert [1, 1] == cleaned


def test_a_generator_that_others_hold_stays_open_when_its_caller_lets_go(runtime):
    shared = (i for i in range(4))
    model = both(lambda n: shared, lambda n: shared, runtime)
    assert [0, 1, 2] == [next(model(1)) for _ in range(3)]
    assert [3] == list(shared)


def test_the_time_that_an_unread_stream_waits_for_its_consumer_does_not_count(runtime):
    model = both(lambda n: iter(()), lambda n: map(str, "ab"), runtime)
    generated = both(lambda n: iter(()), lambda n: (c for c in "ab"), runtime, key="generator")
    for stream in (model(1), generated(1)):
        time.sleep(0.05)
        assert ["a", "b"] == list(stream)
    assert [True] * 2 == [0 < event.runs[0].duration_s < 0.04 for event in runtime.routed()]


def test_the_time_of_a_stream_is_that_of_the_function_and_of_its_items(runtime):
    def slow(n):
        def items():
            time.sleep(0.01)
            yield 1
            time.sleep(0.01)

        time.sleep(0.01)
        return items()

    list(both(slow, slow, runtime)(1))
    (run,) = runtime.routed()[0].runs
    assert 0.02 <= run.first_item_s < 30
    assert 0.03 <= run.duration_s < 30


def test_the_judge_sees_lazy_errors_and_lazy_time(runtime):
    def slow(n):
        def items():
            time.sleep(0.002)
            yield 1

        return items()

    plan = [Step("50%", min_units=50, min_time=0.01), "100%"]
    failing = both(lambda n: iter("a"), broken_before, runtime, strategy=Canary(plan), key="fails", unit="n")
    guardrails = [Guardrail("latency", threshold_s=0.001, margin=0.01)]
    lazy = both(lambda n: iter("a"), slow, runtime, strategy=Canary(plan, guardrails=guardrails), key="slow", unit="n")
    for number in range(400):
        assert ["a"] == list(failing(f"u{number}"))
        list(lazy(f"u{number}"))
    assert runtime.flush(10.0)
    time.sleep(0.02)
    assert "FAIL" == str(failing.rollout.judge()).split()[0]
    slow_units = sum(event.decision.variant == "candidate" and event.decision.rollout == "slow" for event in runtime.routed())
    verdict = str(lazy.rollout.judge())
    assert "FAIL" == verdict.split(maxsplit=1)[0]
    assert f"candidate 1 over {slow_units}" in verdict


def test_the_journal_has_the_first_item_and_the_error(watch, tmp_path):
    runtime = watch(journal=tmp_path)
    list(both(lambda n: iter("ab"), broken_before, runtime)(1))
    assert runtime.flush(10.0)
    lines = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("event") == "decision" or "runs" in line]
    (candidate, control) = line["runs"]
    assert ["candidate", "ConnectionError", None] == [candidate[0], *candidate[2:]]
    assert ("control", None, True) == (control[0], control[2], 0 < control[3] <= control[1])


def test_a_stream_sees_its_own_decision_whatever_else_its_consumer_calls(runtime):
    def new(n):
        def items():
            for _ in range(2):
                yield current_decision().id

        return items()

    def told(_):
        return current_decision().id

    other = both(lambda n: 1, lambda n: 2, runtime, key="other")
    for stream_of in (new, lambda n: map(told, "ab")):
        model = both(new, stream_of, runtime, key=f"k{stream_of is new}")
        routed = model.rollout.route(1)
        seen = [next(routed.value)]
        other(1)
        seen.append(next(routed.value))
        assert [routed.decision.id] * 2 == seen


# Shadows, batches, blends, threads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", RETURNS.values(), ids=RETURNS)
@returns
def test_a_shadowed_stream_is_compared_as_a_whole_and_its_caller_reads_it_alone(runtime, control, new):
    model = both(control, new, runtime, strategy=Shadow(1.0), effects="read")
    assert list(control(3)) == list(model(3))
    (event,) = runtime.shadowed()
    assert ("ok", list(control(3)) == list(new(3))) == (event.end, event.comparison.match)


def test_a_shadow_that_fails_lazily_has_failed(runtime):
    model = both(lambda n: iter("ab"), broken_after, runtime, strategy=Shadow(1.0), effects="read")
    assert ["a", "b"] == list(model(1))
    (event,) = runtime.shadowed()
    assert ("error", "ConnectionError") == (event.end, event.error)


def test_a_shadow_reads_no_more_than_is_kept_and_closes_the_stream(watch):
    runtime = watch(shadows={"kept_items": 3})
    read, closed = [], []

    def endless(n):
        def items():
            try:
                for i in count():
                    read.append(i)
                    yield i
            finally:
                closed.append(1)

        return items()

    model = both(lambda n: iter("ab"), endless, runtime, strategy=Shadow(1.0), effects="read")
    assert ["a", "b"] == list(model(1))
    (event,) = runtime.shadowed()
    assert ("ok", None) == (event.end, event.comparison)
    assert ([0, 1, 2, 3], [1]) == (read, closed)


def test_a_batch_is_answered_by_row_as_ever(runtime):
    model = rollout(
        candidate=lambda rows: (row for row in rows), strategy=NEW, key="batch", batch="rows", unit="rows", runtime=runtime
    )(lambda rows: list(rows))
    assert [1, 2, 3] == model([1, 2, 3])
    assert ["BatchError"] * 3 == [event.runs[0].error for event in runtime.routed()]


def test_a_control_that_returns_a_stream_for_a_batch_is_recorded_when_it_returned(runtime):
    def fails(rows):
        raise ValueError

    model = rollout(candidate=fails, strategy=NEW, key="batch", batch="rows", unit="rows", runtime=runtime)(
        lambda rows: (row for row in rows)
    )
    stream = model([1, 2])
    assert [False] * 2 == [event.closed_early for event in runtime.routed()]
    assert [1, 2] == list(stream)


def test_a_stream_cannot_be_blended_and_the_control_s_is_read_by_its_caller(runtime):
    model = both(lambda n: iter("ab"), lambda n: iter("ba"), runtime, strategy=Interleave())
    assert ["a", "b"] == list(model(1))


def test_threads_share_an_iterator_as_they_could_share_the_bare_one(runtime):
    class Numbers(Client):
        def __next__(self):
            time.sleep(0)
            return next(self.items)

    model = both(lambda n: iter(()), lambda n: Numbers(range(n)), runtime)
    stream, got = model(5_000), []
    threads = [threading.Thread(target=lambda: got.extend(stream)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert list(range(5_000)) == sorted(got)
    assert 1 == len(runtime.routed())


def test_a_generator_goes_from_thread_to_thread(runtime):
    stream, got = both(lambda n: iter(()), lambda n: (i for i in range(n)), runtime)(6), []
    for _ in range(6):
        thread = threading.Thread(target=lambda: got.append(next(stream)))
        thread.start()
        thread.join(10)
    assert [] == list(stream)
    assert list(range(6)) == got
    assert [False] == [event.closed_early for event in runtime.routed()]
