"""A state machine of calls, faults, operators, forks and closings: every answer is right, and nothing is lost uncounted."""

import asyncio
import os
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rollout_sdk
from rollout_sdk import ABTest, Breaker, Canary, Runtime, Shadow, ShadowLimits, StateError, rollout
from rollout_sdk.engine.shadow import ShadowRun

FAULTS = [None, None, None, ValueError, SystemExit, KeyError]
EXPECTED = {"control": ("control", 1), "candidate": ("candidate", 1)}


class Watcher:
    """Counts events; may be told to fail."""

    name = "watcher"

    def __init__(self):
        self.calls = 0
        self.ends = Counter()
        self.fault = None

    def _fail(self):
        if self.fault is not None:
            raise self.fault

    def rollout_routed(self, event):
        self.calls += 1
        self._fail()

    def rollout_shadowed(self, event):
        self.ends[event.end] += 1
        self._fail()


class Machine(RuleBasedStateMachine):
    """One rollout, of any strategy and kind, under everything that happens to it."""

    @initialize(
        strategy=st.sampled_from([ABTest(0.5), ABTest(0.5, shadow=0.5), Canary(["10%", "100%"], shadow=1.0), Shadow(1.0)]),
        is_async=st.booleans(),
        on_error=st.sampled_from(["control", "raise"]),
    )
    def decorate(self, strategy, is_async, on_error):
        self.watcher = Watcher()
        self.runtime = Runtime(plugins=[self.watcher], shadows=ShadowLimits(cpu_share=1.0, max_age_s=60.0, max_jobs=10_000))
        self.is_async, self.on_error = is_async, on_error
        self.fault = None
        self.calls = self.made = 0
        self.aborted = self.closed = False
        self.started_after = []
        begin = ShadowRun.__init__
        machine = self

        class Counted(ShadowRun):
            def __init__(self, *arguments):
                begin(self, *arguments)
                machine.made += 1

        self.counted = Counted
        self.plain = rollout_sdk.engine.flow.ShadowRun
        rollout_sdk.engine.flow.ShadowRun = Counted

        def control(user):
            return ("control", 1)

        def candidate(user):
            if self.aborted or rollout_sdk.is_disabled():
                self.started_after.append(user)
            if self.fault is not None:
                raise self.fault
            return ("candidate", 1)

        async def control_async(user):
            return control(user)

        async def candidate_async(user):
            return candidate(user)

        functions = (control_async, candidate_async) if is_async else (control, candidate)
        self.model = rollout(
            candidate=functions[1], strategy=strategy, effects="read", unit="user", key="model", on_error=on_error,
            runtime=self.runtime, breaker=Breaker(min_runs=5, window=10),
        )(functions[0])  # fmt: skip

    def answer(self, user):
        if not self.is_async:
            return self.model(user)

        async def call():
            result = await self.model(user)
            for _ in range(5):
                await asyncio.sleep(0)
            return result

        return asyncio.run(call())

    @rule(users=st.lists(st.integers(0, 50) | st.text(max_size=3) | st.none(), min_size=1, max_size=20))
    def call(self, users):
        for user in users:
            recorded = not rollout_sdk.is_disabled()
            try:
                answer = self.answer(user)
            except (ValueError, KeyError, SystemExit) as error:
                # A candidate's own; SystemExit is never an error to be answered by somebody else.
                assert isinstance(error, self.fault)
                assert self.on_error == "raise" or isinstance(error, SystemExit)
                assert not self.aborted
            else:
                assert answer in EXPECTED.values()
                if self.aborted or rollout_sdk.is_disabled():
                    assert EXPECTED["control"] == answer
            self.calls += recorded

    @rule(fault=st.sampled_from(FAULTS))
    def break_the_candidate(self, fault):
        self.fault = fault

    @rule(fault=st.sampled_from(FAULTS))
    def break_the_observer(self, fault):
        self.watcher.fault = fault

    @rule(action=st.sampled_from(["promote", "pause", "resume"]))
    def operate(self, action):
        try:
            getattr(self.model.rollout, action)(actor="machine")
        except StateError:
            pass

    @rule(chance=st.integers(0, 9))
    def abort(self, chance):
        if chance == 0:
            self.model.rollout.abort(actor="machine")
            self.aborted = True

    @rule(off=st.booleans())
    def switch(self, off):
        rollout_sdk.disable() if off else rollout_sdk.enable()

    @rule()
    def flush(self):
        self.runtime.flush(10.0)

    @precondition(lambda self: not self.closed)
    @rule(chance=st.integers(0, 19))
    def fork(self, chance):
        if chance:
            return
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self.fault, before = None, self.model.rollout.status().calls
                answers = [self.answer(user) for user in range(20)]
                right = all(answer in EXPECTED.values() for answer in answers) and not before
                code = 0 if right and self.runtime.flush(10.0) else 2
            finally:
                os._exit(code)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @rule(chance=st.integers(0, 19))
    def close(self, chance):
        if chance == 0:
            self.runtime.close(5.0)
            self.closed = True

    @invariant()
    def after_a_stop_nothing_started(self):
        assert [] == getattr(self, "started_after", [])

    def teardown(self):
        if not hasattr(self, "runtime"):
            return
        rollout_sdk.engine.flow.ShadowRun = self.plain
        rollout_sdk.enable()
        self.runtime.close(10.0)
        lost = self.runtime.recorder.dropped
        told = self.watcher.calls + sum(self.watcher.ends.values())
        if self.closed:
            # What an operator and a breaker did after the closing is lost, too.
            assert told <= self.calls + self.made <= told + lost
        else:
            assert (self.calls + self.made, 0) == (told, lost)


Machine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = Machine.TestCase
