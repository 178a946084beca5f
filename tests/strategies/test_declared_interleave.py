"""An interleaved test with a gate: judged by the clicks on its lists, live and from its journal alike."""

import random

import pytest

from rollout_sdk import Gate, Interleave, Runtime, rollout
from rollout_sdk.analysis import analyze_interleaving, summarise
from rollout_sdk.analysis.replay import replay
from rollout_sdk.interleaving import Balanced, TeamDraft


def run(folder, *, liked, design=None, users=600, **options):
    """Lists of two rankers, whose items are clicked with these probabilities; the controller and its runtime."""
    rng = random.Random(3)
    strategy = Interleave(design or TeamDraft(), gates=[Gate("click", mde=0.05)], **options)
    runtime = Runtime(journal=folder)
    runtime.reconciler.start = lambda: None  # the test looks by hand

    @rollout(candidate=lambda user: [f"b{user % 7}", "b2", "both"], strategy=strategy, unit="user", key="m", runtime=runtime)
    def rank(user):
        return ["a1", "a2", "both"]

    for user in range(users):
        routed = rank.rollout.route(user)
        for item in routed.value:
            if rng.random() < liked[item[0] == "b"]:
                rank.rollout.record("click", 1.0, decision_id=routed.decision.id, item=item)
    return rank.rollout, runtime


@pytest.mark.parametrize("design", [TeamDraft(), Balanced()], ids=lambda design: type(design).__name__)
def test_the_verdict_is_that_of_the_report_the_replay_and_the_analyzer(tmp_path, design):
    controller, runtime = run(tmp_path, liked=(0.1, 0.3), design=design)
    verdict = controller.judge()
    runtime.close(5)
    (finding,) = [each for each in verdict.findings if each.kind == "gate"]
    (reported,) = [each for each in summarise(tmp_path).rollouts[0].verdict.differences if each.kind == "gate"]
    (replayed,) = [
        each for each in replay(tmp_path, controller.strategy.criteria).phases[-1].last.findings if each.kind == "gate"
    ]
    (preference,) = analyze_interleaving(tmp_path).by_candidate.values()
    assert ("PASS", "candidate") == (verdict.outcome, *verdict.passed)
    assert ("running", 0) == (controller.status().status, controller.status().revision)
    for name in ("estimate", "low", "high", "safe_log_e"):
        assert getattr(finding, name) == pytest.approx(getattr(reported, name), abs=1e-9)
        assert getattr(finding, name) == pytest.approx(getattr(replayed, name), abs=1e-9)
    # The analyzer hashes users to buckets in another way.
    assert finding.estimate == pytest.approx(preference.preference, abs=1e-12)
    assert finding.numbers["std_error"] == pytest.approx(preference.std_error, rel=0.15)
    assert preference.impressions == finding.numbers["value_count"]


def test_rankers_that_are_liked_alike_are_found_futile(tmp_path):
    controller, runtime = run(tmp_path, liked=(0.2, 0.2))
    verdict = controller.judge()
    runtime.close(5)
    assert ("FUTILE", ()) == (verdict.outcome, verdict.passed)
    assert "DO NOT SHIP" == summarise(tmp_path).rollouts[0].verdict.headline


def test_a_click_is_credited_once_and_one_on_nothing_is_counted_apart(tmp_path):
    controller, runtime = run(tmp_path, liked=(0.0, 0.0), users=3)
    routed = controller.route(50)
    for _ in range(2):
        controller.record("click", 1.0, decision_id=routed.decision.id, item=routed.value[0], event_id="click-1")
    controller.record("click", 1.0, decision_id=routed.decision.id)
    verdict = controller.judge()
    runtime.close(5)
    assert {"counted": 1, "duplicate": 1, "unknown": 1} == dict(verdict.outcomes)


def test_without_a_gate_the_report_shows_the_preference_and_concludes_nothing(tmp_path):
    runtime = Runtime(journal=tmp_path)
    rank = rollout(
        candidate=lambda user: ["b1", "b2"], strategy=Interleave(), unit="user", key="m", runtime=runtime
    )(lambda user: ["a1", "a2"])  # fmt: skip
    for user in range(300):
        routed = rank.rollout.route(user)
        liked = next(item for item in routed.value if item.startswith("b"))
        rank.rollout.record("click", 1.0, decision_id=routed.decision.id, item=liked)
    assert None is rank.rollout.judge()
    runtime.close(5)
    verdict = summarise(tmp_path).rollouts[0].verdict
    (click,) = [each for each in verdict.differences if each.metric == "click"]
    assert ("WAIT", False, "exploratory", 0.5) == (verdict.headline, verdict.is_declared, click.kind, click.estimate)
    assert click.is_discovery
