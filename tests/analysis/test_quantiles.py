"""Quantiles of latency in a report: those of the runs, with an interval as wide as their units make it."""

import math
import random
import re

import numpy
import pytest

from rollout_sdk import ABTest, Runtime, rollout
from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.analysis.arms import Arm
from rollout_sdk.analysis.quantiles import quantiles_of
from tests.analysis.test_database import differing, read, reduced


def arm(name, values, units):
    made = Arm()
    for value, unit in zip(values, units, strict=True):
        made.latency_s[name].add(value, unit, 1)
        made.units[str(unit)] += 1
    return made


def arms(slower, calls=6_000, units=3_000, seed=1):
    rng = random.Random(seed)
    own = [rng.lognormvariate(-3, 0.5) for _ in range(units)]
    made = {}
    for name, factor in (("control", 1.0), ("v2", slower)):
        who = [rng.randrange(units) for _ in range(calls)]
        made[name] = arm(name, [own[unit] * factor * rng.lognormvariate(0, 0.2) for unit in who], who)
    return made


def test_they_are_the_quantiles_of_the_runs():
    both = arms(1.5)
    found = quantiles_of(both, "control")
    assert [0.5, 0.95, 0.99] == [each.q for each in found]
    for each in found:
        assert numpy.quantile(both["control"].latency_s["control"].ordered(), each.q) == pytest.approx(each.control)
        assert numpy.quantile(both["v2"].latency_s["v2"].ordered(), each.q) == pytest.approx(each.value)
        assert each.low < each.difference == each.value - each.control < each.high
    assert found[0].low > 0


def test_calls_of_the_same_users_say_less():
    widths = []
    for units in (3_000, 150):
        (median, *_) = quantiles_of(arms(1.0, units=units), "control")
        widths.append(median.high - median.low)
    assert widths[1] > 2 * widths[0]


def test_without_enough_units_calls_or_trust_there_is_no_interval():
    few = quantiles_of(arms(2.0, units=50), "control")
    broken = quantiles_of(arms(2.0), "control", is_void=True)
    short = quantiles_of(arms(2.0, calls=300), "control")[2:]
    assert {(None, None)} == {(each.low, each.high) for each in (*few, *broken)}
    assert [None] == [each.high for each in short]
    assert () == quantiles_of({"v2": arms(1.0)["v2"]}, "control")


def test_a_report_has_them_in_text_and_json(tmp_path):
    runtime = Runtime(journal=tmp_path)
    model = rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="m", runtime=runtime)(lambda user: 0)
    for user in range(400):
        model(user)
    runtime.close(10)
    report = summarise(tmp_path)
    (phase,) = report.rollouts[0].phases
    own = {each.variant: each.latency[each.variant] for each in phase.variants}
    for each, name in zip(phase.quantiles, ("p50_s", "p95_s", "p99_s"), strict=True):
        assert (getattr(own["control"], name), getattr(own["candidate"], name)) == (each.control, each.value)
    assert "latency  candidate  control ms  candidate ms  difference [at every look]" in as_text(report)
    assert 3 == len(report.as_dict()["rollouts"][0]["phases"][0]["quantiles"])


def test_recorded_values_have_quantiles_and_clicks_have_none(tmp_path):
    runtime, draws = Runtime(journal=tmp_path), random.Random(1)
    model = rollout(candidate=lambda user: 1, strategy=ABTest(0.5), unit="user", key="m", runtime=runtime)(lambda user: 0)
    amounts = {"control": [], "candidate": []}
    for number in range(4_000):
        routed = model.rollout.route(number % 2_000)
        variant = routed.decision.variant
        amounts[variant].append(draws.lognormvariate(2.0 + 0.3 * (variant == "candidate"), 0.5))
        model.rollout.record("amount", amounts[variant][-1], decision_id=routed.decision.id)
        model.rollout.record("click", draws.random() < 0.3, decision_id=routed.decision.id)
        if number % 1_000 == 0:
            runtime.flush(10)
    runtime.close(10)
    report = summarise(tmp_path)
    found = [each for each in report.rollouts[0].phases[0].quantiles if each.metric != "latency"]
    assert [("amount", 0.5), ("amount", 0.95), ("amount", 0.99)] == [(each.metric, each.q) for each in found]
    for each in found:
        assert numpy.quantile(amounts["control"], each.q) == pytest.approx(each.control)
        assert numpy.quantile(amounts["candidate"], each.q) == pytest.approx(each.value)
    truth = math.exp(2.3) - math.exp(2.0)
    assert 0 < found[0].low < truth < found[0].high
    assert re.search(r"^    amount p95 +candidate +\d", as_text(report), re.MULTILINE)
    # The database comes to the same.
    assert [] == differing(read(tmp_path), reduced(tmp_path))
