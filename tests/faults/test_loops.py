"""Rows F89 and F90: calls that come back to themselves, and ids that anybody can make."""

import asyncio
import time
import tracemalloc

import pytest
import structlog

from rollout_sdk import ABTest, Canary, Comparison, Gate, Runtime, Shadow, rollout
from rollout_sdk.assignment.ids import encode_id
from rollout_sdk.recording.outcomes import by_decision
from tests.faults.models import served


class Caller:
    """A plugin that calls the function which it is a plugin of, once for everything that it hears."""

    name = "caller"

    def __init__(self):
        self.heard = 0

    def call(self):
        self.heard += 1
        return self.again()


class Observer(Caller):
    def rollout_routed(self, event):
        self.call()

    def rollout_shadowed(self, event):
        self.call()


class Comparator(Caller):
    def rollout_compare(self, control, candidate):
        self.call()
        return Comparison(match=True)


def function(control, candidate):
    return control, candidate, lambda model: model(1)


def coroutine(control, candidate):
    async def as_coroutine(x):
        return control(x)

    async def candidate_coroutine(x):
        return candidate(x)

    return as_coroutine, candidate_coroutine, lambda model: asyncio.run(model(1))


def generator(control, candidate):
    def as_generator(x):
        yield control(x)

    def candidate_generator(x):
        yield candidate(x)

    return as_generator, candidate_generator, lambda model: list(model(1))


def async_generator(control, candidate):
    async def as_stream(x):
        yield control(x)

    async def candidate_stream(x):
        yield candidate(x)

    async def read(model):
        return [item async for item in model(1)]

    return as_stream, candidate_stream, lambda model: asyncio.run(read(model))


def batch(control, candidate):
    def rows(x):
        return [control(each) for each in x]

    def candidate_rows(x):
        return [candidate(each) for each in x]

    return rows, candidate_rows, lambda model: model([1, 2])


def is_over(runtime, ran):
    """Whether nothing runs any more: a loop would go round some twenty times while we look."""
    for _ in range(20):
        before = len(ran)
        assert runtime.flush(10.0)
        time.sleep(0.05)
        if len(ran) == before and runtime.flush(10.0) and len(ran) == before:
            return True
    return False


@pytest.mark.parametrize("kind", [function, coroutine, generator, async_generator, batch])
@pytest.mark.parametrize("plugin", [Observer, Comparator])
@pytest.mark.parametrize("strategy", [ABTest(0.5), Shadow(1.0)])
def test_f89_a_loop_through_a_plugin_is_served_counted_once_and_ends(watch, figure, kind, plugin, strategy):
    runtime, ran, caller = watch(), [], plugin()
    control, candidate, call = kind(lambda x: (ran.append(x), x)[1], lambda x: x)
    options = {"batch": "x"} if kind is batch else {}
    decorate = rollout(
        candidate=candidate, strategy=strategy, key="m", runtime=runtime, effects="read", plugins=[caller], **options
    )
    model = decorate(control)
    caller.again = lambda: call(model)
    bare = call(control)
    ran.clear()
    assert bare == call(model)
    assert is_over(runtime, ran)
    rows = 2 if kind is batch else 1
    decisions = runtime.tally("m").decisions
    nested = sum(number for (_, _, reason, _), number in decisions.items() if reason == "nested")
    assert (rows, caller.heard * rows) == (decisions.total() - nested, nested)
    assert {} == runtime.faults
    figure(
        "F89",
        "{kind} kinds of functions: {calls} calls and {nested} by their observers and comparators, each counted "
        "once; no further calls",
        kind=kind.__name__,
        calls=decisions.total() - nested,
        nested=nested,
    )


def test_f89_an_observer_may_record_an_outcome_and_does_not_hear_of_it(watch, figure):
    heard = []

    class Recording:
        name = "recording"

        def rollout_routed(self, event):
            model.rollout.record("seen", 1.0, decision_id=event.decision.id)

        def rollout_recorded(self, event):
            heard.append(event)
            model.rollout.record("heard", 1.0, decision_id=event.decision_id)

    runtime = watch()
    model = served(lambda x: x, lambda x: x, runtime, plugins=[Recording()])
    routed = model.rollout.route(1)
    model.rollout.record("click", 1.0, decision_id=routed.decision.id)
    for _ in range(10):
        assert runtime.flush(10.0)
        time.sleep(0.05)
    outcomes = runtime.tally("model").outcomes
    assert {"click": 1, "seen": 1, "heard": 1} == dict(outcomes)
    assert ["click"] == [event.metric for event in heard]
    figure("F89", "{outcomes} outcomes, {own} of them recorded by an observer, each counted once", outcomes=outcomes.total(),
           own=outcomes.total() - len(heard))  # fmt: skip


def test_f89_a_log_handler_that_calls_the_function_hears_of_one_call(watch, figure):
    runtime, ran, heard = watch(), [], []

    def processor(_logger, _method, event):
        if event["event"] == "rollout.decision":
            heard.append(model(2))
        raise structlog.DropEvent

    structlog.configure(processors=[processor])
    model = served(lambda x: (ran.append(x), x)[1], lambda x: (ran.append(x), x)[1], runtime)
    assert model(1) == 1
    assert is_over(runtime, ran)
    assert ([2], [1, 2]) == (heard, ran)
    figure("F89", "a log handler: {calls} calls, {own} of them its own", calls=len(ran), own=len(heard))


def test_f89_an_observer_writes_to_the_world_as_before(watch):
    """A call that an observer makes is no shadow: what guards writes does not stop it."""
    from rollout_sdk import is_shadow

    seen = []

    class Writer:
        name = "writer"

        def rollout_routed(self, event):
            seen.append(is_shadow())

    runtime = watch()
    assert served(lambda x: x, lambda x: x, runtime, plugins=[Writer()])(1) == 1
    assert runtime.flush(10.0)
    assert [False] == seen


def forged(number, now_ns):
    """Ids that nothing of ours has made: of phases, arms, times and rollouts that are not there."""
    return [
        encode_id("m", f"{number}:x", "candidate", number % 512, now_ns, f"p{number}"),
        encode_id("m", "0:50%", f"arm-{number}", number % 512, now_ns, f"a{number}"),
        encode_id("m", "0:50%", "candidate", number % 512, now_ns + number * 10**13, f"t{number}"),
        encode_id(f"rollout-{number}", "0:50%", "candidate", number % 512, now_ns, f"r{number}"),
    ]


@pytest.mark.parametrize("window", [0, "1h"])
def test_f90_forged_ids_cost_bounded_memory(tmp_path, figure, window):
    now_ns = time.time_ns()
    runtime = Runtime(store=f"sqlite:///{tmp_path}/rollouts.db")
    strategy = Canary(["50%"], gates=[Gate("click", window=window) if window else Gate("click")])
    model = rollout(candidate=lambda u: u, strategy=strategy, unit="u", key="m", runtime=runtime)(lambda u: u)
    routed = [model.rollout.route(number) for number in range(100)]
    assert runtime.flush(10.0)

    made = 0

    def flood(numbers):
        nonlocal made
        for number in numbers:
            for decision_id in forged(number, now_ns):
                made += 1
                runtime.conclude_outcome(by_decision("click", 1.0, decision_id, key=None, time_s=now_ns / 1e9))
            if number % 500 == 0:
                assert runtime.flush(10.0)
        assert runtime.flush(10.0)

    flood(range(1_500))
    first = made
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    flood(range(1_500, 3_000))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    kept = runtime.reconciler.rollouts["m"].evidence
    # With a store, outcomes count once they are claimed there.
    model.rollout.judge()
    before = kept.outcomes["counted"]
    for each in routed:
        model.rollout.record("click", 1.0, decision_id=each.decision.id)
    assert runtime.flush(10.0)
    model.rollout.judge()
    counted = kept.outcomes["counted"] - before
    runtime.close(60.0)
    # The remembered ids of outcomes that were counted take a few hundred bytes each, up to a fixed number of them.
    assert grown < 4 << 20
    assert len(kept.phases) <= 102
    # A thousand names of rollouts are told apart; the rest are counted together.
    assert len(runtime._delivery.tallies) <= 1_002
    assert kept.outcomes["unknown"] >= 4_000
    # The real ones are counted, whatever came before them.
    assert 100 == counted == len(routed)
    assert {} == runtime.faults
    figure(
        "F90",
        "{more:,} more forged ids took at most {grown:.0f} KiB; {counted} of {real} real outcomes after {made:,} "
        "forged ones counted",
        more=made - first,
        grown=grown / 1024,
        counted=counted,
        real=len(routed),
        made=made,
    )


def test_f90_an_id_whose_names_are_no_names_is_refused(watch):
    from rollout_sdk import DecisionIdError

    model = served(lambda x: x, lambda x: x, watch())
    for names in (("model", "0:\x1b[31m", "candidate"), ("model", "0:50%", "x" * 201), ("model", "", "candidate")):
        with pytest.raises(DecisionIdError):
            model.rollout.record("click", 1.0, decision_id=encode_id(*names, 1, time.time_ns(), "n"))
