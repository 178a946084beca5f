"""Rows F70 to F76: batches of every size and type, other event loops, and what a wrapper takes and keeps."""

import asyncio
import functools
import gc
import inspect
import time
import types
import weakref

import numpy as np
import pytest
import scipy.sparse as sp

from rollout_sdk import ABTest, Interleave, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.replay import replay
from rollout_sdk.engine.current import current_call
from rollout_sdk.engine.flow import NO_KWARGS
from rollout_sdk.journal import read_journal
from rollout_sdk.plan import Criteria
from tests.faults.models import served, shadowed

ROWS = 30_000


def scored(control, candidate, runtime, *, strategy=ABTest(0.5), **options):
    """A batch that is decided by row: half of the rows are the candidate's."""
    return served(control, candidate, runtime, strategy=strategy, unit="users", batch="rows", **options)


def users(count):
    return [f"u{number}" for number in range(count)]


@pytest.mark.parametrize("durability", ["flush", "call"])
def test_f70_every_row_of_a_large_batch_is_counted_judged_and_journalled(durability, watch, tmp_path, figure):
    runtime = watch(journal=tmp_path, durability=durability)
    model = scored(lambda rows, users: rows * 0, lambda rows, users: rows * 0 + 1, runtime)
    rows, units = np.arange(ROWS), users(ROWS)
    began = time.thread_time()
    answer = model(rows, units)
    took_s = time.thread_time() - began
    assert runtime.flush(60.0)
    status = model.rollout.status()
    served_by = {"control": int((answer == 0).sum()), "candidate": int((answer == 1).sum())}
    assert (ROWS, served_by, 0) == (sum(served_by.values()), dict(status.calls), status.lost)
    records = [record for record in read_journal(tmp_path) if record["event"] == "decision"]
    assert (ROWS, ROWS) == (len({record["id"] for record in records}), len({record["unit"] for record in records}))
    assert [answer[0], answer[-1]] == [record["variant"] == "candidate" for record in (records[0], records[-1])]
    assert took_s / ROWS < 50e-6
    if durability == "flush":
        whole = sum(file.stat().st_size for file in tmp_path.iterdir())
        figure(
            "F70",
            "{records:,} of {rows:,} rows in counts and journal; {took:.0f} us of the caller's time and {size:.0f} "
            "bytes of the journal per row",
            records=len(records),
            rows=len(answer),
            took=took_s / len(answer) * 1e6,
            size=whole / len(answer),
        )


def test_f70_a_report_and_a_replay_read_every_row_of_a_large_batch(watch, tmp_path):
    runtime, count = watch(journal=tmp_path), 15_000
    scored(lambda rows, users: rows, lambda rows, users: rows, runtime)(np.arange(count), users(count))
    assert runtime.flush(60.0)
    (phase,) = summarise(tmp_path).rollouts[0].phases
    assert count == sum(variant.calls for variant in phase.variants)
    assert count == sum(phase.calls for phase in replay(tmp_path, Criteria()).phases)


def test_f70_every_row_of_a_large_shadowed_batch_is_compared(watch, tmp_path):
    runtime, count = watch(journal=tmp_path), 15_000
    model = shadowed(lambda rows: rows, lambda rows: [row // 2 * 2 for row in rows], runtime, batch="rows", isolate="none")
    model(list(range(count)))
    assert runtime.flush(60.0)
    shadows = [record for record in read_journal(tmp_path) if record["event"] == "shadow"]
    assert (count, count // 2) == (len(shadows), sum(record["match"] for record in shadows))


def columns(labels):
    def model(rows, users):
        return np.full(len(rows), labels), np.full(len(rows), labels / 2)

    return model


@pytest.mark.parametrize("count", [2, 4, 40])
def test_f71_a_tuple_of_columns_is_never_mixed_with_another(count, watch, figure):
    runtime = watch()
    model = scored(columns(0.0), columns(1.0), runtime, breaker=None)
    right = []
    for number in range(50):
        labels, scores = model(np.arange(count), [f"{number}-{row}" for row in range(count)])
        right.append(([0.0] * count, [0.0] * count) == (labels.tolist(), scores.tolist()))
    assert [True] * 50 == right
    assert {"BatchError"} == {error for _, error in model.rollout.status().errors}
    figure("F71", "{right} of {batches} batches whose variants return (labels, scores) get the control's whole answer",
           right=sum(right), batches=len(right))  # fmt: skip


def test_f71_the_refusal_of_a_tuple_of_columns_says_what_to_return(watch):
    model = scored(columns(0.0), columns(1.0), watch(), strategy=ABTest(1.0), on_error="raise")
    with pytest.raises(ValueError, match=r"gave a tuple of 2 columns for 3 rows\..* Return list\(zip\(\*columns\)\)"):
        model(np.arange(3), users(3))


OTHERS = {
    "texts among numbers": (lambda n: np.zeros(n, int), lambda n: np.array(["spam"] * n)),
    "numbers among texts": (lambda n: np.array(["ham"] * n), lambda n: np.ones(n)),
    "double among single precision": (lambda n: np.zeros(n, "f4"), lambda n: np.ones(n)),
    "fractions among large integers": (lambda n: np.full(n, 2**53 + 1), lambda n: np.full(n, 0.5)),
    "a list among arrays": (np.zeros, lambda n: [1.0] * n),
    "other fields": (lambda n: np.zeros(n, [("a", int)]), lambda n: np.zeros(n, [("b", int)])),
    "other columns": (lambda n: sp.csr_matrix((n, 2)), lambda n: sp.csr_matrix((n, 3))),
    "dense among sparse": (lambda n: sp.csr_matrix((n, 2)), lambda n: np.zeros((n, 2))),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_f72_rows_that_would_change_the_controls_make_no_whole(kind, watch, figure):
    control, candidate = OTHERS[kind]
    runtime = watch()
    model = scored(lambda rows, users: control(len(rows)), lambda rows, users: candidate(len(rows)), runtime)
    answer, bare = model(list(range(40)), users(40)), control(40)
    assert (type(bare), bare.dtype, bare.shape) == (type(answer), answer.dtype, answer.shape)
    differ = int((answer != bare).sum())
    assert 0 == differ
    refused = sum(number for (what, _), number in runtime.faults.items() if what == "engine.batch")
    assert 1 == refused
    figure(
        "F72",
        "{refused} of {kind} kinds of results that do not fit the control's are refused: the answer is the "
        "control's, {differ} rows differ",
        refused=refused,
        kind=kind,
        differ=differ,
    )


SPARSE = [sp.csr_matrix, sp.csc_array, sp.coo_matrix, sp.lil_array, sp.dia_matrix]


@pytest.mark.parametrize("make", SPARSE, ids=lambda each: each.__name__)
def test_f73_a_sparse_matrix_is_split_and_put_together_by_row(make, watch, figure):
    runtime = watch()
    rows = make(np.eye(40))
    seen = []

    def model(rows, users):
        seen.append((type(rows), rows.shape))
        return rows

    answer = scored(model, model, runtime)(rows, users(40))
    assert (type(rows), rows.dtype, 0) == (type(answer), answer.dtype, abs(answer.tocsr() - rows.tocsr()).nnz)
    given = sum(shape[0] for _, shape in seen)
    assert (2, {type(rows)}, 40) == (len(seen), {kind for kind, _ in seen}, given)
    assert {} == runtime.faults
    figure(
        "F73",
        "{runs} kinds of sparse matrices of {rows} rows are returned as they were passed; {given} rows in {parts} "
        "parts for the variants",
        rows=answer.shape[0],
        given=given,
        parts=len(seen),
    )


def test_f74_variants_run_in_turn_where_no_asyncio_task_runs(watch, figure):
    trio = pytest.importorskip("trio", reason="the loop that is not asyncio's")
    runtime = watch()

    async def old(rows, users):
        await trio.sleep(0)
        return [("old", row) for row in rows]

    async def new(rows, users):
        await trio.sleep(0)
        return [("new", row) for row in rows]

    async def slow(x):
        await trio.sleep(30)

    async def ranked(x):
        await trio.sleep(0)
        return ["a", "b", "c"]

    async def main():
        batch = await scored(old, new, runtime)(list(range(40)), users(40))
        shown = await served(ranked, ranked, runtime, strategy=Interleave(), key="ranked")(1)
        late = await served(ranked, slow, runtime, key="late", deadline_s=0.05)(1)
        with trio.move_on_after(0.05) as scope:
            await served(slow, slow, runtime, key="cancelled", strategy=Interleave())(1)
        return batch, shown, late, scope.cancelled_caught

    batch, shown, late, cancelled = trio.run(main)
    assert (list(range(40)), {"old", "new"}) == ([row for _, row in batch], {name for name, _ in batch})
    assert (["a", "b", "c"], ["a", "b", "c"], True) == (sorted(shown), late, cancelled)
    assert {} == runtime.faults
    figure("F74", "a batch of {rows} rows, a blend of {items} items, {late} answer in time and {cancelled} cancellation "
           "under trio: as under asyncio", rows=len(batch), items=len(shown), late=int(late == ["a", "b", "c"]),
           cancelled=cancelled)  # fmt: skip


def generator(a, b=2, *, c=3):
    yield a


async def coroutine(a, b=2, *, c=3):
    return a


async def async_generator(a, b=2, *, c=3):
    yield a


@types.coroutine
def awaited(a, b=2, *, c=3):
    yield
    return a


def function(a, b=2, *, c=3):
    return a


KINDS = (function, generator, coroutine, async_generator, awaited)
WRONG = [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"d": 1}), ((), {"b": 1})]


@pytest.mark.parametrize("control", KINDS, ids=lambda each: each.__name__)
def test_f75_wrong_arguments_are_refused_at_the_call_and_as_by_the_control(control, watch, figure):
    decorated, same = served(control, control, watch()), []
    for args, kwargs in WRONG:
        with pytest.raises(TypeError) as bare:
            control(*args, **kwargs)
        with pytest.raises(TypeError) as ours:
            decorated(*args, **kwargs)
        same.append(str(bare.value) == str(ours.value))
    assert all(same)
    figure("F75", "{same} of {calls} wrong calls of {runs} kinds of functions raise the control's own TypeError, at the call",
           same=sum(same), calls=len(same))  # fmt: skip


@pytest.mark.parametrize("control", KINDS, ids=lambda each: each.__name__)
def test_f75_kind_signature_and_defaults_are_those_of_the_control(control, watch):
    decorated = served(control, control, watch())
    assert inspect.getfullargspec(control) == inspect.getfullargspec(decorated)
    assert inspect.signature(control) == inspect.signature(decorated, follow_wrapped=False)
    assert (control.__defaults__, control.__kwdefaults__) == (decorated.__defaults__, decorated.__kwdefaults__)
    for ask in (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction):
        assert ask(control) == ask(decorated)


class Payload:
    pass


def lets_go(x):
    del x
    yield 1
    yield 2


async def lets_go_async(x):
    del x
    yield 1
    yield 2


def returned(x):
    return lets_go(x)


def mapped(x):
    return map(str, [1, 2])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_f76_a_stream_frees_its_arguments_when_the_bare_one_does(share, watch, figure):
    runtime, freed = watch(), []

    def begun(model):
        payload = Payload()
        return model(payload), weakref.ref(payload)

    for control in (lets_go, returned, mapped):
        stream, payload = begun(served(control, control, runtime, strategy=ABTest(share), key=control.__name__))
        next(stream)
        freed.append(payload() is None)
        assert 1 == len(list(stream))

    async def main():
        for options in ({}, {"deadline_s": 5.0}):
            key = f"async {len(options)}"
            stream, payload = begun(served(lets_go_async, lets_go_async, runtime, strategy=ABTest(share), key=key, **options))
            await anext(stream)
            gc.collect()
            freed.append(payload() is None)
            assert [2] == [item async for item in stream]

    asyncio.run(main())
    assert [True] * 5 == freed
    figure("F76", "{freed} of {streams} streams hold no part of their input after the first item", freed=sum(freed),
           streams=len(freed))  # fmt: skip


def echo(x):
    try:
        received = yield x
        if received is not None:
            yield received
    except ValueError:
        yield "caught"


async def echo_async(x):
    try:
        received = yield x
        yield received
    except ValueError:
        yield "caught"


def echoed(x):
    return echo(x)


@pytest.mark.parametrize("model", [echo, echoed], ids=lambda each: each.__name__)
@pytest.mark.parametrize(("meddle", "what", "given"), [("throw", ValueError(), "caught"), ("send", "b", "b")])
def test_f76_a_stream_that_its_consumer_threw_or_sent_into_is_not_compared(model, meddle, what, given, watch):
    runtime = watch()
    stream = shadowed(model, model, runtime)("a")
    assert ("a", given) == (next(stream), getattr(stream, meddle)(what))
    assert [] == list(stream)
    assert [("ok", None)] == [(event.end, event.comparison) for event in runtime.shadowed()]


def test_f76_an_async_stream_that_was_thrown_into_is_not_compared(watch):
    runtime = watch()

    async def main():
        stream = shadowed(echo_async, echo_async, runtime)("a")
        await anext(stream)
        assert "caught" == await stream.athrow(ValueError())
        assert [] == [item async for item in stream]
        await asyncio.sleep(0.2)

    asyncio.run(main())
    assert [None] == [event.comparison for event in runtime.shadowed()]


def test_f75_a_function_round_a_decorated_one_can_be_decorated_itself(watch):
    once = served(function, function, watch())

    @functools.wraps(once)
    def outer(a, b=2, *, c=3):
        return once(a, b, c=c)

    twice = rollout(candidate=outer, strategy=ABTest(1.0), key="outer", runtime=watch())(outer)
    assert (1, "outer", "model") == (twice(1), twice.rollout.key, once.rollout.key)


def test_f76_a_stream_that_has_let_go_of_its_arguments_is_still_under_way(watch):
    runtime, seen = watch(), []

    def model(x):
        yield 1
        seen.append(current_call.get().kwargs is NO_KWARGS)
        yield 2

    assert [1, 2] == list(served(model, model, runtime)(x=1))
    assert [False] == seen
    assert NO_KWARGS is current_call.get().kwargs
