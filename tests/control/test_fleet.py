"""Several processes of one store, under anything: operators, verdicts, dead stores, deployments. What holds all the same."""

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rollout_sdk import Canary, ConfigurationError, Guardrail, Runtime, StateError, Step, StoreError, rollout
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.state_document import from_document, numbered
from rollout_sdk.control.stores import MemoryStore

PROCESSES = 3
USERS = 60
STEPS = [Step(share, min_units=20, min_time="1m") for share in ("20%", "40%", "60%")]
PLAN = Canary(STEPS, guardrails=[Guardrail("error_rate", floor=0.3)])
ACTIONS = {
    "promote": RolloutState.promote,
    "promote_full": RolloutState.promote_full,
    "skip_step": RolloutState.skip_step,
    "pause": RolloutState.pause,
    "resume": RolloutState.resume,
    "abort": RolloutState.abort,
    "roll_back": RolloutState.roll_back,
}
CLEAR = {"clear_invalid": True, "actor": "ann", "reason": "a redirect lost users; it is fixed"}


def first_state():
    """Where every version begins."""
    runtime = Runtime()
    model = rollout(candidate=lambda user: "new", strategy=PLAN, unit="user", key="model", runtime=runtime)(lambda user: "old")
    state = model.rollout._rollout.state
    runtime.close(1.0)
    return state


FIRST = first_state()


class FlakyStore:
    """The store as one process reaches it, or does not."""

    def __init__(self, store):
        self.store, self.dead = store, False

    def __getattr__(self, name):
        method = getattr(self.store, name)

        def call(*args, **kwargs):
            if self.dead:
                raise StoreError("The store is dead.")
            return method(*args, **kwargs)

        return call


class Process:
    """One process: its runtime, its function, and what its operator was promised."""

    def __init__(self, fleet, store, version):
        self.version, self.aborted = version, False
        self.store = FlakyStore(store)
        self.runtime = Runtime(store=self.store, time_ns=lambda: fleet.now_ns)
        # Looking and judging is done by the machine.
        self.runtime.reconciler.start = lambda: None
        self.ran = 0

        def candidate(user):
            self.ran += 1
            if fleet.broken:
                raise ValueError(user)
            return "new"

        @rollout(
            candidate=candidate,
            strategy=PLAN,
            unit="user",
            key="model",
            version=version,
            runtime=self.runtime,
            effects="read",
            breaker=None,
        )
        def model(user):
            return "old"

        self.model, self.controller = model, model.rollout

    @property
    def kept(self):
        return self.runtime.reconciler.rollouts["model"]

    def serve(self):
        return {self.model(f"user-{user}") for user in range(USERS)}

    def lose(self):
        """Users of whom those of the candidate do not come this far: the shares are not the configured ones."""
        for user in (f"other-{number}" for number in range(4 * USERS)):
            if self.controller.assign(user).variant == "control":
                self.model(user)

    def look(self):
        try:
            self.runtime.reconciler.look(self.kept)
        except (StoreError, StateError):
            return False
        return True


class Fleet(RuleBasedStateMachine):
    """Three processes, and everything that can happen to them."""

    @initialize()
    def begin(self):
        self.now_ns = 1_800_000_000 * 10**9
        self.broken, self.was_broken, self.version, self.forced = False, False, 1, set()
        self.shared = MemoryStore()
        self.processes = [Process(self, self.shared, "v1") for _ in range(PROCESSES)]

    def teardown(self):
        for process in getattr(self, "processes", []):
            process.runtime.close(1.0)

    @property
    def history(self):
        return list(self.shared.history("model"))

    # What happens ----------------------------------------------------------------------------------------------------------

    @rule(index=st.integers(0, PROCESSES - 1))
    def serve(self, index):
        process = self.processes[index]
        stopped, ran = process.kept.local_state.closed, process.ran
        answers = process.serve()
        if stopped:
            assert {"old"} == answers
            assert ran == process.ran

    @rule(index=st.integers(0, PROCESSES - 1))
    def users_are_lost(self, index):
        self.processes[index].lose()
        self.judge(index)

    @rule(index=st.integers(0, PROCESSES - 1))
    def clear(self, index):
        process, before = self.processes[index], len(self.history)
        try:
            process.controller.resume(**CLEAR)
        except (StateError, StoreError):
            assert before == len(self.history)

    @rule(seconds=st.sampled_from([1, 70]))
    def time_goes_by(self, seconds):
        self.now_ns += seconds * 10**9

    @rule(index=st.integers(0, PROCESSES - 1))
    def publish(self, index):
        process = self.processes[index]
        process.runtime.flush(10)
        try:
            process.kept.publish(process.runtime.reconciler.store, process.runtime.reconciler.writer, self.now_ns / 1e9)
        except StoreError:
            assert process.store.dead

    @rule(index=st.integers(0, PROCESSES - 1))
    def judge(self, index):
        process, before = self.processes[index], len(self.history)
        try:
            process.controller.judge()
        except StoreError:
            assert process.store.dead
        if process.store.dead:
            assert before == len(self.history)

    @rule(
        index=st.integers(0, PROCESSES - 1), action=st.sampled_from(["promote", "promote_full", "skip_step", "pause", "resume"])
    )
    def operate(self, index, action):
        process, before = self.processes[index], len(self.history)
        try:
            getattr(process.controller, action)(actor="ann", reason="by hand")
        except (StateError, StoreError):
            assert before == len(self.history)

    @rule(index=st.integers(0, PROCESSES - 1), share=st.integers(0, 100))
    def set_share(self, index, share):
        try:
            self.processes[index].controller.set_share(share / 100, actor="ann", reason="by hand")
        except (StateError, StoreError, ConfigurationError):
            pass

    @precondition(lambda self: len(self.history) > 4)
    @rule(index=st.integers(0, PROCESSES - 1))
    def abort(self, index):
        process = self.processes[index]
        process.controller.abort(actor="ann", reason="pager")
        process.aborted = True

    @rule(index=st.integers(0, PROCESSES - 1))
    def look(self, index):
        self.processes[index].look()

    @rule(index=st.integers(0, PROCESSES - 1))
    def the_store_dies(self, index):
        self.processes[index].store.dead = True

    @rule(index=st.integers(0, PROCESSES - 1))
    def the_store_is_back(self, index):
        self.processes[index].store.dead = False

    @rule()
    def the_candidate_breaks_or_is_mended(self):
        self.broken = not self.broken
        self.was_broken = self.was_broken or self.broken

    @rule(index=st.integers(0, PROCESSES - 1))
    def restart(self, index):
        self._replace(index, f"v{self.version}")

    @precondition(lambda self: len(self.history) > 3)
    @rule(index=st.integers(0, PROCESSES - 1))
    def deploy(self, index):
        self.version += 1
        self._replace(index, f"v{self.version}")

    def _replace(self, index, version):
        old = self.processes[index]
        # What it had not said by then dies with it, as in a crash: that is no promise.
        old.store.dead = True
        old.runtime.close(1.0)
        self.processes[index] = Process(self, self.shared, version)

    @rule()
    def everybody_looks(self):
        for process in self.processes:
            process.store.dead = False
        # Twice: who comes later may have had an abort to say.
        for process in self.processes * 2:
            process.look()
        stored = from_document(self.shared.load("model").document)
        for process in self.processes:
            if process.version == stored.version:
                assert process.kept.local_state.lost is False
                assert numbered(stored, process.kept.state.plan) == process.kept.state
            else:
                assert process.kept.local_state.lost is True
                assert {"old"} == process.serve()

    # What holds ------------------------------------------------------------------------------------------------------------

    @invariant()
    def who_has_aborted_runs_no_candidate(self):
        for process in getattr(self, "processes", []):
            assert not process.aborted or process.kept.local_state.closed

    @invariant()
    def each_transition_follows_from_the_one_before_and_its_own_record(self):
        if not hasattr(self, "shared"):
            return
        state, revisions = None, []
        for record in self.history:
            revisions.append(record["revision"])
            if record["action"] == "start":
                begun = evolve(FIRST, version=record["version"])
                state = begun if state is None else state.begun_again(begun)
            elif record["action"] == "set_share":
                state = state.set_share(record["shares"]["candidate"])
            elif record["action"] == "invalidate":
                state = state.invalidate(record["reason"])
            elif record["reason"] == CLEAR["reason"]:
                state = state.resume(clear_invalid=True)
            else:
                state = ACTIONS[record["action"]](state)
            assert (record["status"], record["phase"], record["shares"], record["invalid"]) == (
                state.status,
                state.phase.name,
                state.phase.all_shares,
                state.invalid,
            )
        assert revisions == sorted(set(revisions))

    @invariant()
    def the_judge_acts_on_its_verdicts_alone(self):
        for record in self.history if hasattr(self, "shared") else ():
            if record["actor"] != "judge":
                assert record["verdict"] is None
                continue
            verdict = record["verdict"]
            if record["action"] == "invalidate":
                assert not verdict["valid"]
            else:
                assert {"promote": "PASS", "roll_back": "FAIL"}[record["action"]] == verdict["outcome"]
            # Made on this state, and no other; but for the alarm that the same verdict has raised.
            assert record["revision"] - verdict["revision"] in ((1,) if verdict["valid"] else (1, 2))
            assert record["action"] != "roll_back" or self.was_broken


Fleet.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestAFleet = Fleet.TestCase
