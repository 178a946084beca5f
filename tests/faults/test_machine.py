"""A machine that does to rollouts what can be done to them, in any order, and looks after each step whether the promise holds.

Every call gives exactly what the assigned variant gives or, when that fails, what the control gives; after an abort, and while
the switch is off, no candidate starts; every shadow run ends once; every fact is counted or counted as lost.
"""

import asyncio
import os
import signal
import threading
import warnings
from collections import Counter
from contextlib import suppress
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import rollout_sdk
from rollout_sdk import ABTest, Breaker, Canary, Interleave, Runtime, Shadow, ShadowLimits, StateError, rollout
from rollout_sdk.recording.recorder import Fault, Recorder
from rollout_sdk.resilience.kill_switch import is_disabled
from tests.faults.kinds import KINDS, of_kind, read, turns
from tests.faults.law import ConservationLaw

ERRORS = [ValueError, RecursionError, MemoryError, KeyError]
WORSE = [*ERRORS, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
STRATEGIES = {
    "ab": lambda: ABTest(0.5, shadow=0.5),
    "canary": lambda: Canary(["0%", "30%", "60%"], shadow=0.3),
    "interleave": Interleave,
    "shadow": lambda: Shadow(0.8),
}
UNITS = st.one_of(st.text(max_size=3), st.integers(), st.none(), st.floats(), st.binary(max_size=2))


PICK = st.integers(0, 3)


class Flaky:
    """A built-in strategy whose hooks fail when they are told to."""

    error = None
    shadows = True

    def __init__(self, inner):
        self.name = inner.name
        if hasattr(inner, "steps"):
            self.steps = inner.steps
        self.rollout_phases = inner.rollout_phases
        self._inner = inner

    def _fail(self):
        if self.error is not None:
            raise self.error

    def rollout_route(self, request):
        self._fail()
        return self._inner.rollout_route(request)

    def rollout_merge(self, request, outputs):
        self._fail()
        merge = getattr(self._inner, "rollout_merge", None)
        return None if merge is None else merge(request, outputs)


class FlakyObserver:
    """An observer and comparator that fails when it is told to."""

    name = "flaky"
    error = None

    def _fail(self):
        if self.error is not None:
            raise self.error

    def rollout_compare(self, control, candidate):
        self._fail()

    def rollout_routed(self, event):
        self._fail()

    def rollout_shadowed(self, event):
        self._fail()

    def rollout_transitioned(self, event):
        self._fail()


class Model:
    """A decorated function, and what is to happen when its variants run."""

    def __init__(self, machine, number, kind, strategy, breaker, isolate):
        self.kind, self.blends = kind, strategy == "interleave"
        self.fault = self.control_error = None
        self.starts = 0
        self.stopped_at = None
        self.hung = machine.hung
        self.strategy, self.observer = Flaky(STRATEGIES[strategy]()), FlakyObserver()
        self.breaker = breaker
        self.decorated = rollout(
            candidate=of_kind(kind, self.candidate),
            strategy=self.strategy,
            unit=lambda *arguments: arguments[0],
            effects="read",
            isolate=isolate,
            breaker=Breaker(min_runs=3, window=5) if breaker else None,
            plugins=[self.observer],
            runtime=machine.runtime,
            key=f"{strategy}-{kind}-{number}",
        )(of_kind(kind, self.control))
        self.controller = self.decorated.rollout

    def control(self, unit, x):
        if self.control_error is not None:
            raise self.control_error
        return [x, "a", "b"]

    def candidate(self, unit, x):
        self.starts += 1
        if self.fault == "hang" and rollout_sdk.is_shadow():
            self.hung.wait(20)
        # What is no Exception is the caller's will on its own path, and a shadow's failure behind it.
        elif isinstance(self.fault, type) and (rollout_sdk.is_shadow() or issubclass(self.fault, Exception)):
            raise self.fault
        x = x if self.fault != "spoil" else -1
        return [x, "b", "c"]

    @property
    def candidate_fails(self):
        return isinstance(self.fault, type) and issubclass(self.fault, Exception)

    def allowed(self, decision, x):
        """The answers that a decision may have; None for no decision that is known."""
        streams = "generator" in self.kind
        control = ([] if streams else None, self.control_error) if self.control_error is not None else ([x, "a", "b"], None)
        candidate = ([x if self.fault != "spoil" else -1, "b", "c"], None)
        if decision is not None and decision.variant == "control":
            return [control]
        answers = []
        withheld = self.breaker or decision is None
        if decision is None or self.candidate_fails or withheld or self.blends:
            answers.append(control)
        if not self.candidate_fails and not self.blends:
            answers.append(candidate)
        return answers

    def is_merged(self, value, x):
        return isinstance(value, list) and len(value) == 3 and len(set(value)) == 3 and set(value) <= {x, -1, "a", "b", "c"}


class Machine(RuleBasedStateMachine):
    """The rules.

    Attributes:
        ran: The steps of each sequence that has passed.
    """

    ran: ClassVar = []

    @initialize(kinds=st.permutations(KINDS), isolate=st.sampled_from(["auto", "deepcopy", "none"]), breaker=st.booleans())
    def begin(self, kinds, isolate, breaker):
        self.patch = pytest.MonkeyPatch()
        self.law = ConservationLaw(self.patch)
        self.put = []
        put = Recorder.put
        self.patch.setattr(Recorder, "put", lambda recorder, fact: (self.put.append(fact), put(recorder, fact))[1])
        limits = ShadowLimits(workers=2, max_jobs=6, max_tasks=3, timeout_s=0.05, max_age_s=0.2, max_abandoned=1, cpu_share=1.0)
        self.runtime = Runtime(shadows=limits)
        self.loop = asyncio.new_event_loop()
        self.hung = threading.Event()
        self.calls = self.forks = self.steps = 0
        self.closed = False
        self.models = [
            Model(self, number, kind, strategy, breaker, isolate)
            for number, (kind, strategy) in enumerate(zip(kinds, STRATEGIES, strict=True))
        ]

    def model(self, pick):
        return self.models[pick]

    @rule(units=st.lists(UNITS, min_size=1, max_size=4), x=st.integers(0, 99), route=st.booleans())
    def call(self, units, x, route):
        for model in self.models:
            for unit in units:
                self.one_call(model, unit, x, route=route)

    @rule(first=st.integers(0, 1000))
    def call_many(self, first):
        """Every arm is met."""
        for model in self.models:
            for number in range(8):
                self.one_call(model, f"u{first + number}", number, route=bool(number % 2))
        turns(self.loop)

    def one_call(self, model, unit, x, *, route):
        blend = model.blends
        decision = None
        if route and model.kind != "coroutine":
            routed = []

            def given():
                routed.append(model.controller.route(unit, x))
                return routed[0].value

            value, error = read(model.kind, given, self.loop)
            decision = routed[0].decision if routed else None
        else:
            value, error = read(model.kind, lambda: model.decorated(unit, x), self.loop)
        if not is_disabled():
            self.calls += 1
        if is_disabled():
            assert ([x, "a", "b"], None) == (value, error) or error is model.control_error
            return
        if model.strategy.error is not None and decision is not None and decision.reason != "no_unit":
            assert "control" == decision.variant
        if error is None and blend and model.is_merged(value, x):
            return
        assert (value, error) in model.allowed(decision, x)
        assert error is None or (error is model.control_error and error.__context__ is None)

    @rule(unit=UNITS)
    def burst(self, unit):
        """Four threads at once."""
        model = next(model for model in self.models if model.kind == "function")
        wrong = []

        def work():
            for x in range(5):
                value, error = read("function", lambda x=x: model.decorated(unit, x), None)
                if not (error is None and model.blends and model.is_merged(value, x)) and (value, error) not in (
                    model.allowed(None, x)
                ):
                    wrong.append((value, error))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.calls += 20
        assert [] == wrong

    @rule(pick=PICK, fault=st.sampled_from(["hang", "spoil", *WORSE]))
    def break_candidate(self, pick, fault):
        # A coroutine that hangs holds its loop: that is said not to be promised.
        model = self.model(pick)
        model.fault = None if fault == "hang" and model.kind in ("coroutine", "async generator") else fault

    @rule(pick=PICK, part=st.sampled_from(["strategy", "observer", "control"]), error=st.sampled_from(WORSE))
    def break_other(self, pick, part, error):
        model = self.model(pick)
        if part == "observer":
            model.observer.error = error
        elif part == "strategy":
            # Whatever else a strategy raises on the caller's path passes on: somebody wants the caller to stop.
            model.strategy.error = error if issubclass(error, Exception | SystemExit) else None
        else:
            model.control_error = error("the control's own") if issubclass(error, Exception) else None

    @rule(pick=PICK)
    def mend(self, pick):
        model = self.model(pick)
        model.fault = model.control_error = model.strategy.error = model.observer.error = None

    @rule(pick=PICK, change=st.sampled_from([("promote",), ("pause",), ("resume",), ("set_share", 0.2), ("set_share", 1.0)]))
    def operate(self, pick, change):
        with suppress(StateError):
            getattr(self.model(pick).controller, change[0])(*change[1:], actor="machine")

    @rule(pick=PICK)
    @precondition(lambda self: sum(model.stopped_at is None for model in self.models) > 2)
    def abort(self, pick):
        model = self.model(pick)
        model.fault = "hang" if model.kind in ("function", "generator") else None
        model.control_error = model.strategy.error = None
        # Shadows wait behind two that hang, or for a turn of their loop.
        for number in range(10):
            self.one_call(model, f"u{number}", number, route=False)
        model.controller.abort()
        model.stopped_at = model.starts
        self.hung.set()
        turns(self.loop)
        self.runtime.flush(10.0)
        self.hung.clear()

    @rule()
    def switch_off(self):
        """Calls under it, and what waits behind it, start nothing."""
        rollout_sdk.disable()
        started = [model.starts for model in self.models]
        self.call_many(0)
        self.runtime.flush(10.0)
        assert started == [model.starts for model in self.models]
        rollout_sdk.enable()

    @rule()
    def flush(self):
        turns(self.loop)
        assert self.runtime.flush(10.0)
        self.check_accounts()

    def check_accounts(self):
        """Nothing is lost uncounted: what was put is in the counts, or counted as dropped."""
        tallies = [self.runtime.tally(model.controller.key) for model in self.models]
        decided = sum(tally.decisions.total() for tally in tallies)
        shadowed = sum(tally.shadows.total() for tally in tallies)
        changed = sum(number for tally in tallies for (action, *_), number in tally.transitions.items() if action != "start")
        tripped = sum(tally.trips.total() for tally in tallies)
        counted = decided + shadowed + changed + tripped
        facts = sum(not isinstance(fact, Fault) for fact in list(self.put))
        dropped = self.runtime.recorder.dropped
        assert counted <= facts <= counted + dropped
        if not dropped:
            assert (self.calls, self.law.ends.total()) == (decided, shadowed)

    @rule()
    @precondition(lambda self: self.forks < 2)
    def fork(self):
        """A child serves, shadows and flushes with a runtime that it has inherited."""
        self.forks += 1
        self.hung.set()
        with warnings.catch_warnings():
            # Python 3.12 warns of what we promise to survive.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(self.in_child())
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.hung.clear()

    def in_child(self):
        try:
            # An event loop is not to be used on both sides of a fork.
            self.loop = asyncio.new_event_loop()
            before = Counter(self.law.ends)
            made = len(self.law.made)
            for model in self.models:
                for x in range(3):
                    self.one_call(model, "child", x, route=False)
                turns(self.loop)
            assert self.runtime.flush(10.0)
            self.runtime.close(1.0)
            assert len(self.law.made) - made == (self.law.ends - before).total()
        except BaseException:
            import traceback

            traceback.print_exc()
            return 1
        return 0

    @rule()
    @precondition(lambda self: not self.closed)
    def close(self):
        """Then nothing is recorded any more, and calls are answered all the same."""
        turns(self.loop)
        self.hung.set()
        self.runtime.close(2.0)
        self.hung.clear()
        self.closed = True
        self.law.check()

    @invariant()
    def nothing_starts_after_an_abort(self):
        for model in getattr(self, "models", []):
            if model.stopped_at is not None:
                assert model.starts == model.stopped_at
                assert "aborted" == model.controller._rollout.state.status

    @invariant()
    def no_run_ends_twice(self):
        if hasattr(self, "law"):
            assert set(self.law.ended.values()) <= {0, 1}
            self.steps += 1

    def teardown(self):
        rollout_sdk.enable()
        if not hasattr(self, "law"):
            return
        try:
            self.hung.set()
            turns(self.loop)
            self.runtime.close(2.0)
            self.law.check()
            self.check_accounts()
            self.nothing_starts_after_an_abort()
            self.ran.append(self.steps)
        finally:
            self.patch.undo()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            turns(self.loop)
            self.loop.close()


def run(examples, steps, phases):
    """Run sequences of steps; how many there were, and the longest."""
    Machine.ran.clear()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    return len(Machine.ran), sum(Machine.ran), float(max(Machine.ran))


def test_whatever_is_done_in_whatever_order_the_promise_holds(figure):
    # Without shrinking: a failure is told at once; the long version looks for a short one.
    sequences, steps, longest = run(25, 30, [phase for phase in Phase if phase is not Phase.shrink])
    assert sequences >= 25
    figure("machine", "{sequences} sequences of up to {longest:.0f} steps (calls, faults, changes, forks, closings), "
           "{steps:,} in all: every invariant held", sequences=sequences, steps=steps, longest=longest)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_is_done_in_whatever_order_the_promise_holds_for_long(figure):
    sequences, steps, longest = run(300, 50, list(Phase))
    assert sequences >= 300
    figure("machine", "{sequences} sequences of up to {longest:.0f} steps (calls, faults, changes, forks, closings), "
           "{steps:,} in all: every invariant held", sequences=sequences, steps=steps, longest=longest)  # fmt: skip
