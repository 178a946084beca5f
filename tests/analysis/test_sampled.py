"""Journals of overloaded processes: what was drawn stands for what was not, and tests count what is there."""

import json
import math
import random

import pytest

from rollout_sdk.analysis import as_text, summarise
from rollout_sdk.assignment.ids import encode_id
from rollout_sdk.judging import Evidence, add_outcome
from rollout_sdk.plan import Gate
from rollout_sdk.records import RecordedEvent
from rollout_sdk.records.sampling import is_drawn, rate_of
from rollout_sdk.stats import ratio_of_sums


def decision(id_, variant="control", *, unit=None, t=1000.0, **more):
    return {
        "event": "decision", "v": 1, "t": t, "rollout": "r", "id": id_, "strategy": "ab", "phase": "0:50%", "variant": variant,
        "served": variant, "reason": "split", "propensity": 0.5, "share": 0.5, "bucket": 1, "unit": unit,
        "runs": [[variant, 0.001, None, None]], **more,
    }  # fmt: skip


def outcome(value, *, t=2000.0, **more):
    return {"event": "outcome", "v": 1, "t": t, "rollout": "r", "metric": "good", "value": value, **more}


def report(folder, *records):
    (folder / "events-a.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return summarise(folder)


def variants(found):
    (rollout_,) = found.rollouts
    (phase,) = rollout_.phases
    return {variant.variant: variant for variant in phase.variants}


def test_a_call_that_was_drawn_counts_for_those_that_were_not(tmp_path):
    slow, failed = [["control", 0.5, None, None]], [["control", 0.001, "E", None]]
    found = variants(
        report(
            tmp_path,
            *[decision(f"a{n}") for n in range(4)],
            decision("b", rate=0.25, runs=failed, served="control"),
            decision("c", rate=0.125, runs=slow, closed_early=False),
            decision("d", "v2", rate=0.5, withheld="breaker_open", served="control"),
        )
    )
    control, candidate = found["control"], found["v2"]
    assert (6, 16, 6, {"E": 4}, 0.25) == (control.kept, control.calls, control.units, control.errors, control.error_rate)
    # Eight of 16 are slow.
    assert (16, 0.2505, 0.5) == (
        control.latency["control"].runs, control.latency["control"].p50_s, control.latency["control"].p99_s,
    )  # fmt: skip
    assert (1, 2, 2, {"breaker_open": 2}) == (candidate.kept, candidate.calls, candidate.fallbacks, candidate.withheld)
    assert (16 / 18, 6 / 7) == (control.share_of_calls, control.share_of_units)


def test_an_outcome_counts_as_often_as_its_call_or_more_where_outcomes_were_kept_at_a_lower_rate(tmp_path):
    found = variants(
        report(
            tmp_path,
            decision("a"), decision("b", rate=0.5), decision("c", rate=0.5), decision("d", rate=0.25),
            outcome(1.0, id="b", rate=0.5), outcome(1.0, id="c", rate=0.125), outcome(3.0, id="d"),
        )
    )  # fmt: skip
    (metric,) = found["control"].metrics
    # Calls stand for 1, 2, 2 and 4; outcomes for 2, 8 and 4.
    assert (14, (2 + 8 + 12) / 9, (2 + 8 + 12) / 14) == (metric.outcomes, metric.per_call.mean, metric.per_outcome.mean)


def test_an_outcome_of_a_unit_counts_for_those_that_were_not_drawn(tmp_path):
    found = variants(report(tmp_path, decision("a", unit="u"), outcome(1.0, unit="u", rate=0.25)))
    assert 4 == found["control"].metrics[0].outcomes


def test_shadows_count_for_those_that_were_not_drawn(tmp_path):
    shadow = {"event": "shadow", "v": 1, "t": 1000.0, "rollout": "r", "phase": "0:50%", "variant": "v2", "end": "ok",
              "duration_s": 0.1}  # fmt: skip
    found = report(
        tmp_path,
        decision("a", shadows=["v2"]), decision("b", shadows=["v2"], rate=0.25),
        {**shadow, "id": "a", "match": 0}, {**shadow, "id": "b", "match": 1, "rate": 0.25},
    )  # fmt: skip
    (shadowed,) = found.rollouts[0].phases[0].shadows
    assert (5, 1.0, 5, 0.8) == (shadowed.planned, shadowed.completeness, shadowed.compared, shadowed.agreement.mean)


def test_lists_count_for_those_that_were_not_drawn(tmp_path):
    listed = {"blend": ["control", "v2"], "items": ["x", "y"], "teams": ["control", "v2"]}
    found = report(
        tmp_path,
        decision("a", "both", **listed), decision("b", "both", rate=0.25, **listed),
        outcome(1.0, id="a", item="x"), outcome(1.0, id="b", item="y", rate=0.25),
    )  # fmt: skip
    (preferred,) = found.rollouts[0].phases[0].preferences
    assert (5, 4, 1, 0.3) == (preferred.lists, preferred.wins, preferred.losses, pytest.approx(preferred.preference.mean))


def test_where_all_calls_were_kept_at_one_rate_means_and_intervals_are_those_of_what_is_there(tmp_path):
    rng = random.Random(3)
    calls = [(f"u{rng.randrange(40)}", float(rng.random() < 0.3)) for _ in range(400)]

    def means(folder, **rate):
        folder.mkdir()
        lines = [decision(f"d{n}", unit=unit, **rate) for n, (unit, _) in enumerate(calls)]
        clicks = [outcome(value, id=f"d{n}", **rate) for n, (_, value) in enumerate(calls) if value]
        return variants(report(folder, *lines, *clicks))["control"].metrics[0].per_call

    plain, thinned = means(tmp_path / "plain"), means(tmp_path / "thinned", rate=0.25)
    for name in ("mean", "low", "high"):
        assert math.isclose(getattr(plain, name), getattr(thinned, name))


def full_and_thinned():
    """Calls of a quiet and of a busy time, in which both arms do worse; of the busy ones, a quarter is drawn."""
    rng = random.Random(7)
    full, kept = [], []
    for number in range(40_000):
        is_busy = number >= 20_000
        variant = rng.choice(("control", "v2"))
        rate_ = (0.1 if is_busy else 0.5) + (0.05 if variant == "v2" else 0.0)
        id_ = encode_id("r", "0:50%", variant, number % 512, 1_795_928_708_000_000_000, f"{number:x}", b"k" * 16)
        call, value = (id_, variant, 0.25 if is_busy else 1.0), float(rng.random() < rate_)
        full.append((*call, value))
        if is_drawn(id_, call[2]):
            kept.append((*call, value))
    return full, kept


def test_what_was_drawn_says_of_all_calls_what_all_calls_would_have_said(tmp_path):
    full, kept = full_and_thinned()
    records = []
    for number, (id_, variant, rate, value) in enumerate(kept):
        more = {"rate": rate} if rate < 1 else {}
        records.append(decision(id_, variant, t=1000.0 + number, unit=f"{number:016x}", **more))
        if value:
            records.append(outcome(value, id=id_, **more))
    found = variants(report(tmp_path, *records))
    for arm in ("control", "v2"):
        all_ = [value for _, variant, _, value in full if variant == arm]
        there = [(value, rate) for _, variant, rate, value in kept if variant == arm]
        per_call = found[arm].metrics[0].per_call
        mean, simple = sum(all_) / len(all_), sum(value for value, _ in there) / len(there)
        # Of those that are there alone, the busy time would count a quarter.
        assert (True, True) == (per_call.low < mean < per_call.high, simple > per_call.high + 0.05)
        assert abs(found[arm].calls - len(all_)) < 5 * math.sqrt(10_000 * 3)
        assert ratio_of_sums(((value / rate, 1 / rate) for value, rate in there), within=(0.0, 1.0)) == per_call


def test_intervals_of_journals_of_which_half_was_drawn_cover_the_truth_as_often_as_they_say():
    rng, covered, journals = random.Random(1), 0, 400
    for _ in range(journals):
        calls = []
        for number in range(3_000):
            is_busy = number >= 1_500
            value, rate = float(rng.random() < (0.1 if is_busy else 0.5)), 0.125 if is_busy else 1.0
            if rng.random() < rate:
                calls.append((value / rate, 1 / rate))
        interval = ratio_of_sums(calls, within=(0.0, 1.0))
        covered += interval.low <= 0.3 <= interval.high
    assert abs(covered / journals - 0.95) <= 3 * math.sqrt(0.95 * 0.05 / journals)


def test_whether_shares_are_as_configured_is_asked_of_the_units_that_are_there(tmp_path):
    """Each of them is one unit, however many calls its own stand for: or a rate would look like a mismatch."""
    rng = random.Random(5)
    calls = [decision(f"d{n}", rng.choice(("control", "v2")), unit=f"{n:016x}", t=1000.0 + n) for n in range(2_000)]
    (tmp_path / "plain").mkdir()
    (tmp_path / "thinned").mkdir()
    plain = report(tmp_path / "plain", *calls)
    thinned = report(tmp_path / "thinned", *[{**call, "rate": 0.125} if n % 2 else call for n, call in enumerate(calls)])
    assert plain.rollouts[0].shares == thinned.rollouts[0].shares
    assert variants(plain)["control"].units == variants(thinned)["control"].units
    assert 9_000 == sum(variant.calls for variant in variants(thinned).values())


def test_the_report_says_what_was_drawn_and_what_nothing_stands_for(tmp_path):
    found = report(
        tmp_path, decision("a"), decision("b", rate=0.5), {"event": "lost", "v": 1, "count": 9, "sampled": 7},
        {"event": "lost", "v": 1, "count": 1, "sampled": 5},
    )  # fmt: skip
    text = " ".join(as_text(found).split())
    assert (10, 8) == (found.lost, found.sampled)
    assert "8 of them were of calls that were not drawn under overload" in text
    assert "nothing stands for the other 2." in text
    assert "calls drawn under overload: control 2 for 3;" in text


def test_where_nothing_was_drawn_nothing_is_said_of_it(tmp_path):
    assert "overload" not in as_text(report(tmp_path, decision("a"), {"event": "lost", "v": 1, "count": 9}))


@pytest.mark.parametrize("rate", [0, -1, 2, 1e-9, "x", [1]])
def test_a_rate_that_is_none_is_damage(tmp_path, rate):
    found = report(tmp_path, decision("a"), decision("b", rate=rate), outcome(1.0, id="a", rate=rate))
    assert ({"damaged": 2}, 1) == (found.skipped, variants(found)["control"].calls)


# The judge, and so the replay --------------------------------------------------------------------------------------------


def evidence_of(*events):
    """The sums of a metric, and how many of its values were neither 0 nor 1."""
    evidence = Evidence([Gate("good", mde=0.01)])
    for number, event in enumerate(events):
        evidence.add_call(
            "0:50%", "control", {"control": 0.5, "v2": 0.5}, number, number, failed=False, duration_s=0.1, time_s=1000.0
        )
        add_outcome(evidence, event)
    (metric,) = evidence.metrics
    sums = evidence.phases["0:50%"].sums[metric.criterion.label]
    (slice_,) = sums.slices.values()
    return slice_.totals("0:50%", "control"), sums.others


def recorded(number, rate=1.0, call_rate=1.0):
    return RecordedEvent(
        "r", "good", 1.0, 1001.0, f"d{number}", "0:50%", "control", number, decided_s=1000.0, rate=rate, call_rate=call_rate
    )


def test_the_judge_counts_calls_that_were_drawn_and_their_outcomes_as_they_are():
    """Drawn alike in all arms, they are a sample of the calls: what is counted are whole units, and yes or no stays that."""
    assert ((3.0, 0.0), 0) == evidence_of(*[recorded(n, rate, rate) for n, rate in enumerate((1.0, 0.5, rate_of(4)))])


def test_the_judge_weighs_outcomes_that_were_kept_at_a_lower_rate_than_their_calls():
    assert ((7.0, 0.0), 2) == evidence_of(recorded(0), recorded(1, 0.25, 0.5), recorded(2, 0.25))
