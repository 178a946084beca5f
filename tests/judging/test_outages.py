"""Outages, bursts and clusters are no evidence of a candidate."""

import math
from collections import Counter

import pytest
from attrs import evolve

from rollout_sdk import Guardrail
from rollout_sdk.judging.metrics.base import is_clustered
from rollout_sdk.judging.minutes import Minute, Minutes
from rollout_sdk.stats import StratifiedBuckets
from tests.judging.seen import ERRORS, HALF, SLOW, START_MINUTE, Seen

# Outages


def minute(calls, events, *, units=None, hit=None, label="error_rate"):
    """A minute of so many units, each with as many of the calls, of which so many had an event."""
    units, hit = units or calls, hit if hit is not None else events
    bits = lambda number: (1 << min(64, number)) - 1
    return Minute(calls, bits(units), Counter({label: events}), {label: bits(hit)})


QUARTER = minute(1000, 250)


@pytest.mark.parametrize(
    ("now", "elsewhere", "ceiling", "is_outage"),
    [
        # Five standard errors above what is usual: .25 + 5 * sqrt(.25 * .75 / 100) = .4665.
        (minute(100, 46), QUARTER, 0.4, False),
        (minute(100, 47), QUARTER, 0.4, True),
        # And above the ceiling.
        (minute(100, 50), QUARTER, 0.5, False),
        (minute(100, 51), QUARTER, 0.5, True),
        # Ten calls, of eight units.
        (minute(9, 9), QUARTER, 0.4, False),
        (minute(100, 100, units=7), QUARTER, 0.5, False),
        (minute(100, 100, units=8), QUARTER, 0.5, True),
        # Below the ceiling, five times what is usual, one per cent at least, and surely.
        (minute(100, 5), minute(1000, 0), 0.5, False),
        (minute(100, 9), minute(1000, 0), 0.5, True),
        # Not the errors of one unit.
        (minute(100, 60, hit=1), QUARTER, 0.5, False),
        # What is usual is the rate of the better half of all calls: with little beside it, that of the minute itself.
        (minute(100, 52), minute(200, 0), 0.5, True),
        (minute(100, 52), minute(20, 0), 0.5, False),
        (minute(100, 100), Minute(), 0.5, False),
    ],
)
def test_a_minute_is_part_of_an_outage(now, elsewhere, ceiling, is_outage):
    minutes = Minutes({7: now, 8: elsewhere})
    assert is_outage == (7 in minutes.outages("error_rate", ceiling))


@pytest.mark.parametrize(("calls", "events", "doubtful"), [(14, 3, True), (9, 2, False), (100, 20, False), (100, 21, True)])
def test_a_minute_is_doubtful_with_three_events_in_more_than_a_fifth_of_its_calls(calls, events, doubtful):
    assert doubtful == (7 in Minutes({7: minute(calls, events)}).doubtful("error_rate"))


def test_of_doubtful_minutes_the_newest_240_stay_apart():
    minutes = Minutes({number: minute(10, 10) for number in range(1, 301)})
    assert frozenset(range(61, 301)) == minutes.doubtful("error_rate")


def test_minutes_stay_apart_for_an_hour_and_no_longer():
    minutes = Minutes({number: minute(10, 1) for number in range(1, 101)})
    minutes.fold(100, keep=frozenset({7}))
    assert {7, *range(40, 101)} == set(minutes.kept)
    assert (380, 38) == (minutes.before[""], minutes.before["error_rate"])


def test_only_minutes_that_are_over_for_two_minutes_are_added_up():
    seen = Seen(ERRORS)
    for number in range(1000, 1010):
        seen.call(failed=True, time_s=60.0 * number)
    seen.evidence.fold(60.0 * 1010)
    assert {-1, 1008, 1009} == set(seen.evidence.phases["0:50%"].sums["error_rate"].slices)


def test_an_outage_is_set_aside_when_it_is_added_up_and_a_doubtful_minute_stays_apart():
    seen = Seen(evolve(ERRORS, ceiling=0.4))
    for number in range(1000, 1100):
        # 1050: an outage by this guardrail's ceiling. 1060: too few calls to know.
        rate, calls = {1050: (0.48, 100), 1060: (1.0, 9)}.get(number, (0.02, 100))
        seen.call("control", round(calls * rate), failed=True, time_s=60.0 * number)
        seen.call("control", calls - round(calls * rate), time_s=60.0 * number)
    seen.evidence.fold(60.0 * 1100)
    phase = seen.evidence.phases["0:50%"]
    assert {-2, -1, 1060, 1098, 1099} == set(phase.sums["error_rate"].slices)
    assert (2.0 * 96, 0.0) == phase.sums["error_rate"].slices[-1].totals("0:50%", "control")
    assert {1050, *range(1040, 1100)} == set(phase.minutes["control"].kept)


def paced(recent, before, *, minutes_ago=5, criterion=ERRORS):
    """What is unusual about a control with (calls, events) in the last minutes, and before."""
    seen, now_s = Seen(criterion), 60.0 * START_MINUTE
    for (calls, events), ago in ((recent, minutes_ago), (before, 100)):
        # In several minutes, each too small to be an outage by itself.
        for number in range(calls):
            at_s = now_s - 60.0 * ago - (0 if ago < 100 else 60.0 * (number % 100))
            seen.call("control", failed=number < events, duration_s=0.2 if number < events else 0.01, time_s=at_s)
    return seen.look(now_s).unusual_control()


@pytest.mark.parametrize(
    ("recent", "before", "unusual"),
    [
        # At least one per cent is usual.
        ((250, 12), (1000, 0), False),
        ((250, 13), (1000, 0), True),
        # Ten events at the least.
        ((100, 9), (1000, 0), False),
        ((100, 10), (1000, 0), True),
        # Twenty calls at the least, before and now.
        ((100, 20), (19, 0), False),
        ((100, 20), (100, 0), True),
        ((19, 10), (1000, 0), False),
        ((20, 10), (1000, 0), True),
        # Half of the calls, whatever was before.
        ((100, 50), (0, 0), False),
        ((100, 51), (0, 0), True),
    ],
)
def test_a_control_is_unusual(recent, before, unusual):
    assert unusual == (paced(recent, before) is not None)


@pytest.mark.parametrize(("minutes_ago", "unusual"), [(10, True), (11, False)])
def test_the_last_ten_minutes_are_now(minutes_ago, unusual):
    assert unusual == (paced((100, 20), (1000, 0), minutes_ago=minutes_ago) is not None)


def test_each_guardrail_has_a_ceiling_of_its_own_and_errors_are_watched_without_one():
    lower = Guardrail("latency", threshold_s=0.1, ceiling=0.2)
    assert "above the ceiling of 20 %" in paced((100, 21), (0, 0), criterion=lower)
    assert "above the ceiling of 50 %" in paced((100, 60), (0, 0), criterion=evolve(lower, ceiling=0.9))


@pytest.mark.parametrize(("rate", "unusual"), [(0.5, False), (0.6, True)])
def test_a_control_that_failed_in_more_than_half_of_the_phase_is_unusual_also_when_nothing_comes_now(rate, unusual):
    seen = Seen(ERRORS)
    for number in range(START_MINUTE, START_MINUTE + 10):
        seen.call("control", round(100 * rate), failed=True, time_s=60.0 * number)
        seen.call("control", 100 - round(100 * rate), time_s=60.0 * number)
    assert unusual == (seen.look(60.0 * START_MINUTE + 86_400).unusual_control() is not None)


def test_the_calls_of_an_outage_do_not_make_the_rate_of_the_phase_smaller():
    seen = Seen(ERRORS)
    for number in range(START_MINUTE, START_MINUTE + 100):
        # Two calls a minute are too few for an outage; of these, more than half fail.
        seen.call("control", 2, failed=number % 10 < 6, time_s=60.0 * number)
    for number in range(START_MINUTE + 200, START_MINUTE + 205):
        seen.call("control", 300, failed=True, time_s=60.0 * number)
    assert "60 % of the control's calls fail" in seen.look(60.0 * START_MINUTE + 86_400).unusual_control()


def test_an_outage_that_is_over_is_not_unusual():
    seen = Seen(ERRORS)
    for number in range(START_MINUTE, START_MINUTE + 40):
        down = number < START_MINUTE + 5
        seen.call("control", 300 if down else 30, failed=down, time_s=60.0 * number)
    assert None is seen.look(60.0 * (START_MINUTE + 40)).unusual_control()


@pytest.mark.parametrize("criterion", [ERRORS, SLOW])
def test_neither_units_nor_calls_of_an_outage_count(criterion):
    seen = Seen(criterion)
    for number in range(START_MINUTE, START_MINUTE + 60):
        bad = 100 if number == START_MINUTE + 30 else 2
        for arm in HALF:
            seen.call(arm, bad, failed=True, duration_s=0.2, time_s=60.0 * number)
            seen.call(arm, 100 - bad, time_s=60.0 * number)
    numbers = seen.numbers(criterion.label)
    assert 2 * 59 == numbers["value_total"]
    if "strata" in numbers:
        assert [[2 * 59, 2 * 59, 0.5]] == numbers["strata"]
    assert 2 * 59 < 2 * 59 + 100 == seen.look().units_of("v2", criterion.label).estimate


# Bursts and clusters


def burst(share, options, *, failing=40, minutes=(600,), is_shadow=False, metric=ERRORS):
    shares = {"control": 1.0, "v2": 1.0} if is_shadow else {"control": 1 - share, "v2": share}
    seen = Seen(evolve(metric, **options), shares=shares).both(200, time_s=60.0)
    for number in range(failing):
        seen.call(failed=True, duration_s=0.2, time_s=60.0 * minutes[number % len(minutes)])
    return seen.numbers(metric.label, shadowing=is_shadow)


def test_errors_of_a_minute_count_once_by_default_below_a_tenth_and_all_from_a_tenth_on():
    for share, same_as in ((0.099, "1m"), (0.1, "0s")):
        assert burst(share, {})["exact_harm"] == burst(share, {"burst": same_as})["exact_harm"], share
        assert burst(share, {})["exact_safe"] == burst(share, {"burst": same_as})["exact_safe"], share
    assert burst(0.05, {"burst": "1m"})["exact_harm"] < math.log(20) < burst(0.05, {"burst": "0s"})["exact_harm"]
    assert burst(0.05, {}, is_shadow=True)["exact_harm"] == burst(0.05, {"burst": "0s"}, is_shadow=True)["exact_harm"]


def test_a_burst_is_as_long_as_its_guardrail_says():
    for length, minutes in (("5m", (600, 601, 604)), ("1m", (600,))):
        assert burst(0.05, {"burst": "1m"})["exact_harm"] == burst(0.05, {"burst": length}, minutes=minutes)["exact_harm"]
    assert burst(0.05, {"burst": "5m"})["exact_harm"] < burst(0.05, {"burst": "5m"}, minutes=(604, 605))["exact_harm"]


def test_events_whose_minute_is_not_known_are_no_burst():
    untimed = burst(0.05, {"burst": "1m"}, minutes=(0,))
    assert burst(0.05, {"burst": "0s"})["exact_harm"] == untimed["exact_harm"]


@pytest.mark.parametrize("metric", [ERRORS, SLOW])
def test_a_burst_is_one_of_the_thirty_events_that_a_mean_takes(metric):
    assert not burst(0.05, {"burst": "1m"}, metric=metric)["enough_harm"]
    assert burst(0.05, {"burst": "0s"}, metric=metric)["enough_harm"]
    assert burst(0.05, {"burst": "1m"}, metric=metric, minutes=range(600, 640))["enough_harm"]


def test_a_burst_of_the_control_proves_a_candidate_good_no_sooner_than_one_error():
    proofs = {}
    for length in ("0s", "5m"):
        seen = Seen(evolve(ERRORS, burst=length)).both(300, time_s=60.0)
        # Too few calls in each minute to be an outage.
        for minute_ in range(600, 605):
            seen.call("control", 9, failed=True, time_s=60.0 * minute_)
        proofs[length] = seen.numbers("error_rate")["exact_safe"]
    assert 0 < proofs["5m"] < math.log(4) < math.log(20) < proofs["0s"]


@pytest.mark.parametrize(("twice", "once", "clustered"), [(0, 100, False), (30, 40, False), (50, 0, True)])
def test_events_are_clustered_whose_sums_vary_half_as_much_again_as_single_ones(twice, once, clustered):
    # 100 events in 512 buckets of ten calls: the sum of (x - .195)^2 over 100 * (1 - .0195) is .82, 1.43 and 1.84.
    sums = StratifiedBuckets()
    for bucket in range(512):
        sums.add("0:50%", "v2", bucket, 2.0 if bucket < twice else float(bucket < twice + once), 10.0)
    assert clustered == is_clustered(sums, "v2")


def test_slow_calls_and_clicks_that_come_in_clusters_are_not_bet_on():
    click = Guardrail("click", margin=0.01, better="lower")
    bets = {}
    for units in (1, 120):
        seen = Seen(Guardrail("latency", threshold_s=0.1, margin=0.01, burst=0), click).both(4000)
        for number in range(120):
            at = number % units
            seen.call("v2", duration_s=0.2, cell=at + 1, bucket=at, values={"click": 1.0})
        bets[units] = seen.numbers("latency>0.1s")["exact_harm"], seen.numbers("click")["exact_harm"]
    assert (0.0, None) == bets[1]
    assert all(log_e > 1 for log_e in bets[120])
