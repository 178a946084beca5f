"""Planned ends, their looks, and the labels that they wait for."""

import pytest
from scipy import stats

from rollout_sdk import Gate, Guardrail
from rollout_sdk.judging import Evidence
from rollout_sdk.stats import spending_boundaries
from tests.judging.seen import HALF, NOW_S, Seen, toss

# Planned ends


def looked(gate, *, step=50, number=20, each=None, **options):
    """The findings of `number` looks, each after `step` more units."""
    seen, previous, found = Seen(gate, **options), None, []
    for look in range(number):
        for unit in range(step // 2):
            for arm in HALF:
                seen.call(arm, values={gate.metric: (each or toss)(arm, unit)})
        previous = seen.verdict(NOW_S + look, previous)
        found.append(next(finding for finding in previous.findings if finding.name == gate.label))
    return found


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_planned_end_is_looked_at_five_times_at_the_boundaries_of_obrien_and_fleming(better):
    """One-sided 5 %: Lan and DeMets' spending function at fifths of the horizon, as quantiles of Student's t."""
    gate = Gate("click", mde=0.2, min_effect=0.01, horizon=1000, better=better)
    findings = looked(gate, each=lambda arm, unit: float(unit % (2 if arm == "v2" else 3) == 0))
    looks = findings[-1].numbers["looks"]
    assert [0.2, 0.4, 0.6, 0.8, 1.0] == pytest.approx([part for part, *_ in looks])
    sign = 1 if better == "higher" else -1
    for (part, z, boundary, _), normal in zip(looks, (4.2292, 2.8884, 2.2982, 1.9621, 1.7397), strict=True):
        numbers = findings[round(part * 20) - 1].numbers
        assert (sign * numbers["estimate"] - 0.01) / numbers["std_error"] == pytest.approx(z)
        assert stats.t.isf(stats.norm.sf(normal), numbers["df"]) == pytest.approx(boundary, rel=1e-3)


def test_looks_at_a_ramp_are_related_by_their_information_and_spend_by_their_users():
    seen, previous, gate = Seen(Gate("click", mde=0.2, horizon=10_000)), None, None
    for name, share in (("0:10%", 0.1), ("1:50%", 0.5)):
        seen.phase, seen.shares = name, {"control": 1 - share, "v2": share}
        for arm, part in seen.shares.items():
            for number in range(round(5_000 * part)):
                seen.call(arm, values={"click": toss(arm, number)})
        previous = seen.verdict(previous=previous)
        gate = next(finding for finding in previous.findings if finding.name == "click")
    looks, information = gate.numbers["looks"], [450.0, 450.0 + 1_250.0]
    assert information == pytest.approx([each[3] for each in looks])
    # Half of the users have 26 % of the information that all have.
    normal = spending_boundaries([0.5, 1.0], alpha=0.05, information=information)[-1]
    assert normal > spending_boundaries([0.5, 1.0], alpha=0.05)[-1]
    assert stats.t.isf(stats.norm.sf(normal), gate.numbers["df"]) == pytest.approx(looks[-1][2], rel=1e-9)


def test_a_planned_end_that_nothing_has_passed_is_the_end():
    findings = looked(Gate("click", mde=0.2, horizon=1000))
    assert [False] * 19 + [True] == [finding.numbers["is_over"] for finding in findings]
    assert "the planned horizon is over" in findings[-1].reason


def test_a_planned_look_waits_for_thirty_values_in_each_arm():
    findings = looked(
        Gate("click", mde=0.2, horizon=500), number=8, each=lambda arm, unit: float(0 <= unit - 4 * (arm == "v2") < 4)
    )
    # Four values in each arm a look, and each look a tenth of the horizon: thirty at the eighth.
    assert [0] * 7 + [1] == [len(finding.numbers["looks"]) for finding in findings]


def test_a_planned_time_is_that_of_decisions_whose_window_is_over():
    gate = Gate("click", mde=0.2, horizon="10d", window="1d")
    seen, day_s = Seen(gate), 86_400.0
    for number in range(200):
        for arm in HALF:
            seen.call(arm, time_s=day_s, values={"click": toss(arm, number)})
    early, due = (seen.numbers("click", now_s=(1 + days) * day_s)["looks"] for days in (2.99, 3.0))
    assert ([], [pytest.approx(0.2)]) == (early, [part for part, *_ in due])


def test_a_planned_number_of_units_counts_those_whose_window_is_over():
    gate = Gate("click", mde=0.2, horizon=1000, window="1h")
    seen = Seen(gate)
    for time_s, units in ((10_000.0, 100), (90_000.0, 300)):
        for number in range(units):
            for arm in HALF:
                seen.call(arm, time_s=time_s, values={"click": toss(arm, number)})
    # 800 of the 1,000 units are there, and a quarter of them is old enough.
    (look,) = seen.numbers("click", now_s=90_060.0)["looks"]
    assert 0.2 == pytest.approx(look[0])


# Labels


@pytest.mark.parametrize(("more", "held"), [(0.04, False), (0.06, True)])
def test_a_pass_waits_while_one_arm_has_a_twentieth_more_labels(more, held):
    seen = Seen(Gate("label", mde=0.1, min_effect=-0.5, per="outcome"))
    for arm in HALF:
        labels = round(1000 * ((1 + more) if arm == "v2" else 1.0))
        for number in range(2000):
            bucket = seen.rng.randrange(512)
            seen.call(arm, bucket=bucket, values={"label": float(number % 2)} if number < labels else {})
    assert (held, "INCONCLUSIVE" if held else "PASS") == (
        seen.numbers("label")["label_lift"] > 0.05,
        seen.finding("label").outcome,
    )


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_an_arm_with_half_as_many_outcomes_is_not_bet_against_for_having_half_as_many_good_ones(better):
    seen = Seen(Guardrail("label", margin=0.05, per="outcome", better=better))
    for arm, labels in (("control", 400 if better == "higher" else 200), ("v2", 200 if better == "higher" else 400)):
        for number in range(1000):
            value = float(seen.rng.random() < 0.5)
            seen.call(arm, bucket=seen.rng.randrange(512), values={"label": value} if number < labels else {})
    assert seen.numbers("label")["exact_harm"] < 1.0


def test_an_arm_without_any_label_is_not_compared():
    seen = Seen(Gate("label", mde=0.1, min_effect=-0.5, per="outcome")).call("control", 50, values={"label": 1.0})
    assert seen.call("v2", 50).numbers("label")["label_lift"] > 0.05


def test_labels_are_mature_when_the_whole_slice_of_their_window_is_old_enough():
    seen = Seen(Gate("label", mde=0.1, per="outcome", window="8h"))
    # Slices are an eighth of the window: these decisions lie between hour 10 and hour 11.
    seen.both(time_s=10.5 * 3600, values={"label": 1.0})
    assert [0.0, 1.0] == [seen.finding("label", now_s=hour * 3600).matured for hour in (18.99, 19.0)]


def test_outcomes_count_until_the_window_is_over_and_folded_ones_do_not_ripen_sooner():
    label = Gate("label", mde=0.1, per="outcome", window="8h")
    evidence = Evidence([label])
    for late, decision in ((0.0, "at the end"), (1.0, "after it")):
        evidence.add_outcome(
            "label", 1.0, decision=decision, phase_name="0:50%", arm="v2", bucket=1, decided_s=36_000.0,
            time_s=36_000.0 + 8 * 3600 + late,
        )  # fmt: skip
    assert {"counted": 1, "late": 1} == dict(evidence.outcomes)
    evidence.fold(36_000.0 + 12 * 3600)
    assert (0.0, 0.0) == evidence.sums(label, 36_000.0).totals("0:50%", "v2")
