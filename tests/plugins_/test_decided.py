"""`rollout_decided`: told of every decision in its caller's context before anything runs, and never able to harm the call."""

import asyncio
import threading
import time
from contextvars import ContextVar

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from rollout_sdk import ABTest, Canary, Runtime, Shadow, current_decision, disable, enable, rollout

REQUEST = ContextVar("request", default=None)
TAG = ContextVar("tag", default=None)


class Decided:
    """Keeps what it hears, and does what a test wants besides."""

    name = "decided"

    def __init__(self, act=lambda request, decision: None):
        self.heard = []
        self.act = act

    def rollout_decided(self, request, decision):
        here = threading.current_thread().name, REQUEST.get(), current_decision().id == decision.id
        self.heard.append((decision.variant, decision.reason, dict(request.arguments), *here))
        return self.act(request, decision)


def decorated(plugin, runtime, *, candidate=None, control=None, **options):
    """A function of a user, everybody's the candidate."""
    options = {"strategy": ABTest(1.0), "unit": "user", "key": "k", "runtime": runtime, **options}
    return rollout(candidate=candidate or (lambda user: 2), plugins=[plugin], **options)(control or (lambda user: 1))


@pytest.fixture
def request_1():
    """The caller's context variable is set."""
    token = REQUEST.set("request-1")
    yield
    REQUEST.reset(token)


@pytest.mark.usefixtures("request_1")
@pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator"])
def test_it_hears_of_the_decision_in_the_callers_thread_and_context(kind, runtime):
    order = []
    decided = Decided(lambda request, decision: order.append("decided"))

    def ran(user):
        order.append("ran")
        return 2

    async def coroutine(user):
        return ran(user)

    def generator(user):
        yield ran(user)

    async def async_generator(user):
        yield ran(user)

    function = {"function": ran, "coroutine": coroutine, "generator": generator, "async generator": async_generator}[kind]
    model = decorated(decided, runtime, candidate=function, control=function)

    async def items():
        return [item async for item in model("ann")]

    call = {
        "function": lambda: model("ann"),
        "coroutine": lambda: asyncio.run(model("ann")),
        "generator": lambda: list(model("ann")),
        "async generator": lambda: asyncio.run(items()),
    }[kind]
    assert call() in (2, [2])
    assert [("candidate", "static", {"user": "ann"}, threading.current_thread().name, "request-1", True)] == decided.heard
    assert ["decided", "ran"] == order


def test_it_hears_of_every_row_of_a_batch_before_any_runs(runtime):
    order = []
    decided = Decided(lambda request, decision: order.append(request.arguments["users"]))

    def ran(users):
        order.append("ran")
        return list(users)

    model = decorated(decided, runtime, candidate=ran, control=ran, unit="users", batch="users", strategy=ABTest(0.5))
    users = [f"u-{number}" for number in range(20)]
    routed = model.rollout.route(users)
    assert [*users, "ran", "ran"] == order
    assert [each.variant for each in routed.decisions] == [variant for variant, *_ in decided.heard]
    assert all(is_current for *_, is_current in decided.heard)


def test_the_callers_span_is_current(watch):
    with TracerProvider().get_tracer("application").start_as_current_span("request") as span:
        seen = []
        decided = Decided(lambda request, decision: seen.append(trace.get_current_span()))
        decorated(decided, watch())("ann")
    assert [span] == seen


def test_a_variable_that_it_sets_is_seen_by_variants_shadows_and_the_caller(runtime):
    decided = Decided(lambda request, decision: TAG.set(decision.variant))
    seen = []

    def ran(user):
        seen.append(TAG.get())

    token = TAG.set(None)
    decorated(decided, runtime, candidate=ran, control=ran, strategy=Shadow(1.0), effects="read")("ann")
    assert runtime.flush(10.0)
    assert ["control"] * 3 == [*seen, TAG.get()]
    TAG.reset(token)


def test_a_variable_that_it_sets_stays_when_the_control_answers_for_a_candidate(runtime):
    decided = Decided(lambda request, decision: TAG.set(decision.variant))

    def broken(user):
        TAG.set("spoilt")
        raise ValueError

    token = TAG.set(None)
    assert "candidate" == decorated(decided, runtime, candidate=broken, control=lambda user: TAG.get())("ann")
    assert {} == runtime.faults
    TAG.reset(token)


def test_it_hears_of_decisions_that_are_not_the_strategys(runtime):
    decided = Decided()
    model = decorated(decided, runtime, strategy=Canary(["100%"]), override={"bob": "control"})
    model("bob")
    model(None)
    model.rollout.abort()
    model("ann")
    assert ["override", "no_unit", "aborted"] == [reason for _, reason, *_ in decided.heard]


def test_it_does_not_hear_of_assignments_without_a_call_nor_while_the_kill_switch_is_on(runtime):
    decided = Decided()
    model = decorated(decided, runtime)
    model.rollout.assign("ann")
    disable()
    try:
        assert [1, 1] == [model("ann"), model.rollout.route("ann").value]
    finally:
        enable()
    assert [] == decided.heard


def test_a_call_that_it_makes_itself_is_the_controls_and_does_not_come_back(runtime):
    answers = []
    decided = Decided(lambda request, decision: answers.append(model("bob")))
    model = decorated(decided, runtime)
    assert 2 == model("ann")
    assert ([1], ["ann"]) == (answers, [arguments["user"] for _, _, arguments, *_ in decided.heard])


def fails(request, decision):
    raise ValueError(decision.variant)


def exits(request, decision):
    raise SystemExit(3)


async def is_awaited(request, decision):
    """Gives a coroutine that nothing awaits."""


FAULTY = {"ValueError": fails, "SystemExit": exits, "TypeError": is_awaited}


@pytest.mark.parametrize("error", FAULTY)
def test_what_it_raises_is_counted_the_next_is_called_and_three_strikes_suspend_it(error, watch):
    faulty, sound = Decided(FAULTY[error]), Decided()
    faulty.name = "faulty"
    runtime = watch()
    model = rollout(
        candidate=lambda user: 2, strategy=ABTest(1.0), unit="user", key="k", plugins=[faulty, sound], runtime=runtime
    )(lambda user: 1)
    assert [2] * 10 == [model("ann") for _ in range(10)]
    assert (3, 10) == (len(faulty.heard), len(sound.heard))
    assert {("faulty.rollout_decided", error): 3, ("faulty.rollout_decided", "SuspendedError"): 1} == runtime.faults
    assert {"candidate": 10} == model.rollout.status().calls


def test_one_that_is_slow_three_times_is_suspended(runtime):
    slow = Decided(lambda request, decision: time.sleep(0.006))
    model = decorated(slow, runtime)
    assert [2] * 5 == [model("ann") for _ in range(5)]
    assert 3 == len(slow.heard)
    assert {("decided.rollout_decided", "SuspendedError"): 1} == runtime.faults


def test_ctrl_c_in_it_is_the_users_and_the_next_call_is_as_ever(runtime):
    def interrupts(request, decision):
        if len(decided.heard) == 1:
            raise KeyboardInterrupt

    decided = Decided(interrupts)
    model = decorated(decided, runtime)
    with pytest.raises(KeyboardInterrupt):
        model("ann")
    assert 2 == model("ann")
    assert {} == runtime.faults


def test_a_runtimes_plugin_hears_of_every_rollout_and_a_rollouts_of_its_own(watch):
    everywhere, here = Decided(), Decided()
    runtime = watch()
    several = Runtime(plugins=[everywhere, *runtime.plugins])
    one = decorated(here, several, key="one")
    other = rollout(candidate=lambda user: 2, strategy=ABTest(1.0), unit="user", key="other", runtime=several)(lambda user: 1)
    one("ann")
    other("bob")
    several.close(10.0)
    assert (["ann", "bob"], ["ann"]) == tuple([heard[2]["user"] for heard in each.heard] for each in (everywhere, here))
