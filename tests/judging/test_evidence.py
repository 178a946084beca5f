"""Evidence adds up: in any order, in any number of processes, however often it is read."""

import json
import random

import pytest

from rollout_sdk import Gate, Guardrail
from rollout_sdk.judging import Evidence, PhaseEvidence

GUARDRAILS = [Guardrail("error_rate"), Guardrail("latency", threshold_s=0.1)]
GATES = [Gate("click"), Gate("label", per="outcome", window="1h", clip=(0, 5))]
SHARES = {"control": 0.9, "v2": 0.1}


def empty():
    return Evidence([*GUARDRAILS, *GATES])


def facts(number=400, seed=1):
    rng = random.Random(seed)
    for count in range(number):
        arm = "v2" if rng.random() < 0.1 else "control"
        phase, cell, bucket = rng.choice(["0:5%", "1:10%"]), rng.getrandbits(32), rng.randrange(512)
        time_s = 1e9 + 10 * count
        # Of some calls nobody knows how long they would have taken.
        duration_s = rng.random() / 5 if rng.random() < 0.9 else None
        call = {"failed": rng.random() < 0.2, "duration_s": duration_s, "time_s": time_s}
        yield "add_call", (phase, arm, SHARES, cell, bucket), call
        if rng.random() < 0.5:
            metric = rng.choice(["click", "label"])
            outcome = {
                "decision": f"d{count}", "phase_name": phase, "arm": arm, "bucket": bucket,
                "decided_s": time_s, "time_s": time_s + rng.random() * 3000, "identity": count,
            }  # fmt: skip
            yield "add_outcome", (metric, rng.choice([0.0, 1.0, 9.0])), outcome


def added(all_facts):
    evidence = empty()
    for method, args, kwargs in all_facts:
        getattr(evidence, method)(*args, **kwargs)
    return evidence


def plain(evidence):
    return {
        "sums": {
            (criterion.label, phase, arm): [round(total, 6) for total in evidence.sums(criterion).totals(phase, arm)]
            for criterion in (*GUARDRAILS, *GATES)
            for phase in evidence.phases
            for arm in SHARES
        },
        "units": {(name, arm): each.cells for name, phase in evidence.phases.items() for arm, each in phase.units.items()},
        "events": {(name, *key): each.cells for name, phase in evidence.phases.items() for key, each in phase.events.items()},
        "outcomes": dict(evidence.outcomes),
    }


def test_four_processes_have_seen_together_what_one_would_have_seen():
    listed = list(facts())
    parts = [added(listed[start::4]) for start in range(4)]
    whole = empty()
    for part in parts:
        whole.merge(part)
    assert plain(added(listed)) == plain(whole)


def test_the_order_of_the_facts_is_of_no_matter():
    listed = list(facts())
    random.Random(5).shuffle(listed)
    assert plain(added(facts())) == plain(added(listed))


def test_a_phase_goes_through_json():
    evidence = added(facts())
    read = empty()
    for name, phase in evidence.phases.items():
        read.phases[name] = PhaseEvidence.from_dict(json.loads(json.dumps(phase.as_dict(), allow_nan=False)))
    read.outcomes = evidence.outcomes
    assert plain(evidence) == plain(read)


def test_folding_what_is_mature_changes_no_sum():
    evidence = added(facts())
    before = plain(evidence)
    evidence.fold(1e9 + 20_000)
    assert before == plain(evidence)
    assert all(len(phase.sums["label"].slices) < 10 for phase in evidence.phases.values())


def outcome(evidence, *, decision="d", decided_s=1000.0, time_s=1001.0, metric="label", value=1.0, **changed):
    about = {"phase_name": "0:5%", "arm": "v2", "bucket": 3, "decided_s": decided_s, "time_s": time_s, **changed}
    evidence.add_outcome(metric, value, decision=decision, **{"identity": hash((metric, decision, value, time_s)), **about})


def test_late_duplicate_and_unknown_outcomes_are_counted_and_change_nothing():
    evidence = empty()
    outcome(evidence)
    before = evidence.sums(GATES[1]).totals("0:5%", "v2")
    outcome(evidence, value=5.0)
    outcome(evidence, decision="late", time_s=1000 + 3601)
    outcome(evidence, decision=None)
    outcome(evidence, decision="other", phase_name=None)
    assert {"counted": 1, "duplicate": 1, "late": 1, "unknown": 2} == dict(evidence.outcomes)
    assert before == evidence.sums(GATES[1]).totals("0:5%", "v2") == (1.0, 1.0)


def test_the_same_metric_twice_in_one_decision_is_a_duplicate_and_another_metric_is_none():
    evidence = empty()
    outcome(evidence)
    outcome(evidence, metric="click")
    assert {"counted": 2} == dict(evidence.outcomes)


def test_outcomes_of_arms_without_calls_are_taken_for_a_hundred_arms_and_no_more():
    """A process that only records outcomes has seen no call; what a client makes up must not fill its memory."""
    evidence = empty()
    for number in range(150):
        for decision in ("d", "e"):
            outcome(evidence, decision=f"{decision}{number}", phase_name=f"{number}:5%")
    assert {"counted": 200, "unknown": 100} == dict(evidence.outcomes)
    assert 100 == len(evidence.phases)
    evidence.add_call("149:5%", "v2", {"v2": 1.0}, 1, 3, failed=False, duration_s=0.1, time_s=1000.0)
    outcome(evidence, decision="known", phase_name="149:5%")
    assert 201 == evidence.outcomes["counted"]


def test_what_nobody_judges_is_passed_over():
    evidence = empty()
    outcome(evidence, metric="mood")
    assert ({}, {}) == (dict(evidence.outcomes), evidence.phases)


def test_values_beyond_the_bounds_are_moved_into_them():
    evidence = empty()
    outcome(evidence, value=1e9)
    outcome(evidence, decision="e", value=-1e9)
    assert (5.0, 2.0) == evidence.sums(GATES[1]).totals("0:5%", "v2")


def test_only_decisions_that_are_old_enough_are_mature():
    evidence = empty()
    outcome(evidence, decided_s=1000.0)
    outcome(evidence, decision="e", decided_s=9000.0, time_s=9001.0)
    assert (2.0, 2.0) == evidence.sums(GATES[1]).totals("0:5%", "v2")
    assert (1.0, 1.0) == evidence.sums(GATES[1], 9000.0).totals("0:5%", "v2")
    assert (0.0, 0.0) == evidence.sums(GATES[1], 1000.0).totals("0:5%", "v2")


def test_memory_is_bounded_by_buckets_and_not_by_users():
    evidence = empty()
    for number in range(60_000):
        evidence.add_call(
            "0:5%", "v2", SHARES, number * 2654435761 % 2**32, number % 512, failed=True, duration_s=1.0, time_s=float(number)
        )
    evidence.fold(1e6)
    text = json.dumps(evidence.phases["0:5%"].as_dict())
    assert len(text) < 300_000
    assert 60_000 == pytest.approx(evidence.phases["0:5%"].units["v2"].estimate, rel=0.06)


def test_a_call_of_which_nobody_knows_how_long_it_takes_is_a_call_and_neither_slow_nor_fast():
    """A stream that was closed early: its error counts, and its latency is not counted as a good one."""
    evidence = empty()
    for cell, duration_s in ((16, None), (32, 0.2), (48, 0.05)):
        evidence.add_call("0:5%", "v2", SHARES, cell, 7, failed=duration_s is None, duration_s=duration_s, time_s=1e9)
    errors, latency = (evidence.sums(each).totals("0:5%", "v2") for each in GUARDRAILS)
    assert ((1.0, 3.0), (1.0, 2.0)) == (errors, latency)


def test_what_a_process_of_an_earlier_version_has_published_can_be_read():
    table = added(facts()).phases["0:5%"].as_dict()
    for name in ("untimed", "waitless", "minutes", "ends"):
        del table[name]
    for sample in (*table["units"].values(), *(each[2] for each in table["events"])):
        del sample["minutes"]
    for sums in table["sums"].values():
        del sums["others"]
    assert set(SHARES) == set(PhaseEvidence.from_dict(table).calls)


@pytest.mark.parametrize("metric", ["latency", "first_item"])
def test_a_threshold_counts_the_same_calls_alone_and_beside_others(metric):
    def totals(*thresholds):
        evidence = Evidence([Guardrail(metric, threshold_s=each) for each in thresholds])
        for number in range(100):
            # Of half of the calls, nobody knows it.
            waited_s = number / 100 if number % 2 else None
            evidence.add_call(
                "0:50%", "control", SHARES, number, number, failed=False, time_s=1e9, duration_s=waited_s, first_item_s=waited_s
            )
        return [evidence.sums(each.criterion).totals("0:50%", "control") for each in evidence.metrics]

    assert [(40.0, 50.0)] == totals(0.2)
    assert [(40.0, 50.0), (25.0, 50.0)] == totals(0.2, 0.5)
