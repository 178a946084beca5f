"""Changes of a thread's context: interrupted, reset from elsewhere, and shared with events."""

import contextvars
import copy
import gc
import pickle
import sys
import threading

import pytest
import structlog
from opentelemetry import context as telemetry

from rollout_sdk.concurrency import clocks
from rollout_sdk.concurrency.context_vars import CallerContext, Surroundings, alone, alone_with, attach, collected, detach

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")
KEY = telemetry.create_key("test")


class Finalised:
    """Runs something when it is collected, which takes a collection: it is in a circle."""

    def __init__(self, run):
        self.run, self.itself = run, self

    def __del__(self):
        self.run()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later interpreters need no protection")
@pytest.mark.parametrize("protect", [alone, alone_with])
def test_code_that_the_garbage_collector_runs_changes_nothing(protect):
    made = []

    def change(what):
        made.append(what)
        if what == "outer":
            Finalised(lambda: made.append(protected("inner")))
            gc.collect()
        return f"changed {what}"

    protected = protect(change, lambda what: f"left out {what}")
    assert protected("outer") == "changed outer"
    assert made == ["outer", "left out inner"]
    # Whether a collection interrupts a change of the application's cannot be known.
    Finalised(lambda: made.append(protected("alone")))
    gc.collect()
    assert made[2:] == ["left out alone"]
    assert protected("later") == "changed later"


def interrupting(act, times=1):
    """A program that runs `act` at once with a signal pending; its handler notes where it interrupts, and calls a model."""
    return f"""
import contextvars, gc, operator, signal
from functools import partial
from rollout_sdk import ABTest, Runtime, rollout

runtime = Runtime()
model = rollout(candidate=lambda x: x, strategy=ABTest(0.5), unit="x", key="k", runtime=runtime)(lambda x: x)
model(0)
variables = [contextvars.ContextVar(str(number)) for number in range(40)]
interrupted = set()

def handler(_, frame):
    interrupted.add(frame.f_code.co_filename)
    model(0)

def at_once(act):
    # Between calls that C makes, no handler runs: the signal comes in the second, and waits.
    waits = [partial(signal.setitimer, signal.ITIMER_REAL, 0.0005), partial(sum, range(200_000))]
    list(map(operator.call, [*waits, gc.enable, act]))
    gc.disable()

signal.signal(signal.SIGALRM, handler)
gc.disable()
for number in range({times}):
    gc.collect()
    gc.set_threshold(number % 7 + 1)
    {act}
context = contextvars.copy_context()
print(interrupted == {{__file__}}, len(context) == sum(1 for _ in context))
"""


@pytest.mark.parametrize(
    ("act", "times"), [("at_once(gc.collect)", 1), ("at_once(partial(variables[number % 40].set, [number]))", 35)]
)
def test_no_signal_handler_runs_while_garbage_is_collected_because_the_package_watches(act, times, run_python):
    """It may change the context, by a call or in code of the application's, in the middle of what was interrupted."""
    result = run_python(interrupting(act, times))
    assert (0, "True True\n", "") == (result.returncode, result.stdout, result.stderr)


def test_a_collection_at_the_last_level_of_recursion_prints_nothing(run_python):
    """The collector's callbacks are called there, too, and have as good as no levels left."""
    result = run_python("""
        import gc, random, sys
        from rollout_sdk import Runtime
        from rollout_sdk.concurrency.context_vars import collected

        Runtime()
        failed, collections = [], []
        sys.unraisablehook = failed.append
        gc.callbacks.append(lambda phase, info: collections.append(phase))
        gc.collect()
        gc.freeze()

        def deep(level):
            made = [level]
            return deep(level + 1)

        rng = random.Random(1)
        for _ in range(500):
            gc.set_threshold(rng.randrange(20, 400))
            try:
                deep(0)
            except RecursionError:
                pass
        of_package = {each.object for each in failed if each.object.__module__ != "__main__"}
        print(of_package, len(collections) > 1_000, collected.inside)
    """)
    assert (0, "set() True False\n", "") == (result.returncode, result.stdout, result.stderr)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later interpreters need no protection")
def test_a_collection_is_noticed_in_its_own_thread_only():
    seen, collected_once, collecting = [], threading.Event(), threading.Event()

    def look():
        seen.append((bool(collected.inside), collected.here(), collected.calls()))

    def elsewhere():
        gc.collect()
        collected_once.set()
        assert collecting.wait(10.0)
        look()

    def inside():
        collected.add("call")
        look()
        collecting.set()
        thread.join(10.0)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert collected_once.wait(10.0)
    Finalised(inside)
    gc.collect()
    look()
    assert seen == [(True, True, ("call",)), (True, False, ()), (False, False, ())]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later interpreters need no protection")
def test_callbacks_that_others_add_run_within_the_collection_too():
    """Those of hypothesis and JAX, for example, are in Python, so signal handlers may run within them."""
    seen = []

    def look(phase, _):
        seen.append((phase, collected.here()))

    for place in (0, len(gc.callbacks)):
        gc.callbacks.insert(place, look)
        try:
            # What is added at the front goes behind in the first.
            gc.collect()
            seen.clear()
            gc.collect()
        finally:
            gc.callbacks.remove(look)
        assert seen == [("start", True), ("stop", True)]
    assert not collected.here()


@pytest.mark.parametrize("protect", [alone, alone_with])
def test_where_no_protection_is_needed_it_costs_nothing(monkeypatch, protect):
    monkeypatch.setattr(sys, "version_info", (3, 12))
    assert protect(repr, str) is repr


def test_before_the_first_collection_none_is_under_way():
    """An application may have switched the collector off before it imports the SDK."""
    assert not type(collected)().inside


def test_what_is_attached_is_current_until_it_is_detached():
    token = attach(telemetry.set_value(KEY, "inside"))
    assert telemetry.get_value(KEY) == "inside"
    detach(token)
    assert telemetry.get_value(KEY) is None


def test_surroundings_carry_fields_for_log_lines():
    token = attach(Surroundings.of(telemetry.set_value(KEY, "inside"), {"rollout_key": "shop.rank"}))
    assert telemetry.get_value(KEY) == "inside"
    assert structlog.contextvars.get_contextvars() == {"rollout_key": "shop.rank"}
    detach(token)
    assert telemetry.get_value(KEY) is None
    assert structlog.contextvars.get_contextvars() == {}


@pytest.mark.parametrize("logged", [None, {"rollout_key": "shop.rank"}])
def test_what_was_attached_in_another_context_is_detached_without_a_word(logged, caplog):
    context = telemetry.set_value(KEY, "elsewhere")
    token = contextvars.copy_context().run(attach, context if logged is None else Surroundings.of(context, logged))
    detach(token)
    assert telemetry.get_value(KEY) is None
    assert caplog.records == []


def test_a_token_of_another_kind_of_context_goes_back_to_opentelemetry(monkeypatch):
    detached = []
    monkeypatch.setattr(telemetry, "detach", detached.append)
    detach("a token of the application's runtime context")
    assert detached == ["a token of the application's runtime context"]


def test_an_event_shares_its_callers_variables_and_loses_them_when_pickled():
    def make():
        VARIABLE.set("the caller's")
        return CallerContext(contextvars.copy_context())

    caller = contextvars.copy_context().run(make)
    assert (VARIABLE.get(), caller.run(VARIABLE.get)) == ("default", "the caller's")
    # What runs there changes a copy.
    caller.run(lambda: VARIABLE.set("changed"))
    assert caller.run(VARIABLE.get) == "the caller's"
    assert copy.deepcopy(caller) is caller
    assert pickle.loads(pickle.dumps(caller)) is None


def test_the_wall_clock_is_recognised():
    assert clocks.is_wall_clock(clocks.time_ns)
    assert not clocks.is_wall_clock(lambda: 0)
    assert not clocks.is_wall_clock(clocks.monotonic_ns)
