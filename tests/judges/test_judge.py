"""A judge compares both answers of shadowed calls: blind, on a sample, and within its limits."""

import asyncio
import json
import threading
import time
from collections import Counter

import pytest
from structlog.testing import capture_logs

from rollout_sdk import Canary, Gate, Guardrail, Judge, Judgement, Money, Shadow, Step, rollout
from rollout_sdk.analysis.replay import replay
from rollout_sdk.engine.judges.judge import as_preference
from rollout_sdk.engine.judges.lane import Judged, JudgeLane, Pair, is_candidate_first, is_sampled
from rollout_sdk.engine.judges.spending import Spending
from rollout_sdk.exceptions import ConfigurationError, OutcomeError
from rollout_sdk.journal import read_journal

BETTER = Guardrail("judge.preference", margin=0.05, audit=1.0)


def longer(request, a, b):
    return "a" if len(a) > len(b) else "b" if len(b) > len(a) else "tie"


def deployed(runtime, judge, candidate=lambda text: text + "!", guardrails=(BETTER,), **options):
    @rollout(
        candidate=candidate, strategy=Shadow(1.0, guardrails=guardrails), effects="read", judge=judge, runtime=runtime,
        key="chat", **options,
    )  # fmt: skip
    def chat(text):
        return text

    return chat


def judgements(runtime):
    events = [event for event in runtime.events() if getattr(event, "source", "") == "judge"]
    return [event for event in events if event.metric == "judge.preference"], [
        event for event in events if event.metric == "judge.failed"
    ]


def called(chat, number=50):
    return [chat.rollout.route(f"text {i}").decision.id for i in range(number)]


def test_a_judge_says_which_answer_is_better_without_learning_whose_it_is(runtime):
    seen = []
    chat = deployed(runtime, Judge(lambda request, a, b: seen.append((a, b)) or longer(request, a, b), sample=1.0))
    ids = called(chat)
    judged, failed = judgements(runtime)
    assert ([1.0] * 50, []) == ([event.value for event in judged], failed)
    assert {event.variant for event in judged} == {"candidate"}
    # The order is drawn by the id, and both orders occur.
    firsts = {event.decision_id: event.details["first"] for event in judged}
    assert firsts == {each: "candidate" if is_candidate_first(each) else "control" for each in ids}
    assert 10 < sum(a.endswith("!") for a, _ in seen) < 40


def test_a_judge_gets_the_arguments_of_the_call(runtime):
    seen = []
    chat = deployed(runtime, Judge(lambda request, a, b: seen.append(request.arguments["text"]) or "tie", sample=1.0))
    called(chat, 3)
    judged, _ = judgements(runtime)
    assert (["text 0", "text 1", "text 2"], [0.0] * 3) == (sorted(seen), [each.value for each in judged])


def test_the_sample_is_drawn_by_the_decisions_id(runtime):
    chat = deployed(runtime, Judge(longer, sample=0.3))
    ids = called(chat, 200)
    judged, _ = judgements(runtime)
    assert {event.decision_id for event in judged} == {each for each in ids if is_sampled(each, 0.3)}
    assert 30 < len(judged) < 95


def test_coroutine_judges_share_one_event_loop(runtime):
    loops = set()

    async def judge(request, a, b):
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0.001)
        return longer(request, a, b)

    called(deployed(runtime, Judge(judge, sample=1.0)), 20)
    assert (20, 1) == (len(judgements(runtime)[0]), len(loops))


def test_a_slow_judge_drops_no_shadow_and_delays_no_caller(watch):
    """.3 s beside 300 shadows, with the limits that shadows have by default but for their share of a core."""
    runtime = watch(shadows={"max_jobs": 64, "max_age_s": 5.0})
    chat = deployed(runtime, Judge(lambda *_: time.sleep(0.3) or "tie", sample=1.0))
    begun = time.perf_counter()
    for i in range(300):
        chat(f"text {i}")
        # Only so fast that two workers can take what comes, on a machine with other things to do.
        while chat.rollout._rollout.background._threads.jobs:
            time.sleep(0.001)
    took = time.perf_counter() - begun
    runtime.background.wait(10.0)
    assert chat.rollout.status().shadows == {("candidate", "ok"): 300}
    # 300 judgements of .3 s take 22 s in four threads; the calls have not waited for them.
    assert took < 10.0
    runtime.close(0.5)
    ends = {event.details["end"] for event in runtime.plugins[0].events if getattr(event, "metric", "") == "judge.failed"}
    assert ends == {"closed"}


@pytest.mark.parametrize(
    ("judge", "end", "error"),
    [
        (lambda *_: 1 / 0, "error", "ZeroDivisionError"),
        (lambda *_: "the first one, clearly", "nonsense", "ValueError"),
        (lambda *_: 7.0, "nonsense", "ValueError"),
        (lambda *_: None, "nonsense", "ValueError"),
    ],
)
def test_a_judge_that_fails_is_found_and_said(runtime, judge, end, error):
    chat = deployed(runtime, Judge(judge, sample=1.0, retries=0))
    called(chat, 10)
    judged, failed = judgements(runtime)
    assert ([], {end}, {error}) == (judged, {e.details["end"] for e in failed}, {e.details["error"] for e in failed})
    status = chat.rollout.status()
    assert status.faults == {("shadow.judge", error): 10}
    assert status.shadows == {("candidate", "ok"): 10}
    finding = next(each for each in chat.rollout.judge().findings if each.name == "judge.preference")
    assert (finding.outcome, f"({end} 10)" in finding.reason) == ("INSUFFICIENT_DATA", True)


def test_a_judge_that_hangs_holds_nothing_up(runtime):
    # A judge of an earlier test may not have ended yet.
    hanging, before = threading.Event(), set(threading.enumerate())
    chat = deployed(
        runtime, Judge(lambda *_: hanging.wait(30.0) and "tie", sample=1.0, timeout_s=0.05, retries=0, concurrency=2)
    )
    called(chat, 20)
    judged, failed = judgements(runtime)
    calling = [thread for thread in threading.enumerate() if thread.name == "rollout-judge-call" and thread not in before]
    hanging.set()
    assert (0, 20, {"timeout"}) == (len(judged), len(failed), {each.details["end"] for each in failed})
    # Only so many threads hang; the others end at once.
    assert 0 < len(calling) <= 4


def test_a_coroutine_judge_that_hangs_is_cancelled(runtime):
    cancelled = []

    async def judge(*_):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    chat = deployed(runtime, Judge(judge, sample=1.0, timeout_s=0.05, retries=0))
    called(chat, 5)
    _, failed = judgements(runtime)
    assert ({"timeout"}, 5, 5) == ({each.details["end"] for each in failed}, len(failed), len(cancelled))


def test_a_judgement_is_tried_again_a_few_times(runtime):
    tries = Counter()

    def flaky(request, a, b):
        tries[request.arguments["text"]] += 1
        if tries[request.arguments["text"]] < 3:
            raise ConnectionError
        return "tie"

    called(deployed(runtime, Judge(flaky, sample=1.0, retries=2)), 3)
    judged, failed = judgements(runtime)
    assert ([3] * 3, []) == ([each.details["tries"] for each in judged], failed)


def test_a_full_queue_is_counted(runtime):
    gate = threading.Event()
    chat = deployed(runtime, Judge(lambda *_: gate.wait(10) and "tie", sample=1.0, concurrency=1, queue=2))
    called(chat, 10)
    runtime.background.wait(5.0)
    gate.set()
    judged, failed = judgements(runtime)
    assert {each.details["end"] for each in failed} == {"full"}
    assert (10, True) == (len(judged) + len(failed), len(judged) <= 4)


def test_each_judgement_is_a_line_of_the_journal(tmp_path, watch):
    runtime = watch(journal=tmp_path)
    chat = deployed(runtime, Judge(lambda *_: Judgement("tie", cost=0.002), sample=1.0, name="polite"))
    called(chat, 5)
    runtime.flush(10.0)
    lines = [line for line in read_journal(tmp_path) if line["event"] == "outcome"]
    assert ([("judge.preference", "judge", "candidate", True)] * 5) == [
        (line["metric"], line["source"], line["variant"], line["shadow"]) for line in lines
    ]
    assert ([("polite", 1, 0.002)] * 5) == [
        tuple(line["details"][name] for name in ("judge", "tries", "cost")) for line in lines
    ]
    assert "text" not in json.dumps(lines)


def test_a_control_that_fails_and_a_candidate_that_fails_are_not_judged(runtime):
    chat = deployed(runtime, Judge(longer, sample=1.0), candidate=lambda text: 1 / 0)
    called(chat, 5)
    assert ([], []) == judgements(runtime)


def lane(judge, now_s=lambda: 1e9):
    said = []
    found = JudgeLane(judge, failed=lambda *_: None, note=said.append, time_ns=lambda: int(now_s() * 1e9))
    return found, said


def paid(lane_, number):
    done = []
    for i in range(number):
        lane_.submit(Pair(f"d{i}", None, "x", "y", 1, done.append))
    assert lane_.wait(20.0)
    return done


def test_a_budget_is_reserved_before_each_judgement_and_never_exceeded():
    running, most, lock = [0], [0], threading.Lock()

    def judge(*_):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1
        return Judgement("tie", cost=0.5)

    found, said = lane(Judge(judge, budget=Money(10), price=1.0))
    done = paid(found, 40)
    assert (19, True, 4) == (len(done), found.spending.spent <= 10, most[0])
    assert "has spent its budget of 10 USD per day" in said[0]


def test_without_a_price_the_budget_is_exceeded_by_one_judgement_at_most():
    costs = iter([0.5] * 10 + [0.9] * 100)
    found, _ = lane(Judge(lambda *_: Judgement("tie", cost=next(costs)), budget=Money(10)))
    done = paid(found, 60)
    assert 10 - 0.9 < found.spending.spent <= 10 + 0.9
    assert all(each.cost for each in done)


def test_the_first_judgement_of_unknown_cost_runs_alone():
    spending = Spending(Money(10))
    assert (0.0, "wait") == (spending.reserve(0.0), spending.reserve(0.0))
    spending.settle(0.0, 4.0)
    assert 4.0 == spending.reserve(0.0)
    # 4 spent and 4 reserved: another of 4 would be too much.
    assert "wait" == spending.reserve(0.0)
    spending.settle(4.0, None)
    assert (8.0, "spent") == (spending.spent, spending.reserve(0.0))


def test_a_new_period_has_a_new_budget():
    spending = Spending(Money(1, per="hour"), price=1.0)
    spending.settle(spending.reserve(10.0), 1.0)
    assert ("spent", 1.0) == (spending.reserve(3_599.0), spending.reserve(3_600.0))


def test_with_a_budget_and_no_known_cost_the_judge_pauses_and_says_why():
    found, said = lane(Judge(lambda *_: "tie", budget=Money(10)))
    assert (1, True) == (len(paid(found, 20)), any("the cost of a judgement is unknown" in each for each in said))


def test_pairs_without_budget_do_not_count_as_missing(runtime):
    chat = deployed(runtime, Judge(lambda *_: "tie", sample=1.0, budget=Money(3), price=1.0))
    called(chat, 20)
    judged, failed = judgements(runtime)
    assert (3, []) == (len(judged), failed)
    assert any("has spent its budget" in note for note in chat.rollout.status().notes)


@pytest.mark.parametrize(
    ("said", "value"), [("a", 1.0), (" B ", -1.0), ("tie", 0.0), (0.3, 0.3), (-1, -1.0), (Judgement("b", cost=1), -1.0)]
)
def test_what_a_judge_may_say(said, value):
    assert as_preference(said)[0] == value


@pytest.mark.parametrize("said", [True, None, "c", 1.5, float("nan"), [], Judgement("a", cost=-1), Judgement("a", cost="1")])
def test_what_a_judge_may_not_say(said):
    with pytest.raises(ValueError, match="the judge said"):
        as_preference(said)


@pytest.mark.parametrize(
    "options",
    [{"sample": 2}, {"concurrency": 0}, {"timeout_s": 0}, {"retries": -1}, {"budget": 10}, {"price": -1}, {"queue": True}],
)
def test_options_with_which_nothing_is_judged_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Judge(longer, **options)


@pytest.mark.parametrize(("options", "about"), [({"amount": 0}, "amount"), ({"amount": 1, "per": "year"}, "per")])
def test_what_is_no_money(options, about):
    with pytest.raises(ConfigurationError, match=about):
        Money(**options)


def test_a_judge_that_is_a_bare_function_or_belongs_to_a_batch_is_refused(runtime):
    with pytest.raises(ConfigurationError, match="is not a Judge"):
        deployed(runtime, longer)
    with pytest.raises(ConfigurationError, match="does not work with batch="):
        deployed(runtime, Judge(longer), batch="text")


def test_people_label_pairs_and_nothing_else_is_recorded_as_their_preference(runtime):
    chat = deployed(runtime, None)
    (decision,) = called(chat, 1)
    record = chat.rollout.record
    record("judge.preference", -1, decision_id=decision, source="human")
    (event,) = [event for event in runtime.events() if getattr(event, "metric", "") == "judge.preference"]
    assert (event.variant, event.shadow, event.source, event.value) == ("candidate", True, "human", -1.0)
    for options, why in [
        ({"value": 2.0, "source": "human"}, "from|between"),
        ({"value": 1.0}, "source='human'"),
        ({"value": 1.0, "source": "judge"}, "source="),
    ]:
        with pytest.raises(OutcomeError, match=why):
            record("judge.preference", decision_id=decision, **options)
    with pytest.raises(OutcomeError, match="by the SDK itself"):
        record("judge.failed", 1.0, decision_id=decision)


def test_a_canary_waits_in_its_shadow_step_for_people(watch):
    """A flattering judge passes nothing on its own; with the labels, the worse candidate is rolled back."""
    runtime = watch()
    gate = Gate("judge.preference", min_effect=-0.05, mde=0.1, audit=1.0)
    worse = Guardrail("judge.preference", margin=0.05, audit=1.0)
    steps = [Step("0%", shadow="100%", min_units=0, min_time=0), "50%"]

    def on(key, **criteria):
        @rollout(
            candidate=lambda text: "", strategy=Canary(steps, **criteria), effects="read", key=key, runtime=runtime,
            judge=Judge(lambda request, a, b: "b" if a else "a", sample=1.0),
        )  # fmt: skip
        def chat(text):
            return text

        return chat

    held, failing = on("held", guardrails=[], gates=[gate]), on("failing", guardrails=[worse])
    ids = [called(each, 400) for each in (held, failing)]
    assert runtime.flush(20.0)
    verdicts = [each.rollout.judge() for each in (held, failing)]
    assert {verdict.outcome for verdict in verdicts} == {"INSUFFICIENT_DATA"}
    assert all("judge not audited: advisory" in verdict.reason for verdict in verdicts)
    for each, decisions in zip((held, failing), ids, strict=True):
        for decision in decisions:
            each.rollout.record("judge.preference", -1.0, decision_id=decision, source="human")
    assert ("FUTILE", "shadowing") == (held.rollout.judge().outcome, "shadowing")
    assert ("FAIL", "rolled_back") == (failing.rollout.judge().outcome, failing.rollout.status().status)


def test_a_shadow_may_have_a_gate_about_better_answers(runtime):
    gate = Gate("judge.preference", mde=0.2, audit=1.0)

    @rollout(
        candidate=lambda text: text + "!", strategy=Shadow(1.0, gates=[gate]), effects="read", key="chat", runtime=runtime,
        judge=Judge(longer, sample=1.0),
    )  # fmt: skip
    def chat(text):
        return text

    for number, decision in enumerate(called(chat, 200)):
        chat.rollout.record("judge.preference", float(number % 3 > 0), decision_id=decision, source="human")
    assert runtime.flush(10.0)
    verdict = chat.rollout.judge()
    assert (verdict.outcome, verdict.findings[1].kind) == ("PASS", "gate")


def test_a_closed_lane_ends_what_waits():
    found, _ = lane(Judge(lambda *_: time.sleep(0.05) or "tie", concurrency=1))
    done = []
    for i in range(5):
        found.submit(Pair(f"d{i}", None, "x", "y", 1, done.append))
    found.close()
    found.submit(Pair("late", None, "x", "y", 1, done.append))
    assert found.wait(5.0)
    assert Counter(each.end for each in done)["closed"] >= 5
    assert all(isinstance(each, Judged) for each in done)


def test_a_replay_of_the_journal_finds_what_the_service_found(tmp_path, watch):
    runtime = watch(journal=tmp_path)
    chat = deployed(runtime, Judge(longer, sample=0.8))
    for decision in called(chat, 300):
        chat.rollout.record("judge.preference", 0.5, decision_id=decision, source="human")
    runtime.flush(10.0)
    live = next(each for each in chat.rollout.judge().findings if each.name == "judge.preference")
    (phase,) = replay(tmp_path, chat.rollout.strategy.criteria).phases
    again = next(each for each in phase.last.findings if each.name == "judge.preference")
    names = ("estimate", "std_error", "people", "asked", "judged", "complete")
    assert [live.numbers[name] for name in names] == pytest.approx([again.numbers[name] for name in names])
    assert (live.outcome, live.numbers["people"]) == ("PASS", 300)


def test_a_lane_starts_empty_in_a_forked_child():
    found, _ = lane(Judge(lambda *_: Judgement("tie", cost=1.0), concurrency=1, budget=Money(10), price=1.0))
    assert len(paid(found, 3)) == 3
    # What waits belongs to the parent, whose threads are not in the child.
    found._waiting.append(Pair("parent", None, "x", "y", 1, lambda judged: pytest.fail("judged twice")))
    found._workers = 1
    found.renew()
    assert (found.wait(0.0), found.spending.spent) == (True, 0.0)
    assert [each.end for each in paid(found, 1)] == ["ok"]


def unusual(how):
    """A judge that costs 2 and gives no preference, in one of four ways."""
    return {
        "nonsense": lambda *_: Judgement("The first one is better.", cost=2.0),
        "raises": lambda *_: 1 / 0,
        "hangs": lambda *_: time.sleep(0.05) or Judgement("tie", cost=2.0),
    }[how]


@pytest.mark.parametrize(("price", "calls"), [(None, 5), (0.1, 5)])
def test_nonsense_is_paid_for(price, calls):
    called_, judge = [], unusual("nonsense")
    found, said = lane(Judge(lambda *each: called_.append(1) or judge(*each), budget=Money(10), price=price, retries=0))
    done = paid(found, 100)
    assert (calls, 10.0) == (len(called_), found.spending.spent)
    assert {("nonsense", 2.0)} == {(each.end, each.cost) for each in done}
    assert "has spent its budget of 10 USD" in said[0]


@pytest.mark.parametrize(("how", "end"), [("raises", "error"), ("hangs", "timeout")])
def test_a_judgement_that_fails_at_an_unknown_cost_pauses_the_judge_and_says_why(how, end):
    called_, judge = [], unusual(how)
    options = {"budget": Money(10), "timeout_s": 0.02}
    found, said = lane(Judge(lambda *each: called_.append(1) or judge(*each), **options))
    done = paid(found, 100)
    assert ([end], 1, 10.0) == ([each.end for each in done], len(called_), found.spending.spent)
    assert f"the cost of a judgement is unknown (it ended as {end!r})" in said[0]
    assert "Pass price= to Judge" in said[0]


@pytest.mark.parametrize(("how", "calls"), [("raises", 10), ("hangs", 10)])
def test_with_a_price_a_judgement_that_fails_costs_it(how, calls):
    called_, judge = [], unusual(how)
    options = {"budget": Money(10), "timeout_s": 0.02, "price": 1.0, "retries": 0}
    found, _ = lane(Judge(lambda *each: called_.append(1) or judge(*each), **options))
    paid(found, 50)
    # Calls that hang are left behind, and others end at once meanwhile, at the same price.
    assert (0 < len(called_) <= calls, 10.0) == (True, found.spending.spent)


def test_judgements_that_cost_more_than_their_price_run_one_at_a_time_near_the_end_of_the_budget():
    found, _ = lane(
        Judge(lambda *_: time.sleep(0.01) or Judgement("tie", cost=3.0), budget=Money(10), price=0.1, concurrency=20)
    )
    assert (3, 9.0) == (len(paid(found, 100)), found.spending.spent)


def test_a_price_is_believed_until_a_judgement_costs_more():
    spending = Spending(Money(10), price=1.0)
    assert (1.0, "wait") == (spending.reserve(0.0), spending.reserve(0.0))
    spending.settle(1.0, 1.0)
    assert [1.0] * 9 == [spending.reserve(0.0) for _ in range(9)]
    for cost in (0.0,) * 8 + (2.0,):
        spending.settle(1.0, cost)
    # 3 spent: two of 2 may become two of 3.5.
    assert (2.0, "wait") == (spending.reserve(0.0), spending.reserve(0.0))


@pytest.mark.parametrize(
    ("judge", "guardrails", "is_said"),
    [(Judge(lambda *_: "a"), (), True), (Judge(lambda *_: "a"), (BETTER,), False), (None, (), False)],
)
def test_a_judge_without_a_criterion_decides_nothing_and_says_so(runtime, judge, guardrails, is_said):
    with capture_logs() as logs:
        chat = deployed(runtime, judge, guardrails=guardrails)
        called(chat, 1)
        assert runtime.flush(10.0)
    said = [note for note in chat.rollout.status().notes if "judge= of 'chat' decides nothing" in note]
    assert bool(said) == is_said
    assert any("Add Guardrail('judge.preference'" in str(line) for line in logs) == is_said
