"""The reconciler: every process stands where the store says, one makes each transition, a dead store makes nothing worse."""

import random
import threading
import time
from contextlib import closing

import pytest

from rollout_sdk import Canary, ConflictError, Freeze, Gate, Guardrail, Runtime, StateError, Step, StoreError, rollout
from rollout_sdk.concurrency.threads import WatchThread
from rollout_sdk.control.state_document import as_document, from_document
from rollout_sdk.control.stores import MemoryStore
from tests.processes import Processes

START_NS = 1_800_000_000 * 10**9
LOOSE = [Guardrail("error_rate", floor=0.2)]
STEPS = [Step("20%", min_units=20, min_time="1m"), Step("50%", min_units=20, min_time="1m")]


class Clock:
    def __init__(self):
        self.now_ns = START_NS

    def __call__(self):
        return self.now_ns

    def pass_by(self, seconds):
        self.now_ns += int(seconds * 1e9)


class SharedStore:
    """A store of several processes, which can be dead."""

    def __init__(self, store):
        self.store, self.dead, self.calls = store, False, 0

    def __getattr__(self, name):
        method = getattr(self.store, name)

        def call(*args, **kwargs):
            self.calls += 1
            if self.dead:
                raise StoreError("The store is dead.")
            return method(*args, **kwargs)

        return call


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def processes(clock):
    with closing(Processes(SharedStore, time_ns=clock)) as made:
        yield made


def new(user):
    return "new"


def broken(user):
    raise ValueError


def decorate(runtime, candidate=new, strategy=None, **options):
    strategy = Canary(STEPS, guardrails=LOOSE) if strategy is None else strategy
    options = {"unit": "user", "key": "model", "runtime": runtime, "effects": "read", **options}
    return rollout(candidate=candidate, strategy=strategy, **options)(lambda user: "old")


def serve(model, users=600):
    for user in range(users):
        model(f"user-{user}")


def look(runtime):
    runtime.reconciler.look(runtime.reconciler.rollouts["model"])


def state_of(model):
    status = model.rollout.status()
    return status.status, status.phase


# By itself --------------------------------------------------------------------------------------------------------------


def test_a_good_candidate_goes_through_its_steps_to_everybody(clock):
    model = decorate(Runtime(time_ns=clock))
    seen = []
    for _ in range(3):
        serve(model)
        clock.pass_by(61)
        seen.append((model.rollout.judge().outcome, *state_of(model)))
    assert [("PASS", "running", "1:50%"), ("PASS", "promoted", "2:100%")] == seen[:2]
    assert seen[1][1:] == seen[2][1:]


def test_a_broken_candidate_is_rolled_back_and_stays_so(clock):
    model = decorate(Runtime(time_ns=clock), broken, breaker=None)
    serve(model, 100)
    assert "FAIL" == model.rollout.judge().outcome
    assert ("rolled_back", "1:aborted") == state_of(model)
    assert {"old"} == {model(f"user-{user}") for user in range(200)}
    with pytest.raises(StateError, match="A rollback is final"):
        model.rollout.promote()


def test_a_transition_is_told_with_the_verdict_it_was_made_on(clock, watch):
    runtime = watch(time_ns=clock)
    model = decorate(runtime, broken)
    serve(model, 100)
    verdict = model.rollout.judge()
    (event,) = [event for event in runtime.events() if type(event).__name__ == "TransitionedEvent"]
    assert ("roll_back", "judge", verdict.as_dict()) == (event.action, event.actor, event.evidence)


def test_a_paused_rollout_does_not_go_on_and_still_rolls_back(clock):
    runtime = Runtime(time_ns=clock)
    good, bad = decorate(runtime), decorate(runtime, broken, key="bad")
    for model in (good, bad):
        model.rollout.pause()
        serve(model)
    clock.pass_by(61)
    assert ("PASS", "FAIL") == (good.rollout.judge().outcome, bad.rollout.judge().outcome)
    assert ("paused", "rolled_back") == (state_of(good)[0], state_of(bad)[0])


def test_a_step_whose_time_is_over_without_a_verdict_is_paused_for_a_person(clock):
    steps = [Step("20%", min_units=20, min_time="1m", max_time="1h"), "50%"]
    model = decorate(Runtime(time_ns=clock), strategy=Canary(steps, guardrails=LOOSE, gates=[Gate("click")]))
    serve(model)
    clock.pass_by(1800)
    serve(model)
    model.rollout.judge()
    assert ("running", "0:20%") == state_of(model)
    clock.pass_by(1801)
    serve(model)
    model.rollout.judge()
    assert ("paused", "0:20%") == state_of(model)


def test_a_person_who_resumes_a_step_gives_it_its_time_once_more(clock):
    steps = [Step("20%", min_units=20, min_time="1m", max_time="1h"), "50%"]
    model = decorate(Runtime(time_ns=clock), strategy=Canary(steps, guardrails=LOOSE, gates=[Gate("click")]))
    clock.pass_by(3601)
    serve(model)
    model.rollout.judge()
    clock.pass_by(86_400)
    model.rollout.resume(actor="ann", reason="another hour")
    seen = []
    for seconds in (0, 3599, 1):
        clock.pass_by(seconds)
        serve(model)
        model.rollout.judge()
        seen.append(state_of(model)[0])
    assert ["running", "running", "paused"] == seen


def test_in_a_freeze_window_nothing_goes_forward_and_everything_may_go_back(clock):
    freeze = [Freeze("2000-01-01", "2100-01-01")]
    runtime = Runtime(time_ns=clock)
    good = decorate(runtime, strategy=Canary(STEPS, guardrails=LOOSE, freeze=freeze))
    bad = decorate(runtime, broken, key="bad", strategy=Canary(STEPS, guardrails=LOOSE, freeze=freeze))
    serve(good)
    serve(bad)
    clock.pass_by(61)
    good.rollout.judge()
    bad.rollout.judge()
    assert (("running", "0:20%"), "rolled_back") == (state_of(good), state_of(bad)[0])
    assert "held by the freeze window 2000-01-01 to 2100-01-01" in good.rollout.status().verdict.reason


def test_an_approval_holds_a_step_until_it_says_yes_and_never_holds_a_rollback(clock):
    answers = [False, ValueError("the approver is away"), "yes", True]

    def approve(verdict):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    runtime = Runtime(time_ns=clock)
    model = decorate(runtime, strategy=Canary(STEPS, guardrails=LOOSE, approve=approve))
    serve(model)
    clock.pass_by(61)
    seen = []
    for _ in range(4):
        model.rollout.judge()
        seen.append(state_of(model)[1])
    assert ["0:20%", "0:20%", "0:20%", "1:50%"] == seen
    assert {("approve", "ValueError"): 1} == runtime.faults
    bad = decorate(runtime, broken, key="bad", strategy=Canary(STEPS, guardrails=LOOSE, approve=lambda verdict: False))
    serve(bad)
    bad.rollout.judge()
    assert "rolled_back" == state_of(bad)[0]


def test_an_approval_that_does_not_answer_holds_its_own_step_and_nothing_else(clock):
    asked, may_answer = [], threading.Event()

    def approve(verdict):
        asked.append(verdict.revision)
        return may_answer.wait(60)

    runtime = Runtime(time_ns=clock)
    model = decorate(runtime, strategy=Canary(STEPS, guardrails=LOOSE, approve=approve))
    serve(model)
    clock.pass_by(61)
    for _ in range(2):
        model.rollout.judge()
    assert ("running", "0:20%") == state_of(model)
    assert "held until it is approved" in model.rollout.status().verdict.reason
    bad = decorate(runtime, broken, key="bad")
    serve(bad)
    bad.rollout.judge()
    assert "rolled_back" == state_of(bad)[0]
    may_answer.set()
    deadline = time.monotonic() + 30
    # It answers in a thread of its own.
    while state_of(model) == ("running", "0:20%") and time.monotonic() < deadline:
        model.rollout.judge()
        time.sleep(0.01)
    assert (("running", "1:50%"), [0]) == (state_of(model), asked)


def test_failures_that_arrive_seven_days_late_are_waited_for(clock):
    """Chargebacks: for a week the worse candidate looks as good as the control; both arms' take equally long."""
    guardrail = Guardrail("chargeback", margin=0.05, better="lower", window="8d", early_harm=True)
    plan = Canary([Step("50%", min_units=20, min_time="1m")], guardrails=[guardrail])

    def after(days, rates):
        runtime = Runtime(time_ns=clock)
        model = decorate(runtime, strategy=plan, key=f"model-{rates['candidate']}")
        rng = random.Random(4)
        decided = [model.rollout.route(f"user-{user}").decision for user in range(5000)]
        verdicts = []
        for passed in range(days + 3):
            if passed == days:
                for decision in decided:
                    if rng.random() < rates[decision.variant]:
                        model.rollout.record("chargeback", 1.0, decision_id=decision.id)
            verdicts.append(model.rollout.judge().outcome)
            clock.pass_by(86_400)
        return verdicts, model.rollout.status().status

    same, good = after(7, {"control": 0.02, "candidate": 0.02})
    early, bad = after(7, {"control": 0.02, "candidate": 0.2})
    assert {"INSUFFICIENT_DATA"} == set(same[:8]) == set(early[:7])
    assert ("PASS", "promoted") == (same[9], good)
    assert ("FAIL", "rolled_back") == (early[7], bad)


def test_while_shadowing_nobody_is_served_and_a_failing_shadow_rolls_back(clock):
    steps = [Step("0%", shadow="50%", min_units=20, min_time="1m"), *STEPS]
    runtime = Runtime(time_ns=clock)
    good = decorate(runtime, strategy=Canary(steps, guardrails=LOOSE))
    bad = decorate(runtime, broken, key="bad", strategy=Canary(steps, guardrails=LOOSE))
    for user in range(400):
        assert ("old", "old") == (good(f"user-{user}"), bad(f"user-{user}"))
        if user % 20 == 0:
            runtime.flush(10)
    runtime.flush(10)
    clock.pass_by(61)
    assert "shadowing" == state_of(good)[0]
    good.rollout.judge()
    bad.rollout.judge()
    assert ("running", "1:20%") == state_of(good)
    assert "rolled_back" == state_of(bad)[0]


def test_outcomes_are_credited_to_the_step_they_were_decided_in_even_later(clock):
    model = decorate(Runtime(time_ns=clock), strategy=Canary(STEPS, guardrails=[], gates=[Gate("click", per="outcome")]))
    ids = [model.rollout.route(f"user-{user}").decision.id for user in range(200)]
    model.rollout.promote()
    serve(model, 10)
    for each in ids:
        model.rollout.record("click", 1.0, decision_id=each)
    verdict = model.rollout.judge()
    (gate,) = [finding for finding in verdict.findings if finding.name == "click"]
    assert 200 == gate.numbers["control_count"] + gate.numbers["value_count"]
    evidence = model.rollout._runtime.reconciler.rollouts["model"].evidence
    assert {"0:20%"} == {phase for phase, seen in evidence.phases.items() if "click" in seen.sums}


def test_a_call_that_is_not_analysed_is_no_evidence_and_neither_are_its_outcomes(clock):
    strategy = Canary(STEPS, guardrails=LOOSE, gates=[Gate("click", per="outcome")])
    model = decorate(Runtime(time_ns=clock), broken, strategy=strategy, override={"staff": "candidate"})
    for _ in range(200):
        routed = model.rollout.route("staff")
        model.rollout.record("click", 1.0, decision_id=routed.decision.id)
    verdict = model.rollout.judge()
    assert ({}, {}, ()) == (dict(verdict.units), dict(verdict.outcomes), verdict.failed)


# Several processes ------------------------------------------------------------------------------------------------------


def test_processes_judge_together_what_each_has_seen(processes, clock):
    one, two = processes(), processes()
    first, second = decorate(one), decorate(two)
    for user in range(600):
        (first if user % 2 else second)(f"user-{user}")
    two.flush()
    two.reconciler.rollouts["model"].publish(two.reconciler.store, two.reconciler.writer, clock() / 1e9)
    clock.pass_by(61)
    verdict = first.rollout.judge()
    assert ("PASS", 600) == (verdict.outcome, sum(verdict.units.values()))
    assert ("running", "0:20%") == state_of(second)
    look(two)
    assert ("running", "1:50%") == state_of(second)


def test_publishing_again_and_judging_again_counts_nobody_twice(processes, clock):
    one, two = processes(), processes()
    first, second = decorate(one), decorate(two)
    serve(first, 300)
    serve(second, 300)
    units = [sum(model.rollout.judge().units.values()) for model in (first, second, first, second)]
    assert [300, 300, 300, 300] == units


def test_of_many_that_come_to_one_verdict_one_makes_the_transition(processes, clock):
    runtimes = [processes() for _ in range(4)]
    models = [decorate(runtime) for runtime in runtimes]
    for model in models:
        serve(model)
    for runtime in runtimes:
        runtime.flush()
        runtime.reconciler.rollouts["model"].publish(runtime.reconciler.store, runtime.reconciler.writer, clock() / 1e9)
    clock.pass_by(61)
    threads = [threading.Thread(target=model.rollout.judge) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["start", "promote"] == [record["action"] for record in processes.store.history("model")]
    assert {("running", "1:50%")} == {state_of(model) for model in models if look(model.rollout._runtime) is None}


def test_an_operator_in_one_process_is_followed_by_all(processes):
    one, two = processes(), processes()
    first, second = decorate(one), decorate(two)
    revision = second.rollout.status().revision
    first.rollout.abort(actor="ann", reason="pager")
    look(two)
    assert ("aborted", "aborted") == (state_of(first)[0], state_of(second)[0])
    with pytest.raises(ConflictError, match="Another change was made"):
        second.rollout.promote(revision=revision)


def test_a_process_that_starts_later_stands_where_the_others_do(processes):
    first = decorate(processes())
    first.rollout.promote()
    assert ("running", "1:50%") == state_of(decorate(processes()))
    first.rollout.abort()
    late = decorate(processes())
    assert "aborted" == state_of(late)[0]
    assert {"old"} == {late(f"user-{user}") for user in range(100)}


def test_a_new_version_starts_anew_and_the_old_processes_serve_their_control(processes):
    one, two = processes(), processes()
    old = decorate(one, version="v1")
    serve(old, 200)
    old.rollout.abort()
    new_one = decorate(two, version="v2")
    serve(new_one, 200)
    verdict = new_one.rollout.judge()
    assert ("running", 200) == (state_of(new_one)[0], sum(verdict.units.values()))
    look(one)
    assert {"old"} == {old(f"user-{user}") for user in range(200)}
    again = decorate(processes(), version="v1")
    assert {"old"} == {again(f"user-{user}") for user in range(200)}
    assert "v2" == processes.stored("model").version


def test_a_process_of_an_old_version_moves_nothing_but_can_stop_everything(processes):
    one, two = processes(), processes()
    old = decorate(one, version="v1")
    fresh = decorate(two, version="v2")
    before = state_of(fresh)
    for change in (old.rollout.promote, lambda **said: old.rollout.set_share("30%", **said)):
        with pytest.raises(StateError, match="has version 'v1' of 'model', which was replaced by 'v2'"):
            change(reason="by mistake")
    look(two)
    assert before == state_of(fresh)
    fresh.rollout.set_share("90%")
    look(one)
    assert {"old"} == {old(f"user-{user}") for user in range(100)}, "where another version stands is not for this one"
    old.rollout.abort(reason="pager")
    look(two)
    assert "aborted" == state_of(fresh)[0]


def test_evidence_of_an_older_version_is_refused(processes, clock):
    one, two = processes(), processes()
    old = decorate(one, version="v1")
    serve(old, 200)
    one.flush()
    decorate(two, version="v2")
    kept = one.reconciler.rollouts["model"]
    assert not kept.publish(one.reconciler.store, one.reconciler.writer, clock() / 1e9)


# A dead store -----------------------------------------------------------------------------------------------------------


def test_a_dead_store_keeps_the_phase_and_nobody_goes_on(processes, clock):
    runtime = processes()
    model = decorate(runtime)
    serve(model)
    clock.pass_by(61)
    runtime.store.dead = True
    with pytest.raises(StoreError):
        model.rollout.judge()
    with pytest.raises(StoreError):
        model.rollout.promote()
    assert ("running", "0:20%") == state_of(model)
    assert {"old", "new"} == {model(f"user-{user}") for user in range(200)}
    runtime.store.dead = False
    assert "PASS" == model.rollout.judge().outcome
    assert ("running", "1:50%") == state_of(model)


def test_an_abort_holds_at_once_without_the_store_and_is_stored_when_it_is_back(processes):
    one, two = processes(), processes()
    first, second = decorate(one), decorate(two)
    one.store.dead = True
    first.rollout.abort(actor="ann", reason="pager")
    assert {"old"} == {first(f"user-{user}") for user in range(100)}
    with pytest.raises(StoreError):
        look(one)
    one.store.dead = False
    look(one)
    look(two)
    assert ("aborted", "aborted") == (state_of(first)[0], state_of(second)[0])
    assert ("abort", "ann", "pager") == tuple(
        processes.store.history("model")[-1][name] for name in ("action", "actor", "reason")
    )


def test_a_process_that_starts_without_the_store_serves_the_control_until_it_knows(processes):
    decorate(processes()).rollout.promote()
    runtime = processes()
    runtime.store.dead = True
    model = decorate(runtime)
    assert {"old"} == {model(f"user-{user}") for user in range(200)}
    assert {("store", "StoreError"): 1} == runtime.faults
    runtime.store.dead = False
    look(runtime)
    assert ("running", "1:50%") == state_of(model)
    assert {"old", "new"} == {model(f"user-{user}") for user in range(200)}


def test_no_call_ever_asks_the_store(processes):
    runtime = processes()
    model = decorate(runtime)
    before = runtime.store.calls
    serve(model, 500)
    assert runtime.flush()
    assert 500 == sum(model.rollout.status().calls.values())
    assert before == runtime.store.calls > 0


def test_the_background_follows_publishes_and_judges(clock):
    store = MemoryStore()
    runtimes = [Runtime(store=SharedStore(store), time_ns=clock) for _ in range(2)]
    for runtime in runtimes:
        runtime.reconciler._judging.every_s = 0.2
    models = [decorate(runtime) for runtime in runtimes]
    for model in models:
        serve(model)
    clock.pass_by(61)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and {state_of(model) for model in models} != {("running", "1:50%")}:
        time.sleep(0.05)
    assert {("running", "1:50%")} == {state_of(model) for model in models}
    for runtime in runtimes:
        runtime.close(1.0)


def test_the_store_is_looked_at_every_time_and_the_evidence_as_often_as_was_said(processes):
    runtime, judged, looked = processes(), [], []
    decorate(runtime)
    reconciler = runtime.reconciler
    reconciler.look, reconciler._judging.judge_in_turn = looked.append, judged.append
    reconciler._judging.every_s = 3600.0
    for _ in range(3):
        reconciler._watch()
    assert (3, 0) == (len(looked), len(judged))
    reconciler._judging.every_s = 0.0
    reconciler._watch()
    assert (4, 1) == (len(looked), len(judged))
    reconciler._judging.every_s = 3600.0
    reconciler._watch()
    assert (5, 1) == (len(looked), len(judged))


@pytest.mark.parametrize("error", [ValueError, StoreError, SystemExit, KeyboardInterrupt])
def test_whatever_is_raised_about_one_rollout_the_others_are_looked_at(error, processes):
    runtime, looked = processes(), []
    for key in ("model", "other"):
        decorate(runtime, key=key)

    def raises(kept):
        looked.append(kept.key)
        raise error

    runtime.reconciler.look = raises
    runtime.reconciler._watch()
    assert ["model", "other"] == looked
    assert {error.__name__: 2} == {name: count for (_, name), count in runtime.faults.items()}


def seen(runtime):
    """How many calls every process together has seen, as this one finds them."""
    evidence = runtime.reconciler.rollouts["model"].gather(runtime.reconciler.store, runtime.failed)
    return sum(sum(cells) for phase in evidence.phases.values() for cells in phase.calls.values())


def test_a_process_that_ends_leaves_what_it_has_seen_to_the_others(processes):
    first, second = processes(), processes()
    model, _ = decorate(first), decorate(second)
    serve(model, 100)
    assert 0 == seen(second)
    first.close(5.0)
    assert 100 == seen(second)


def test_a_forked_child_is_another_writer_that_has_seen_nothing_and_watches_at_once(clock):
    runtime = Runtime(store=SharedStore(MemoryStore()), time_ns=clock)
    model = decorate(runtime)
    serve(model, 100)
    assert runtime.flush(10.0)
    reconciler = runtime.reconciler
    kept = reconciler.rollouts["model"]
    writer, thread = reconciler.writer, reconciler._thread
    kept.publish(reconciler.store, writer, reconciler.now_s)
    assert (100, True) == (seen(runtime), thread.is_running)
    # Another thread of the parent's, which is not in the child, may have it.
    kept.adding.acquire()
    reconciler.renew()
    try:
        assert (True, True) == (reconciler.writer != writer, reconciler._thread is not thread)
        assert reconciler._thread.is_running
        assert {} == kept.evidence.phases
        # What the child has seen is added to what its parent has published, and counted once.
        serve(model, 10)
        assert runtime.flush(10.0)
        kept.publish(reconciler.store, reconciler.writer, reconciler.now_s)
        assert 110 == seen(runtime)
    finally:
        thread.end()
        runtime.close(1.0)


def test_what_could_not_be_published_is_published_later(processes):
    runtime = processes()
    model = decorate(runtime)
    reconciler, kept = runtime.reconciler, runtime.reconciler.rollouts["model"]
    serve(model, 100)
    assert runtime.flush(10.0)
    runtime.store.dead = True
    with pytest.raises(StoreError):
        kept.publish(reconciler.store, reconciler.writer, reconciler.now_s)
    runtime.store.dead = False
    kept.publish(reconciler.store, reconciler.writer, reconciler.now_s)
    assert 100 == seen(runtime)


def test_a_verdict_of_another_process_is_taken_while_it_is_new_and_of_the_same_revision(processes, clock):
    first, second = processes(), processes()
    model, _ = decorate(first), decorate(second)
    kept, judging, judged = second.reconciler.rollouts["model"], second.reconciler._judging, []
    judging.judge = judged.append
    assert model.rollout.judge() is not None
    judging.judge_in_turn(kept)
    assert [] == judged
    # A clock was set back: it is of no time that has been.
    clock.pass_by(-3600)
    judging.judge_in_turn(kept)
    assert 1 == len(judged)
    # The process that has judged it is late.
    clock.pass_by(3600 + 2 * judging.every_s)
    judging.judge_in_turn(kept)
    assert 2 == len(judged)
    assert model.rollout.judge() is not None
    model.rollout.promote()
    look(second)
    judging.judge_in_turn(kept)
    assert [kept] * 3 == judged


def test_a_slow_publication_that_has_taken_the_place_of_a_later_one_is_made_up_for(processes):
    runtime = processes()
    model = decorate(runtime)
    serve(model, 100)
    assert runtime.flush(10.0)
    reconciler, kept = runtime.reconciler, runtime.reconciler.rollouts["model"]

    class Overtaken:
        """The first publication arrives after a second one, which was made later."""

        published = 0

        def publish(self, *parts):
            self.published += 1
            if self.published == 1:
                serve(model, 10)
                assert runtime.flush(10.0)
                kept.publish(self, reconciler.writer, reconciler.now_s)
            return reconciler.store.publish(*parts)

    store = Overtaken()
    kept.publish(store, reconciler.writer, reconciler.now_s)
    assert (2, 100) == (store.published, seen(runtime))
    kept.publish(reconciler.store, reconciler.writer, reconciler.now_s)
    assert 110 == seen(runtime)


def test_an_aborted_rollout_is_not_judged(processes, clock):
    model = decorate(processes())
    serve(model)
    clock.pass_by(61)
    model.rollout.abort()
    assert model.rollout.judge() is None


def test_a_watch_that_was_ended_looks_no_more_and_its_thread_ends():
    class Watched:
        looks = 0

        def look(self):
            self.looks += 1

    watched = Watched()
    watch = WatchThread(watched.look, "rollout-test")
    watch.start()
    watch.end()
    watch._thread.join(10.0)
    assert (False, 0) == (watch._thread.is_alive(), watched.looks)


def test_a_process_alone_begins_to_watch_with_the_first_evidence(clock):
    runtime = Runtime(time_ns=clock)
    model = decorate(runtime)
    assert not runtime.reconciler._thread.is_running
    model("user")
    assert runtime.flush(10.0)
    assert runtime.reconciler._thread.is_running
    runtime.close(1.0)


PLAN_FILE = """
version = {version}
[rollouts.model.canary]
steps = [{steps}]
[[rollouts.model.canary.guardrails]]
metric = "error_rate"
floor = {floor}
"""


def test_a_control_file_gives_a_canary_another_plan_while_it_runs(tmp_path, clock):
    path = tmp_path / "control.toml"
    path.write_text(PLAN_FILE.format(version=1, steps='"20%", "30%", "60%"', floor=0.3))
    path.chmod(0o600)
    runtimes = [Runtime(control=path, time_ns=clock, store=SharedStore(MemoryStore())) for _ in range(2)]
    model = decorate(runtimes[0])
    assert ["20%", "30%", "60%"] == [phase.name for phase in model.rollout._rollout.state.plan]
    assert [0.3] == [each.floor for each in runtimes[0].reconciler.rollouts["model"].criteria.guardrails]
    model.rollout.promote()
    assert ("running", "1:30%") == state_of(model)
    path.write_text(PLAN_FILE.format(version=2, steps='"20%", "70%"', floor=0.3))
    runtimes[0]._steering._watch(), runtimes[0]._steering._watch()
    assert ("running", "1:30%") == state_of(model)
    path.write_text(PLAN_FILE.format(version=3, steps='"20%", "80%"', floor=7))
    runtimes[0]._steering._watch(), runtimes[0]._steering._watch()
    assert {("control file", "ConfigurationError"): 1} == runtimes[0].faults
    model.rollout.promote()
    assert ("running", "2:70%") == state_of(model)
    for runtime in runtimes:
        runtime.close(1.0)


def test_processes_that_read_the_same_plan_change_it_once(tmp_path, clock):
    path, store = tmp_path / "control.toml", MemoryStore()
    path.write_text(PLAN_FILE.format(version=1, steps='"10%", "90%"', floor=0.3))
    path.chmod(0o600)
    runtimes = [Runtime(control=path, time_ns=clock, store=SharedStore(store)) for _ in range(3)]
    models = [decorate(runtime) for runtime in runtimes]
    assert 3 == len(models)
    assert ["start", "set_plan"] == [record["action"] for record in store.history("model")]
    for runtime in runtimes:
        runtime.close(1.0)


def test_a_document_says_the_whole_state():
    model = decorate(Runtime(), version="v7")
    state = model.rollout.promote() and model.rollout._rollout.state
    assert state == from_document(as_document(state))


@pytest.mark.parametrize("damage", [{"schema": 99}, {"status": "dancing"}, {"plan": None}, {"phase": {}}, {"step": "x"}])
def test_a_document_that_cannot_be_read_is_refused(damage):
    document = as_document(decorate(Runtime()).rollout._rollout.state)
    with pytest.raises(StateError, match="cannot be read"):
        from_document({**document, **damage})


def test_outcomes_of_an_older_version_are_no_evidence_about_the_new_one(processes, clock):
    """Labels come late: those of the version before must not speak for, or against, its successor."""
    plan = Canary(["50%"], guardrails=[], gates=[Gate("label", per="outcome", window="7d")])
    old = decorate(processes(), strategy=plan, version="1")
    ids = [old.rollout.route(f"user-{user}").decision.id for user in range(100)]
    runtime = processes()
    new_version = decorate(runtime, strategy=plan, version="2")
    for decision_id in ids:
        new_version.rollout.record("label", 1.0, decision_id=decision_id)
    own = new_version.rollout.route("user-1").decision.id
    new_version.rollout.record("label", 1.0, decision_id=own)
    clock.pass_by(9 * 86_400)
    verdict = new_version.rollout.judge()
    assert ("2", 2) == (new_version.rollout.status().version, new_version.rollout.status().versions)
    assert "version 2, number 2 of this rollout: each has an alpha of its own" in str(new_version.rollout.status())
    (label,) = [finding for finding in verdict.findings if finding.name == "label"]
    assert {"unknown": 100, "counted": 1} == verdict.outcomes
    assert 1.0 == label.numbers["control_count"] + label.numbers["value_count"]


def test_a_fact_that_cannot_be_counted_takes_no_other_along(clock):
    plan = Canary(STEPS, guardrails=LOOSE, gates=[Gate("revenue", per="outcome")])
    runtime = Runtime(time_ns=clock)
    model = decorate(runtime, strategy=plan)
    ids = [model.rollout.route(f"user-{user}").decision.id for user in range(3)]
    for decision_id, value in zip(ids, (1.0, 1e300, 2.0), strict=True):
        model.rollout.record("revenue", value, decision_id=decision_id)
    verdict = model.rollout.judge()
    (revenue,) = [finding for finding in verdict.findings if finding.name == "revenue"]
    assert 2.0 == revenue.numbers["control_count"] + revenue.numbers["value_count"]
    assert {("judge", "ValueError"): 1} == runtime.faults
    assert {"counted": 2} == verdict.outcomes


def test_a_stream_that_a_caller_leaves_is_counted_and_takes_no_other_call_along(clock):
    def candidate(user):
        yield "new"
        yield "words"

    plan = Canary(STEPS, guardrails=[*LOOSE, Guardrail("latency", threshold_s=30.0)])
    runtime = Runtime(time_ns=clock)

    @rollout(candidate=candidate, strategy=plan, unit="user", key="stream", runtime=runtime)
    def stream(user):
        yield "old"
        yield "words"

    for user in range(40):
        words = stream(f"user-{user}")
        next(words)
        if user % 2:
            words.close()
        else:
            list(words)
    verdict = stream.rollout.judge()
    latency = next(finding for finding in verdict.findings if finding.name == "latency>30s")
    assert (40, {}) == (sum(verdict.units.values()), runtime.faults)
    assert 20.0 == latency.numbers["control_count"] + latency.numbers["value_count"]


def test_a_new_version_that_takes_a_place_is_told_as_a_transition(processes, clock, watch):
    """In the journal, too, every revision has its record."""
    decorate(processes(), version="1")
    runtime = watch(store=SharedStore(processes.store), time_ns=clock)
    decorate(runtime, version="2")
    runtime.recorder.flush(1.0)
    (event,) = [event for event in runtime.events() if type(event).__name__ == "TransitionedEvent"]
    assert ("start", 1, "0:20%", "1:20%") == (event.action, event.revision, event.from_phase, event.to_phase)
    assert "another version" in event.reason


def label_plan():
    return Canary(["50%"], guardrails=[], gates=[Gate("label", per="outcome", window="7d", clip=(0, 1))])


def test_labels_recorded_by_a_job_that_serves_nothing_are_evidence(processes, clock, monkeypatch, tmp_path):
    """The id says everything about the decision, and the store how the metric is counted."""
    import rollout_sdk
    import rollout_sdk.runtime.registry as module

    serving, job = processes(), processes(journal=tmp_path)
    model = decorate(serving, strategy=label_plan())
    ids = [model.rollout.route(f"user-{user}").decision.id for user in range(50)]
    monkeypatch.setattr(module, "_default", job)
    # Before anybody has judged, the job cannot know how to count: it waits.
    rollout_sdk.record("label", 9.0, decision_id=ids[0])
    job.recorder.flush(1.0)
    job.reconciler._judging.publish_remote_outcomes()
    model.rollout.judge()
    for decision_id in (*ids[1:], ids[1]):
        rollout_sdk.record("label", 1.0, decision_id=decision_id)
    rollout_sdk.record("other", 1.0, decision_id=ids[0])
    clock.pass_by(8 * 86_400)
    rollout_sdk.record("label", 1.0, decision_id=ids[2])
    job.recorder.flush(1.0)
    job.reconciler._judging.publish_remote_outcomes()
    verdict = model.rollout.judge()
    (label,) = [finding for finding in verdict.findings if finding.name == "label"]
    assert {"counted": 50, "duplicate": 1, "late": 1} == verdict.outcomes
    assert (50.0, 50.0) == tuple(
        label.numbers[f"control_{each}"] + label.numbers[f"value_{each}"] for each in ("total", "count")
    )


def test_a_job_that_ends_leaves_what_it_has_heard_and_another_versions_labels_are_unknown(
    processes, clock, monkeypatch, tmp_path
):
    import rollout_sdk
    import rollout_sdk.runtime.registry as module

    old = decorate(processes(), strategy=label_plan(), version="1")
    early = old.rollout.route("user-1").decision.id
    model = decorate(processes(), strategy=label_plan(), version="2")
    model.rollout.judge()
    job = processes(journal=tmp_path)
    monkeypatch.setattr(module, "_default", job)
    for decision_id in (early, model.rollout.route("user-1").decision.id):
        rollout_sdk.record("label", 1.0, decision_id=decision_id)
    job.close(2.0)
    assert {"counted": 1, "unknown": 1} == model.rollout.judge().outcomes
