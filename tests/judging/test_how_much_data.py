"""How much data a test takes before it speaks."""

import pytest

from rollout_sdk import Guardrail
from rollout_sdk.judging import Evidence
from rollout_sdk.judging.unit_sample import UnitSample
from tests.judging.seen import ERRORS, HALF, SCORE, SLOW, Seen


def counted(criterion, units, events, *, control_events=None):
    """The numbers of a criterion where each arm has so many units, and so many with an event."""
    seen = Seen(criterion)
    for arm in HALF:
        had = events if arm == "v2" or control_events is None else control_events
        for number in range(units):
            hit = number < had
            seen.call(arm, failed=hit, duration_s=0.2 if hit else 0.01, values={"score": float(hit)})
    return seen.numbers(criterion.label)


@pytest.mark.parametrize("criterion", [ERRORS, SLOW])
@pytest.mark.parametrize(("units", "events", "enough"), [(100, 30, True), (99, 30, False), (100, 29, False)])
def test_a_test_of_means_takes_a_hundred_units_and_thirty_events(criterion, units, events, enough):
    numbers = counted(criterion, units, events)
    assert (enough, enough) == (numbers["enough_harm"], numbers["enough_safe"])
    # For harm, the control's may be fewer: what matters is how well the candidate's are known.
    fewer = counted(criterion, units, events, control_events=29)
    assert (enough, False) == (fewer["enough_harm"], fewer["enough_safe"])


@pytest.mark.parametrize("units", [99, 100])
def test_log_latency_speaks_from_a_hundred_units_on(units):
    assert (units == 100) == counted(Guardrail("latency_mean"), units, 0)["enough"]


@pytest.mark.parametrize(("control", "enough"), [(29, False), (30, True)])
def test_an_arm_without_values_is_harm_where_it_should_have_had_thirty(control, enough):
    numbers = counted(SCORE, 200, 0, control_events=control)
    assert (enough, False) == (numbers["enough_harm"], numbers["enough_safe"])


@pytest.mark.parametrize(("control", "enough"), [(227, False), (228, True)])
def test_what_an_arm_should_have_had_goes_by_its_calls(control, enough):
    """Of 1,000 calls in full buckets, 228 buckets with a value are 302 units; of 100 calls, 30 were due."""
    seen = Seen(SCORE).call("v2", 100)
    for number in range(1000):
        seen.call("control", values={"score": float(number < control)})
    assert enough == seen.numbers("score")["enough_harm"]


def test_a_mean_takes_355_times_its_squared_skewness():
    """Kohavi's rule; of a yes-or-no metric the exact bet speaks from the first event on, and thirty are enough."""
    needed = {}
    for size in (1.0, 2.0):
        seen = Seen(SCORE)
        for arm in HALF:
            for number in range(500):
                seen.call(arm, values={"score": size if number % 10 == 0 else 0.0})
        needed[size] = seen.numbers("score")["units_needed"]
        squared = seen.evidence.sums(SCORE).skewness_squared("control", units=500)
    assert {1.0: None, 2.0: pytest.approx(355 * squared)} == needed
    assert 3.0 < squared < 7.1


def with_a_bot(criterion, calls):
    seen = Seen(criterion).both(40, failed=True, duration_s=0.2, values={"score": 1.0}).both(360)
    return seen.call("v2", calls, cell=7, bucket=3).numbers(criterion.label)


@pytest.mark.parametrize("criterion", [ERRORS, SLOW, Guardrail("latency_mean"), SCORE])
def test_a_unit_that_leaves_fewer_than_a_hundred_that_count_alike_keeps_every_mean_silent(criterion):
    # 400 units of one call, and one of c: (400 + c)^2 / (400 + c^2) count alike, 100 with c = 44.
    few, many = with_a_bot(criterion, 50), with_a_bot(criterion, 38)
    assert (False, True) == (few["enough_effective"], many["enough_effective"])
    assert few["effective_units"] < 100 < many["effective_units"]
    for numbers, speaks in ((few, False), (many, True)):
        assert {speaks} == {numbers[name] for name in ("enough", "enough_harm", "enough_safe") if name in numbers}


@pytest.mark.parametrize(("calls", "named"), [(38, False), (52, True)])
def test_a_unit_is_named_from_a_tenth_of_the_calls_on(calls, named):
    assert named == ("heaviest" in with_a_bot(ERRORS, calls))


def test_an_arm_is_sampled_beyond_8192_units():
    sample = UnitSample(range(8192))
    assert (0, 8192) == (sample.level, sample.estimate)
    sample.add(8192)
    assert (1, 8194) == (sample.level, sample.estimate)


def test_erring_units_are_counted_at_the_sampling_level_of_each_arm():
    seen = Seen(ERRORS).both(10)
    phase = seen.evidence.phases["0:50%"]
    phase.units = {"control": UnitSample(range(0, 4000, 4), 2), "v2": UnitSample(range(1000))}
    phase.events = {
        ("error_rate", "control"): UnitSample(range(0, 400, 4), 2),
        ("error_rate", "v2"): UnitSample(range(90)),
    }
    # Of the control's units one in four is there, so 4 of 5 in both samples should be the candidate's.
    assert [[90, 100, 0.8]] == seen.numbers("error_rate")["strata"]


def test_how_rare_errors_are_is_counted_at_one_sampling_level():
    seen = Seen(ERRORS).both(10)
    phase = seen.evidence.phases["0:50%"]
    phase.units["v2"], phase.events["error_rate", "v2"] = UnitSample(range(0, 4000, 4), 2), UnitSample(range(90))
    numbers = seen.numbers("error_rate")
    # 23 of the 90 are multiples of 4: those that are among the 1,000.
    assert (23, 1000) == (numbers["floor_events"], numbers["floor_units"])


def test_how_rare_slow_calls_are_is_counted_at_one_sampling_level_and_among_units_whose_wait_is_known():
    seen = Seen(SLOW).call("v2", 10).call("v2", 5, duration_s=None)
    # One that left early, and had a slow call before, had one.
    seen.call("v2", duration_s=None, cell=7).call("v2", duration_s=0.2, cell=7)
    numbers = seen.call("control").numbers(SLOW.label)
    assert (1, 11) == (numbers["events"], numbers["units"])
    phase = seen.evidence.phases["0:50%"]
    phase.units["v2"], phase.events[SLOW.label, "v2"] = UnitSample(range(0, 4000, 4), 2), UnitSample(range(90))
    phase.events["untimed " + SLOW.label, "v2"] = UnitSample(range(200))
    numbers = seen.numbers(SLOW.label)
    # Of the 50 multiples of 4 below 200 it is not known, unless they are among the 23 below 90.
    assert (23, 1000 - (50 - 23)) == (numbers["events"], numbers["units"])


@pytest.mark.parametrize(("calls", "counts"), [(3, 3), (4, 3)])
def test_exactly_max_calls_per_unit_count(calls, counts):
    evidence = Evidence([ERRORS], max_calls_per_unit=3)
    for _ in range(calls):
        evidence.add_call("0:50%", "v2", HALF, 7, 3, failed=False, duration_s=0.01, time_s=0.0)
    assert counts == sum(evidence.phases["0:50%"].calls["v2"])
