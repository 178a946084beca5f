"""An answer that `failed_if` calls a failure counts as if its variant had raised, and the control's reaches the caller."""

import asyncio
import inspect
from collections import Counter

import numpy
import pytest

from rollout_sdk import ABTest, Breaker, ConfigurationError, Interleave, Runtime, Shadow, Telemetry, rollout
from rollout_sdk.records import FAILED_IF
from tests.faults.kinds import of_kind, read


def is_none(answer):
    return answer is None


def made(candidate, control, runtime, **options):
    options = {"strategy": ABTest(1.0), "effects": "read", "key": "model", "failed_if": is_none, **options}
    return rollout(candidate=candidate, runtime=runtime, **options)(control)


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_candidate_that_answers_a_failure_is_answered_by_the_control_and_left_alone(kind, runtime, loop):
    model = made(of_kind(kind, lambda x: None), of_kind(kind, lambda x: "old"), runtime)
    assert [("old", None)] * 30 == [read(kind, lambda: model(1), loop) for _ in range(30)]
    events = runtime.routed()
    assert [[("candidate", FAILED_IF), ("control", None)]] * 20 == [
        [(run.variant, run.error) for run in event.runs] for event in events[:20]
    ]
    assert {"breaker_open"} == {event.withheld for event in events[20:]}
    assert {None} == {event.error for event in events}
    status = model.rollout.status()
    assert ({("candidate", FAILED_IF): 20}, {("candidate", FAILED_IF): 20, ("candidate", "breaker_open"): 10}) == (
        status.errors, status.fallbacks,
    )  # fmt: skip


def test_where_nothing_may_run_twice_the_caller_gets_the_failure_and_it_counts(runtime):
    old = []
    model = made(lambda x: None, old.append, runtime, on_error="raise")
    assert [None] * 25 == [model(1) for _ in range(25)]
    events = runtime.routed()
    assert [FAILED_IF] * 20 == [run.error for event in events[:20] for run in event.runs]
    # The breaker is open: the control answers in its place.
    assert 5 == len(old)


def test_the_controls_failures_count_and_reach_the_caller_as_they_are(runtime):
    ran = []
    model = made(lambda x: ran.append(x), lambda x: None, runtime, strategy=ABTest(0.0))
    assert [None] * 10 == [model(1) for _ in range(10)]
    assert [(FAILED_IF, "control", None)] * 10 == [(e.runs[0].error, e.served, e.error) for e in runtime.routed()]
    assert [] == ran


def test_when_the_control_fails_as_well_the_caller_gets_its_answer(runtime):
    model = made(lambda x: 500, lambda x: 503, runtime, failed_if=lambda answer: answer >= 500)
    assert 503 == model(1)
    (event,) = runtime.routed()
    assert [("candidate", FAILED_IF), ("control", FAILED_IF)] == [(run.variant, run.error) for run in event.runs]


def test_each_row_of_a_batch_is_an_answer(runtime):
    asked = []

    def control(rows):
        asked.append(list(rows))
        return [("old", row) for row in rows]

    def candidate(rows):
        return [None if row % 3 == 0 else ("new", row) for row in rows]

    model = made(candidate, control, runtime, batch="rows")
    assert [("old" if row % 3 == 0 else "new", row) for row in range(10)] == model(list(range(10)))
    assert [[0, 3, 6, 9]] == asked
    errors = [[(run.variant, run.error) for run in event.runs] for event in runtime.routed()]
    assert [
        [("candidate", FAILED_IF), ("control", None)] if row % 3 == 0 else [("candidate", None)] for row in range(10)
    ] == errors
    assert ["control" if row % 3 == 0 else "candidate" for row in range(10)] == [event.served for event in runtime.routed()]


def test_rows_of_arrays_come_back_in_order_too(runtime):
    model = made(
        lambda rows: numpy.where(rows % 2 == 0, numpy.nan, rows),
        lambda rows: -rows,
        runtime,
        batch="rows",
        failed_if=numpy.isnan,
    )
    assert [0.0, 1.0, -2.0, 3.0] == list(model(numpy.arange(4.0)))


def test_failing_rows_of_the_control_count_and_are_the_callers(runtime):
    model = made(lambda rows: rows, lambda rows: [None, *rows[1:]], runtime, batch="rows", strategy=ABTest(0.0))
    assert [None, 1, 2] == model([0, 1, 2])
    assert [FAILED_IF, None, None] == [event.runs[0].error for event in runtime.routed()]


def test_a_batch_without_rows_has_no_answer_to_ask_about(runtime):
    model = made(lambda rows: rows, lambda rows: rows, runtime, batch="rows", failed_if=lambda answer: True)
    assert [] == model([])
    assert [None] == [event.runs[0].error for event in runtime.routed()]


@pytest.mark.parametrize(("failing", "opens"), [(0.4, False), (0.6, True)])
def test_a_batch_is_one_run_to_the_breaker_and_fails_with_its_share_of_rows(failing, opens, runtime):
    def candidate(rows):
        return [None if row < failing * 10 else row for row in rows]

    model = made(candidate, lambda rows: rows, runtime, batch="rows")
    for _ in range(20):
        assert list(range(10)) == model(list(range(10)))
    assert (("candidate",) if opens else ()) == model.rollout.status().open_breakers


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_list_is_the_controls_when_the_other_ranker_answers_a_failure(kind, runtime, loop):
    model = made(
        of_kind(kind, lambda x: ["sorry"]), of_kind(kind, lambda x: ["a"]), runtime, strategy=Interleave(),
        failed_if=lambda answer: answer == ["sorry"],
    )  # fmt: skip
    assert (["a"], None) == read(kind, lambda: model(1), loop)
    (event,) = runtime.routed()
    assert ({"control": None, "candidate": FAILED_IF}, True) == ({r.variant: r.error for r in event.runs}, event.excluded)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_list_of_the_controls_that_is_a_failure_is_served_as_it_was_going_to_be(kind, runtime, loop):
    model = made(
        of_kind(kind, lambda x: ["b", "c"]), of_kind(kind, lambda x: ["sorry", "d"]), runtime, strategy=Interleave(),
        failed_if=lambda answer: "sorry" in answer,
    )  # fmt: skip
    assert {"b", "sorry"} == set(read(kind, lambda: model(1), loop)[0])
    (event,) = runtime.routed()
    assert (False, "failed_if") == (event.excluded, event.runs[0].error)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_shadow_that_answers_a_failure_ends_as_an_error_and_opens_the_breaker(kind, runtime, loop):
    model = made(of_kind(kind, lambda x: None), of_kind(kind, lambda x: "old"), runtime, strategy=Shadow(1.0))

    async def wait():
        await asyncio.sleep(0.005)

    for _ in range(25):
        read(kind, lambda: model(1), loop)
        loop.run_until_complete(wait())
        runtime.flush()
    assert Counter({("error", FAILED_IF): 20, ("dropped_open", None): 5}) == Counter(
        (event.end, event.error) for event in runtime.shadowed()
    )


def test_shadows_of_a_batch_fail_by_row(runtime):
    model = made(lambda rows: [None, *rows[1:]], lambda rows: rows, runtime, batch="rows", strategy=Shadow(1.0))
    model([0, 1, 2])
    assert [("error", FAILED_IF), ("ok", None), ("ok", None)] == [(event.end, event.error) for event in runtime.shadowed()]


async def awaits(answer):
    return True


@pytest.mark.parametrize(
    ("failed_if", "fault"),
    [
        (lambda answer: 1 / 0, "ZeroDivisionError"),
        (lambda answer: awaits(answer), "TypeError"),
        (lambda _: exit(3), "SystemExit"),
    ],
    ids=["raises", "gives an awaitable", "exits"],
)
def test_a_failed_if_that_fails_itself_is_a_fault_and_the_answer_counts_as_good(failed_if, fault, runtime):
    model = made(lambda x: "new", lambda x: "old", runtime, failed_if=failed_if)
    assert ["new"] * 30 == [model(1) for _ in range(30)]
    assert {("failed_if", fault): 30} == model.rollout.status().faults
    assert {None} == {event.runs[0].error for event in runtime.routed()}


def test_ctrl_c_in_the_midst_of_it_is_the_callers(runtime):
    def interrupted(answer):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(lambda x: "new", lambda x: "old", runtime, failed_if=interrupted)(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failed_if": "status >= 500"}, "is not callable"),
        ({"failed_if": awaits}, "is a coroutine function. It must return its result directly"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, message, runtime):
    with pytest.raises(ConfigurationError, match=message):
        made(lambda x: x, lambda x: x, runtime, **options)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_streams_are_refused_because_items_are_served_before_the_answer_is_whole(kind, runtime):
    with pytest.raises(ConfigurationError, match="first items are served before the answer is complete"):
        made(of_kind(kind, lambda x: [x]), of_kind(kind, lambda x: [x]), runtime)


def test_the_option_is_what_it_is_called_in_the_records():
    assert FAILED_IF in inspect.signature(rollout).parameters


def test_what_a_candidate_answered_need_not_live_while_the_control_runs(runtime):
    import weakref

    class Answer:
        pass

    made_ = []

    def candidate(x):
        answer = Answer()
        made_.append(weakref.ref(answer))
        return answer

    model = made(candidate, lambda x: made_[-1](), runtime, failed_if=lambda answer: isinstance(answer, Answer), breaker=None)
    assert None is model(1)


def test_a_span_says_that_an_answer_was_a_failure_and_has_no_exception():
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime = Runtime(telemetry=Telemetry(tracer_provider=provider))
    made(lambda x: None, lambda x: "old", runtime, breaker=Breaker())(1)
    runtime.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    failed = spans["invoke model/candidate"]
    assert (FAILED_IF, "ERROR", ()) == (failed.attributes["error.type"], failed.status.status_code.name, failed.events)
    (fallback,) = [event for event in spans["route model"].events if "error.type" in event.attributes]
    assert FAILED_IF == fallback.attributes["error.type"]


def test_a_cancellation_that_it_makes_up_where_nothing_can_be_cancelled_is_its_fault(runtime):
    def cancels(answer):
        raise asyncio.CancelledError

    assert "new" == made(lambda x: "new", lambda x: "old", runtime, failed_if=cancels)(1)
    assert {("failed_if", "CancelledError"): 1} == runtime.faults


def test_a_batch_that_the_control_answers_as_a_whole_is_not_asked_by_row(runtime):
    asked = []
    model = made(lambda rows: rows, lambda rows: sum(rows), runtime, batch="rows", strategy=ABTest(0.0), failed_if=asked.append)
    assert 6 == model([1, 2, 3])
    assert ([], {}) == (asked, runtime.faults)


@pytest.mark.parametrize(("share", "opens"), [(0.2, True), (0.3, True), (0.4, False)])
def test_a_batch_is_a_failed_run_from_the_breakers_share_of_its_rows_on(share, opens, runtime):
    def candidate(rows):
        return [None if row < 3 else "new" for row in rows]

    breaker = Breaker(min_runs=1, failure_share=share)
    model = made(candidate, lambda rows: ["old" for _ in rows], runtime, batch="rows", breaker=breaker)
    assert ["old"] * 3 + ["new"] * 7 == model(list(range(10)))
    assert (("candidate",) if opens else ()) == model.rollout.status().open_breakers


def test_without_a_breaker_the_rows_that_fail_are_the_controls_all_the_same(runtime):
    model = made(lambda rows: [None, *rows[1:]], lambda rows: rows, runtime, batch="rows", breaker=None)
    assert [[1, 2, 3]] * 30 == [model([1, 2, 3]) for _ in range(30)]
    assert {} == runtime.faults
    assert {("candidate", FAILED_IF): 30} == model.rollout.status().fallbacks
