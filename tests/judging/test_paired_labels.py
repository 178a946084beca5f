"""Labels of shadows: both answers to one call, judged by their paired difference."""

import json
import math
import random

import pytest

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.judging import Evidence, PhaseEvidence, judge
from rollout_sdk.judging.paired_labels import CONTROL, PairedLabels
from rollout_sdk.plan import Criteria
from tests.judging.seen import PAIRS, situation

PHASE = "0:0%"
SHADOWING = Step(0, shadow=1.0, min_units=0, min_time=0)
CORRECT = Guardrail("correct", margin=0.05, per="outcome")


class Labelled:
    """Shadowed calls whose answers were both judged."""

    def __init__(self, *each, seed=1, knows_calls=True):
        guardrails = [one for one in each if isinstance(one, Guardrail)]
        self.plan = Criteria(steps=[SHADOWING], guardrails=guardrails, gates=[one for one in each if isinstance(one, Gate)])
        self.evidence, self.rng, self.number, self.knows_calls = Evidence(self.plan.all), random.Random(seed), 0, knows_calls

    def label(self, ours=None, theirs=None, *, metric="correct", time_s=100.0, at_s=None, order=1, evidence=None):
        evidence = self.evidence if evidence is None else evidence
        self.number += 1
        decision, bucket = f"d{self.number}", self.rng.randrange(512)
        if self.knows_calls:
            for arm in PAIRS:
                cell = self.rng.getrandbits(32)
                evidence.add_call(PHASE, arm, PAIRS, cell, bucket, failed=False, duration_s=0.1, time_s=time_s)
        both = [("control", ours, False), ("v2", theirs, True)]
        for arm, value, shadow in both[::order]:
            if value is not None:
                evidence.add_outcome(
                    metric, value, decision=decision, phase_name=PHASE, arm=arm, bucket=bucket, decided_s=time_s,
                    time_s=time_s if at_s is None else at_s, shadow=shadow,
                )  # fmt: skip
        return self

    def many(self, number, ours, theirs, **about):
        for _ in range(number):
            self.label(ours(self.rng), theirs(self.rng), **about)
        return self

    def verdict(self, now_s=1000.0):
        return judge(self.evidence, self.plan, situation(phase=PHASE, step=SHADOWING, shadowing=True), now_s)

    def finding(self, name="correct", now_s=1000.0):
        return next((each for each in self.verdict(now_s).findings if each.name == name), None)


def coin(rate):
    return lambda rng: float(rng.random() < rate)


@pytest.mark.parametrize("order", [1, -1])
def test_a_pair_is_complete_whichever_label_comes_first(order):
    numbers = Labelled(CORRECT).label(1.0, 0.0, order=order).label(1.0, 1.0, order=order).finding().numbers
    assert (numbers["pairs"], numbers["differing"], numbers["estimate"]) == (2, 1, -0.5)


def test_a_label_alone_is_no_pair_and_that_of_a_candidate_is_missed():
    assert Labelled(CORRECT).label(1.0).finding() is None
    finding = Labelled(CORRECT).label(1.0).label(None, 1.0).finding()
    assert (finding.outcome, finding.numbers["pairs"], finding.numbers["halves"]) == ("INSUFFICIENT_DATA", 0, 1)
    assert "1 values of answers of v2 are not counted" in finding.reason
    assert "recorded in another process: record both in one" in finding.reason


@pytest.mark.parametrize("order", [1, -1])
def test_labels_of_one_pair_that_two_processes_record_are_missed(order):
    """Each waits for the other half, which the other process has; the journal has both, and so the report judges them."""
    here = Labelled(CORRECT).many(150, coin(1), coin(0))
    alone = Labelled(CORRECT)
    elsewhere = Evidence(here.plan.all)
    for _ in range(150):
        alone.label(1.0)
        alone.number -= 1
        alone.knows_calls = False
        alone.label(None, 0.0, evidence=elsewhere)
        alone.knows_calls = True
    alone.evidence.phase(PHASE).merge(PhaseEvidence.from_dict(json.loads(json.dumps(elsewhere.phases[PHASE].as_dict()))))
    assert (here.finding().outcome, "not counted" in here.verdict().reason) == ("FAIL", False)
    assert (alone.verdict().outcome, "150 values of answers of v2" in alone.verdict().reason) == ("INSUFFICIENT_DATA", True)
    # Some pairs are complete, and decide; what is missing is still said.
    alone.many(150, coin(1), coin(0), order=order)
    assert (alone.finding().outcome, alone.finding().numbers["pairs"]) == ("FAIL", 150)
    assert "150 values of answers of v2 are not counted" in alone.verdict().reason


def test_a_half_that_is_completed_or_recorded_twice_is_not_missed():
    shadows = Labelled(CORRECT).label(1.0, 1.0, order=-1)
    assert shadows.finding().numbers["halves"] == 0
    for _ in range(2):
        shadows.number = 1
        shadows.label(None, 0.5)
    assert shadows.finding().numbers["halves"] == 1


def test_without_labels_a_shadow_step_does_not_wait_for_what_users_do():
    assert Labelled(Guardrail("click", margin=0.05)).label(1.0).finding("click") is None


@pytest.mark.parametrize(("theirs", "outcome"), [(0.9, "PASS"), (0.6, "FAIL")])
def test_a_candidate_is_judged_by_the_labels_of_its_shadows(theirs, outcome):
    shadows = Labelled(CORRECT).many(3000, coin(0.9), coin(theirs))
    assert shadows.verdict().outcome == outcome


def test_pairs_say_far_more_than_two_groups():
    """Both are right in the same 80 % of the cases, and the candidate in 3 % more."""
    shadows = Labelled(Gate("correct", mde=0.03, per="outcome"))
    for _ in range(2000):
        ours = shadows.rng.random() < 0.8
        shadows.label(float(ours), float(ours or shadows.rng.random() < 0.15))
    finding = shadows.finding()
    assert finding.outcome == "PASS"
    unpaired = math.sqrt(2 * 0.8 * 0.2 / 2000)
    assert finding.numbers["std_error"] < unpaired / 2


def test_equal_answers_become_certain_with_their_number():
    shadows = Labelled(CORRECT).many(90, coin(1), coin(1))
    assert shadows.finding().outcome == "INSUFFICIENT_DATA"
    assert shadows.many(200, coin(1), coin(1)).finding().outcome == "PASS"


def test_a_candidate_that_is_always_wrong_fails():
    assert Labelled(CORRECT).many(150, coin(1), coin(0)).finding().outcome == "FAIL"


def test_a_repeated_label_counts_once():
    shadows = Labelled(CORRECT)
    for _ in range(3):
        shadows.number = 0
        shadows.label(1.0, 0.0)
    assert shadows.finding().numbers["pairs"] == 1


def test_labels_come_late_but_within_their_window():
    metric = Guardrail("correct", margin=0.05, per="outcome", window="1h")
    shadows = Labelled(metric).label(1.0, 1.0, at_s=3000.0).label(1.0, 1.0, at_s=4000.0)
    assert shadows.finding(now_s=10_000.0).numbers["pairs"] == 1
    assert shadows.evidence.outcomes["late"] == 2


def test_only_decisions_that_are_old_enough_count_for_a_pass():
    metric = Guardrail("correct", margin=0.05, per="outcome", window="1h")
    shadows = Labelled(metric).many(500, coin(1), coin(1), time_s=100.0).many(500, coin(1), coin(1), time_s=5000.0)
    numbers = shadows.finding(now_s=6000.0).numbers
    assert (numbers["pairs"], numbers["matured"]) == (500, 0.5)
    shadows.evidence.fold(20_000.0)
    assert shadows.finding(now_s=20_000.0).numbers["pairs"] == 1000


def test_a_process_that_only_records_labels_pairs_them_too():
    shadows = Labelled(CORRECT).many(50, coin(1), coin(1))
    remote = Evidence(shadows.plan.all)
    shadows.knows_calls = False
    shadows.many(50, coin(1), coin(1), evidence=remote)
    shadows.evidence.merge(remote)
    assert shadows.finding().numbers["pairs"] == 100


def test_a_shadows_label_outside_of_a_shadow_phase_is_no_evidence():
    evidence = Evidence([CORRECT])
    half = {"control": 0.5, "v2": 0.5}
    evidence.add_call("1:50%", "control", half, 7, 3, failed=False, duration_s=0.1, time_s=1.0)
    evidence.add_outcome(
        "correct", 1.0, decision="d", phase_name="1:50%", arm="v2", bucket=3, decided_s=1.0, time_s=1.0, shadow=True
    )
    assert evidence.outcomes["unknown"] == 1


def test_two_candidates_are_paired_with_one_control():
    labels = PairedLabels()
    assert labels.pairs("m", "d", "v2", 0.0) == []
    assert labels.pairs("m", "d", CONTROL, 1.0) == [("v2", 1.0, 0.0)]
    assert labels.pairs("m", "d", "v3", 0.5) == [("v3", 1.0, 0.5)]
    assert labels.pairs("m", "d", "v3", 0.7) == []


def test_evidence_of_labels_is_wrong_in_at_most_alpha_of_the_runs():
    """Exactly at the margin: the candidate is right in 5 % fewer cases."""
    runs, wrong = 60, 0
    for seed in range(runs):
        shadows = Labelled(CORRECT, seed=seed)
        for _ in range(5):
            shadows.many(200, coin(0.9), coin(0.85))
            if shadows.finding().outcome in ("PASS", "FAIL"):
                wrong += 1
                break
    assert wrong / runs <= 2 * 0.05 + 3 * math.sqrt(0.1 * 0.9 / runs)
