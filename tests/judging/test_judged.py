"""`judge.preference`: a judge whose bias people's labels correct."""

import json
import math
import random
from pathlib import Path

import pytest

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.judging import Evidence, PhaseEvidence, judge
from rollout_sdk.judging.preferences import is_drawn_for_people
from rollout_sdk.plan import Criteria, from_written, written
from tests.judging.seen import PAIRS, situation

PHASE = "0:0%"
SHADOWING = Step(0, shadow=1.0, min_units=0, min_time=0)
NOT_WORSE = Guardrail("judge.preference", margin=0.05, audit=0.2)


class Pairs:
    """Pairs of answers, judged and labelled: people prefer the candidate by `truth` on average, the judge by `bias` more."""

    def __init__(self, *each, seed=1):
        guardrails = [one for one in each if isinstance(one, Guardrail)]
        self.plan = Criteria(steps=[SHADOWING], guardrails=guardrails, gates=[one for one in each if isinstance(one, Gate)])
        self.evidence, self.rng, self.number = Evidence(self.plan.all), random.Random(seed), 0
        self.evidence.phase(PHASE).shares = dict(PAIRS)
        for arm in PAIRS:
            self.evidence.add_call(PHASE, arm, PAIRS, 7, 3, failed=False, duration_s=0.1, time_s=100.0)

    def say(self, value, *, source, metric="judge.preference", decision=None, bucket=3, evidence=None, shadow=True, **details):
        (self.evidence if evidence is None else evidence).add_outcome(
            metric, value, decision=decision or f"d{self.number}", phase_name=PHASE, arm="v2" if shadow else "control",
            bucket=bucket, decided_s=100.0, time_s=100.0, shadow=shadow, source=source, details=details,
        )  # fmt: skip
        return self

    def many(self, pairs, truth, bias=0.0, *, correlation=0.5, judged=True, labelled=True, people=None):
        for _ in range(pairs):
            self.number += 1
            bucket, y = self.rng.randrange(512), self.rng.gauss(truth, 0.6)
            f = correlation * y + math.sqrt(1 - correlation**2) * self.rng.gauss(0.0, 0.6) + (1 - correlation) * truth + bias
            if judged:
                self.say(max(-1, min(1, f)), source="judge", bucket=bucket, first=self.rng.choice(["control", "v2"]))
            if labelled:
                self.say(max(-1, min(1, y)), source="human", bucket=bucket, evidence=people)
        return self

    def finding(self):
        return next(each for each in self.verdict().findings if each.name == "judge.preference")

    def verdict(self):
        return judge(self.evidence, self.plan, situation(phase=PHASE, step=SHADOWING, shadowing=True), 1000.0)


@pytest.mark.parametrize(
    ("truth", "bias", "outcome"), [(-0.25, 0.5, "FAIL"), (0.1, -0.5, "PASS"), (0.1, 0.0, "PASS"), (-0.25, 0.0, "FAIL")]
)
def test_a_flattering_or_spiteful_judge_is_corrected(truth, bias, outcome):
    assert Pairs(NOT_WORSE).many(5000, truth, bias).verdict().outcome == outcome


def test_a_judge_without_labels_is_advisory_and_neither_passes_nor_fails():
    for truth in (-0.9, 0.9):
        verdict = Pairs(NOT_WORSE).many(3000, truth, labelled=False).verdict()
        assert (verdict.outcome, "judge not audited: advisory" in verdict.reason) == ("INSUFFICIENT_DATA", True)


def test_people_alone_are_enough():
    finding = Pairs(NOT_WORSE).many(5000, 0.2, judged=False).finding()
    assert (finding.outcome, "without a judge" in finding.reason) == ("PASS", True)


def test_a_judge_makes_the_labels_go_further():
    with_judge, alone = (
        Pairs(NOT_WORSE).many(3000, 0.0, correlation=0.9, judged=judged).finding().numbers for judged in (True, False)
    )
    assert with_judge["people"] == alone["people"]
    assert with_judge["std_error"] < 0.75 * alone["std_error"]


def test_nothing_is_concluded_before_a_hundred_labels():
    pairs = Pairs(NOT_WORSE).many(400, 0.9)
    finding = pairs.finding()
    assert 60 < finding.numbers["people"] < 100
    assert (finding.outcome, "of at least 100 pairs" in finding.reason) == ("INSUFFICIENT_DATA", True)


def test_a_hundred_labels_of_a_few_units_are_not_enough():
    pairs = Pairs(Guardrail("judge.preference", margin=0.05, audit=1.0))
    for number in range(300):
        pairs.say(0.9, source="human", decision=f"d{number}", bucket=number % 30)
    finding = pairs.finding()
    assert (300, False) == (finding.numbers["people"], finding.numbers["enough"])
    assert "INSUFFICIENT_DATA" == finding.outcome
    assert f"labels of people count for {finding.numbers['effective_units']:.0f} of at least 100 units" in finding.reason


def test_labels_of_pairs_that_were_not_drawn_do_not_count():
    """Somebody labels only what looks bad."""
    pairs = Pairs(NOT_WORSE)
    for number in range(2000):
        if not is_drawn_for_people(f"x{number}", 0.2):
            pairs.say(-1.0, source="human", decision=f"x{number}")
    assert (pairs.finding().numbers["people"], pairs.evidence.outcomes["counted"]) == (0, 0)


def test_a_pair_is_judged_and_labelled_once():
    pairs = Pairs(Guardrail("judge.preference", margin=0.05, audit=1.0))
    for source in ("judge", "human"):
        pairs.say(1.0, source=source).say(-1.0, source=source)
    numbers = pairs.finding().numbers
    assert (numbers["judged"], numbers["people"], pairs.evidence.outcomes["duplicate"]) == (1, 1, 2)


def test_a_label_about_the_controls_answer_is_none():
    assert Pairs(NOT_WORSE).say(1.0, source="human", shadow=False).evidence.outcomes["unknown"] == 1


def test_labels_may_come_from_another_process():
    """It has neither the judge nor the calls, only the plan, and the evidence is merged by the sums."""
    here, there = (Pairs(NOT_WORSE) for _ in range(2))
    people = Evidence(there.plan.all)
    here.many(4000, -0.3, 0.5, people=people)
    sent = {name: PhaseEvidence.from_dict(json.loads(json.dumps(each.as_dict()))) for name, each in people.phases.items()}
    together = there.many(4000, -0.3, 0.5).finding()
    here.evidence.phase(PHASE).merge(sent[PHASE])
    assert (here.finding().estimate, here.finding().outcome) == (pytest.approx(together.estimate), "FAIL")


@pytest.mark.parametrize(("always", "which"), [(1.0, "first"), (-1.0, "second")])
def test_a_judge_that_always_prefers_the_same_place_is_found(always, which):
    pairs = Pairs(NOT_WORSE)
    for _ in range(400):
        pairs.number += 1
        first = pairs.rng.choice(["control", "v2"])
        value = always if first == "v2" else -always
        pairs.say(value, source="judge", bucket=pairs.rng.randrange(512), first=first)
    assert f"prefers the answer that it sees {which}" in pairs.finding().reason


def test_a_judge_without_such_a_preference_is_not_accused():
    accused = sum(
        "that it sees" in Pairs(NOT_WORSE, seed=seed).many(500, 0.3, labelled=False).finding().reason for seed in range(20)
    )
    assert accused == 0


def accused(seed):
    """Whether a judge that always prefers the control is said to prefer a place, at some look while 800 pairs come."""
    pairs, found = Pairs(NOT_WORSE, seed=seed), False
    for number in range(800):
        pairs.number += 1
        pairs.say(-1.0, source="judge", bucket=pairs.rng.randrange(512), first=pairs.rng.choice(["control", "v2"]))
        if number % 80 == 79:
            found = found or "that it sees" in pairs.finding().reason
    return found


def test_a_judge_that_always_prefers_one_model_is_hardly_ever_accused_of_preferring_a_place():
    assert sum(map(accused, range(15))) == 0


@pytest.mark.slow
def test_of_a_thousand_such_judges_hardly_one_is_accused():
    # The bound is 1 in 1,000; of these, four or more would be by chance in 2 % of runs.
    assert sum(map(accused, range(1_000))) <= 3


def test_a_judge_that_misses_pairs_passes_nothing():
    pairs = Pairs(NOT_WORSE).many(4000, 0.3)
    for number in range(400):
        pairs.say(1.0, source="judge", metric="judge.failed", decision=f"x{number}", end="timeout")
    finding = pairs.finding()
    assert (finding.outcome, "only 91% of the pairs were judged" in finding.reason) == ("INSUFFICIENT_DATA", True)
    assert "(timeout 400)" in finding.reason


def test_people_who_agree_with_the_judge_so_far_do_not_make_it_certain():
    pairs = Pairs(Guardrail("judge.preference", margin=0.05, audit=1.0))
    for _ in range(120):
        pairs.number += 1
        for source in ("judge", "human"):
            pairs.say(0.0, source=source, bucket=pairs.rng.randrange(512))
    numbers = pairs.finding().numbers
    assert numbers["std_error"] >= math.sqrt(3) / 120


def test_a_gate_asks_for_better_answers():
    gate = Gate("judge.preference", mde=0.2, audit=0.2)
    assert [Pairs(gate).many(5000, truth).finding().outcome for truth in (0.3, -0.2)] == ["PASS", "FUTILE"]


def test_the_audit_share_is_part_of_the_plan():
    plan = Criteria(steps=["1%"], guardrails=[NOT_WORSE], gates=[])
    assert from_written(json.loads(json.dumps(written(plan)))).guardrails == (NOT_WORSE,)


def test_a_planned_horizon_is_for_the_other_gates():
    plan = Criteria(steps=["1%"], gates=[Gate("judge.preference"), Gate("click")], horizon="14d")
    assert [gate.horizon for gate in plan.gates] == [None, 14 * 86_400.0]


@pytest.mark.parametrize("options", [{"window": "1h"}, {"clip": (0, 1)}, {"better": "lower"}, {"audit": 1.5}, {"audit": -0.1}])
def test_options_that_mean_nothing_for_a_judge_are_refused(options):
    with pytest.raises(ConfigurationError, match=r"judge\.preference"):
        Guardrail("judge.preference", margin=0.05, **options)
    with pytest.raises(ConfigurationError, match=r"judge\.preference"):
        Gate("judge.preference", **options)


def test_an_audit_share_belongs_to_a_judge():
    with pytest.raises(ConfigurationError, match="audit share"):
        Gate("click", audit=0.1)


def test_at_the_margin_a_flattering_judge_passes_in_at_most_alpha_of_the_runs():
    """The table of docs/judging.md in short: 40 runs of 20 looks; the judge alone passes every time."""
    runs, passed, alone = 40, 0, 0
    for seed in range(runs):
        pairs, has_passed = Pairs(NOT_WORSE, seed=seed), False
        for _ in range(20):
            finding = pairs.many(100, -0.05, 0.3).finding()
            has_passed = has_passed or finding.outcome == "PASS"
        passed += has_passed
        alone += finding.numbers["alone"]["estimate"] - 4 * finding.numbers["alone"]["std_error"] > -0.05
    assert passed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert alone == runs


@pytest.mark.parametrize("judge_", ["flattering", "spiteful", "noisy", "random"])
def test_the_benchmark_in_short(judge_, monkeypatch):
    """`benchmarks/judged_canary.py` with 15 experiments: no judge passes what is worse, and every one that is, fails."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from judged_canary import Cell, run

    at_margin, worse = (run(Cell(judge_, 0.5, 0.2, mode), 15, pairs=5_000, looks=10) for mode in ("margin", "worse"))
    assert sum(each.outcome == "PASS" for each in at_margin) <= 15 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / 15))
    assert not any(each.outcome == "PASS" for each in worse)
    assert sum(each.outcome == "FAIL" for each in worse) >= 10
    assert all(each.alone for each in at_margin) == (judge_ == "flattering")


@pytest.mark.parametrize(("judge_", "fails"), [("spiteful", True), ("flattering", False)])
def test_in_the_benchmark_a_spiteful_judge_alone_fails_an_equal_candidate_and_with_people_does_not(judge_, fails, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from judged_canary import Cell, run

    runs = run(Cell(judge_, 0.5, 0.2, "equal"), 15, pairs=5_000, looks=10)
    assert [fails] * 15 == [each.alone_fails for each in runs]
    assert not any(each.outcome == "FAIL" for each in runs)


@pytest.mark.parametrize(("judge_", "mode"), [("spiteful", "equal"), ("flattering", "worse")])
def test_the_benchmark_comes_to_what_calls_and_labels_come_to(judge_, mode, monkeypatch):
    """`benchmarks/judged_calls.py`: the drawn sums are those of calls with `judge=` and of labels of `record()`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from judged_calls import are_equal, both

    found = both(judge_, mode, 1_500)
    assert are_equal(*found)
    # Which pairs people get is drawn by the decisions' ids, which are others in every run.
    assert (found[0].numbers["judged"], found[0].numbers["people"] > 200) == (1_500, True)


def test_the_benchmark_asks_the_judge_at_every_look_that_may_decide(monkeypatch):
    """It leaves looks out by a computation of its own: with all of them, every experiment ends in the same way."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import judged_canary

    cell = judged_canary.Cell("noisy", 0.5, 0.2, "equal")
    expected = judged_canary.run(cell, 8, pairs=5_000, looks=12)
    monkeypatch.setattr(judged_canary.Experiments, "may_decide", lambda these: these.labels() >= 100)
    assert expected == judged_canary.run(cell, 8, pairs=5_000, looks=12)
    assert any(each.outcome == "PASS" for each in expected)
