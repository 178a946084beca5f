"""The report of a rollout with a judge: what waits for people's labels, and what is not an outcome of users."""

import threading

import pytest

from rollout_sdk import Canary, Gate, Guardrail, Judge, Runtime, Shadow, ShadowLimits, Step, rollout
from rollout_sdk.analysis import as_screen, as_text, headlines, summarise

GATE = Gate("judge.preference", mde=0.2, audit=1.0)
WORSE = Guardrail("judge.preference", margin=0.05, audit=1.0)


def one_line(text):
    return " ".join(text.split())


@pytest.fixture
def judged(tmp_path):
    """Calls whose answers are judged; some are labelled by people."""
    runtimes = []

    def call(strategy, *, labels=0, value=1.0, judge=Judge(lambda request, a, b: "a" if a > b else "b", sample=1.0), pairs=400):
        runtime = Runtime(
            journal=tmp_path, shadows=ShadowLimits(max_jobs=10_000, cpu_share=1.0, max_age_s=60.0, timeout_s=60.0)
        )
        runtimes.append(runtime)
        chat = rollout(
            candidate=lambda text: text + "!", strategy=strategy, effects="read", key="k", runtime=runtime, judge=judge
        )(lambda text: text)
        decisions = [chat.rollout.route(f"text {number}").decision.id for number in range(pairs)]
        assert runtime.flush(60.0)
        for decision in decisions[:labels]:
            chat.rollout.record("judge.preference", value, decision_id=decision, source="human")
        assert runtime.flush(60.0)
        chat.rollout.judge()
        runtime.close(60.0)
        return summarise(tmp_path)

    yield call
    for each in runtimes:
        each.close(0.0)


@pytest.mark.parametrize("criterion", [GATE, WORSE], ids=["gate", "guardrail"])
def test_a_judge_without_labels_is_advisory_in_the_headline_and_asks_for_people(judged, criterion):
    kind = "gates" if criterion is GATE else "guardrails"
    report = judged(Shadow(1.0, **{kind: [criterion]}))
    (found,) = report.rollouts
    verdict = found.verdict
    assert ("WAIT", "Label pairs: rollout audit k.") == (verdict.headline, verdict.action)
    assert verdict.reason.startswith("judge.preference: judge not audited: advisory, and nothing passes on it")
    assert "the judge alone says +1 on 400 pairs" in verdict.reason
    screen = one_line(as_screen(report))
    assert ("judge not audited: advisory" in screen, "no values yet" in screen) == (True, False)
    assert "Label pairs: rollout audit k." in one_line(headlines(report))


def test_a_few_labels_are_too_few_and_more_are_asked_for(judged):
    (found,) = judged(Shadow(1.0, gates=[GATE]), labels=40).rollouts
    assert ("WAIT", "Label pairs: rollout audit k.") == (found.verdict.headline, found.verdict.action)
    assert "not audited" not in found.verdict.reason


def test_with_labels_it_decides(judged):
    (found,) = judged(Shadow(1.0, gates=[GATE]), labels=300).rollouts
    assert ("SHIP", "Label pairs" in found.verdict.action) == ("SHIP", False)


def test_without_a_judged_pair_there_are_no_values(judged):
    (found,) = judged(Shadow(1.0, gates=[GATE]), judge=None, pairs=50).rollouts
    assert ("Leave it running.", "no values yet" in found.verdict.reason) == (found.verdict.action, True)


def test_judgements_are_not_unused_outcomes(judged):
    """They decided on a rollback."""
    plan = Canary([Step("0%", shadow="100%", min_units=0, min_time=0), "50%"], guardrails=[WORSE])
    report = judged(plan, labels=400, value=-1.0)
    assert ("DO NOT SHIP", "rolled_back") == (report.rollouts[-1].verdict.headline, report.rollouts[-1].status)
    assert "shadow's answer alone" not in as_text(report)


@pytest.mark.parametrize(
    ("argument", "limits", "said"),
    [
        (
            threading.Lock(),
            {},
            (
                "most of the others ended as 'dropped_snapshot', so that agreement and latency speak of the others only: "
                "make the arguments copyable, or pass isolate=."
            ),
        ),
        (
            "text",
            {"max_age_s": 1e-9},
            (
                "most of the others ended as 'dropped_stale', so that agreement and latency speak of quiet moments: "
                "raise ShadowLimits.workers, cpu_share or max_age_s, or shadow a smaller share."
            ),
        ),
    ],
    ids=["uncopied", "stale"],
)
def test_shadows_that_did_not_come_back_have_the_cure_of_their_end(tmp_path, argument, limits, said):
    runtime = Runtime(journal=tmp_path, shadows=ShadowLimits(**limits))
    guardrails = [Guardrail("error_rate", floor=0.2)]
    plan = Canary([Step("0%", shadow="100%", min_units=0, min_time=0), "50%"], guardrails=guardrails)
    model = rollout(candidate=str, strategy=plan, effects="read", key="k", runtime=runtime)(lambda value: str(value))
    for number in range(40):
        model("text" if number % 2 else argument)
        runtime.flush(10.0)
    runtime.close(30.0)
    report = summarise(tmp_path)
    assert said in one_line(as_text(report))
    checks = [each.cure for each in report.rollouts[0].verdict.checks if each.name == "completeness"]
    # Where nothing at all came back, the phase is not known to be one of shadows.
    assert checks == ([] if limits else ["Make the arguments copyable, or pass isolate=."])
