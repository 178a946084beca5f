"""A replay comes to what the service came to, from the journal alone: also of shadow steps, and of older journals."""

import json
import random

import pytest

from rollout_sdk import Canary, Gate, Guardrail, Runtime, Step, rollout
from rollout_sdk.analysis.replay import replay

EVERY_S = 30.0
BEGIN_S = 1_800_000_000


class Clock:
    """Stands still until it is set: the judge and the journal then have one time."""

    now_s = BEGIN_S

    def __call__(self):
        return int(self.now_s * 10**9)


PLAN = Canary(
    [Step(0, shadow="60%", min_units=20, min_time=0), Step("20%", min_units=20, min_time=0), Step("50%", min_units=20)],
    guardrails=[
        Guardrail("error_rate", floor=0.2),
        Guardrail("latency", threshold_s=0.5),
        Guardrail("latency_mean", on_fail="warn"),
        Guardrail("returns", margin=0.1, better="lower", window="2m", per="outcome", early_harm=True),
    ],
    gates=[Gate("click", horizon=2_000), Gate("spend", before="promotion", clip=(0, 50))],
    max_calls_per_unit=6,
)


def journalled(folder, seed, *, plan=PLAN, calls=500, lost=0.0):
    """A canary that is judged now and then and steered by hand; the verdicts that it came to."""
    rng, clock, verdicts = random.Random(seed), Clock(), []
    errors = rng.choice([0.01, 0.1])

    def failing(chance, rng=rng):
        def model(user, before=0.0):
            if rng.random() < chance:
                raise ValueError
            return user

        return model

    runtime = Runtime(journal=folder, time_ns=clock)
    # The test looks by hand.
    runtime.reconciler.start = lambda: None
    # With draws of its own: it runs as a shadow, at any time.
    candidate = failing(errors * rng.choice([1, 2]), random.Random(1_000 + seed))
    model = rollout(
        candidate=candidate, strategy=plan, unit="user", key="m", runtime=runtime, effects="read", covariate="before",
        breaker=None,
    )(failing(errors))  # fmt: skip
    next_s = BEGIN_S + EVERY_S
    for step in range(len(plan.criteria.steps)):
        for _ in range(calls):
            if clock.now_s + 0.5 >= next_s:
                clock.now_s = next_s
                assert runtime.flush(30.0)
                verdicts.append(model.rollout.judge())
                next_s += EVERY_S
            clock.now_s += 0.5
            user = f"user-{rng.randrange(5) if rng.random() < 0.2 else rng.randrange(600)}"
            try:
                routed = model.rollout.route(user, float(len(user)))
            except ValueError:
                continue
            for metric, chance, value in (("click", 0.3, 1.0), ("spend", 0.1, rng.expovariate(0.1)), ("returns", 0.2, 1.0)):
                if rng.random() < chance and not rng.random() < lost:
                    model.rollout.record(metric, value, decision_id=routed.decision.id)
        assert runtime.flush(30.0)
        verdicts.append(model.rollout.judge())
        if step + 1 < len(plan.criteria.steps) and model.rollout.status().status in ("shadowing", "running"):
            model.rollout.promote()
    runtime.close(10.0)
    return verdicts


def without_the_clock(findings):
    """Their numbers; all but how long the phase has lasted, because a journal tells only when its first call was."""
    return {each.name: {**each.numbers, "elapsed_s": None} for each in findings}


def alike(numbers, rel=1e-6, near_0=1e-12):
    """The same, but for the last digits: a journal rounds a duration to whole nanoseconds.

    Calls of this test take a few hundred of them, so that the logarithm of a latency is off by up to a thousandth.
    """
    if isinstance(numbers, dict):
        off = {name: (1e-3, 1e-3) if name == "latency_mean" else (rel, near_0) for name in numbers}
        return {name: alike(each, *off[name]) for name, each in numbers.items()}
    return pytest.approx(numbers, rel=rel, abs=near_0, nan_ok=True) if isinstance(numbers, float) else numbers


@pytest.mark.parametrize("seed", range(5))
def test_a_replay_comes_to_the_numbers_that_the_service_came_to(tmp_path, seed):
    live = journalled(tmp_path, seed)
    found = replay(tmp_path, PLAN.criteria, every_s=EVERY_S)
    by_phase = {verdict.phase: verdict for verdict in live}
    assert list(by_phase) == [phase.phase for phase in found.phases]
    assert "0:0%" in by_phase
    for phase in found.phases:
        mine = by_phase[phase.phase]
        assert alike(without_the_clock(mine.findings)) == without_the_clock(phase.last.findings)
        assert [(each.name, each.outcome) for each in mine.findings] == [
            (each.name, each.outcome) for each in phase.last.findings
        ]
        assert (mine.outcome, mine.units, mine.valid) == (phase.last.outcome, phase.last.units, phase.last.valid)
        assert (mine.failed, mine.futile, mine.outcomes) == (phase.last.failed, phase.last.futile, phase.last.outcomes)


def as_written_before(folder):
    """The journal as an earlier SDK wrote it: shadow lines did not say how the control's run of the same call went."""
    for path in folder.glob("events-*.jsonl"):
        lines = []
        for line in path.read_text().splitlines():
            record = json.loads(line)
            for name in ("control_error", "control_duration_s", "control_first_item_s", "first_item_s", "cov", "no_evidence"):
                record.pop(name, None)
            lines.append(json.dumps(record))
        path.write_text("\n".join(lines) + "\n")


OLD_PLAN = Canary(
    [Step(0, shadow="60%", min_units=20, min_time=0), Step("50%", min_units=20, min_time=0)],
    guardrails=[Guardrail("error_rate", floor=0.2), Guardrail("latency", threshold_s=0.5)],
    gates=[Gate("click", before="promotion")],
)


@pytest.mark.parametrize("seed", range(3))
def test_an_older_journal_gives_the_same_verdicts_with_the_controls_runs_looked_up(tmp_path, seed):
    live = journalled(tmp_path, seed, plan=OLD_PLAN)
    as_written_before(tmp_path)
    found = replay(tmp_path, OLD_PLAN.criteria, every_s=EVERY_S)
    by_phase = {verdict.phase: verdict for verdict in live}
    assert 2 == len(found.phases)
    for phase in found.phases:
        mine, again = ({each.name: each for each in verdict.findings} for verdict in (by_phase[phase.phase], phase.last))
        assert mine["error_rate"].numbers == again["error_rate"].numbers
        assert mine["latency>0.5s"].numbers == again["latency>0.5s"].numbers
        assert by_phase[phase.phase].outcome == phase.last.outcome


def a_line(event, t, **fields):
    return json.dumps({"event": event, "v": 1, "t": t, "rollout": "m", **fields})


def a_call(number, t, variant, phase, *, shadows=(), error=None):
    unit, bucket = f"{number * 2654435761 % 2**64:016x}", number % 512
    return a_line(
        "decision", t, id=f"id-{number}", strategy="canary", phase=phase, variant=variant, served=variant, reason="split",
        propensity=1.0, bucket=bucket, unit=unit, runs=[[variant, 0.01, error, None]], shadows=list(shadows),
    )  # fmt: skip


def a_shadow(number, t, phase, error=None):
    unit, bucket = f"{number * 2654435761 % 2**64:016x}", number % 512
    end = "ok" if error is None else "error"
    return a_line(
        "shadow", t, id=f"id-{number}", phase=phase, variant="v2", end=end, duration_s=0.01, bucket=bucket, unit=unit,
        **({} if error is None else {"error": error}),
    )  # fmt: skip


def written(folder, lines, *, shadow=1.0):
    head = a_line(
        "rollout", BEGIN_S, strategy="canary", control="control", variants=["control", "v2"], phase="0:0%", status="shadowing",
        revision=0, shares={"control": 1.0, "v2": 0.0}, shadow=shadow,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "events-1-0.jsonl").write_text("\n".join([head, *lines]) + "\n")


@pytest.mark.parametrize("shadow_first", [False, True])
def test_a_shadow_line_finds_its_call_before_and_after_it(tmp_path, shadow_first):
    """The control fails in every tenth call and the shadow in the same: identical models, as only pairs can tell."""
    lines = []
    for number in range(400):
        error = "ValueError" if number % 10 == 0 else None
        pair = [
            a_call(number, BEGIN_S + number, "control", "0:0%", shadows=["v2"], error=error),
            a_shadow(number, BEGIN_S + number, "0:0%", error),
        ]
        lines += reversed(pair) if shadow_first else pair
    written(tmp_path / "j", lines)
    (phase,) = replay(tmp_path / "j", OLD_PLAN.criteria).phases
    (errors,) = (each for each in phase.last.findings if each.name == "error_rate")
    assert {"control": 400, "v2": 400} == phase.last.units
    assert (40.0, 40.0) == (errors.numbers["control_total"], errors.numbers["value_total"])
    assert "FAIL" != phase.last.outcome


def test_recorded_metrics_are_passed_over_while_nobody_sees_a_candidate(tmp_path):
    lines = [a_call(number, BEGIN_S + number, "control", "0:0%", shadows=["v2"]) for number in range(300)]
    lines += [a_shadow(number, BEGIN_S + number, "0:0%") for number in range(300)]
    lines += [
        a_line(
            "outcome", BEGIN_S + 300, metric="click", value=1.0, id=f"id-{number}", phase="0:0%", variant="control",
            bucket=number % 512, decided=BEGIN_S + number,
        )
        for number in range(300)
    ]  # fmt: skip
    written(tmp_path / "j", lines)
    (phase,) = replay(tmp_path / "j", OLD_PLAN.criteria).phases
    assert {"assignment", "error_rate", "latency>0.5s"} == {each.name for each in phase.last.findings}


def served(numbers, share_of_v2, phase="1:50%", begin=BEGIN_S):
    """Calls of so many new units, of which v2 has every n-th."""
    return [
        a_call(number, begin + place, "v2" if place % share_of_v2 == 0 else "control", phase)
        for place, number in enumerate(numbers)
    ]


def test_a_replay_keeps_as_few_slices_of_time_as_the_service(tmp_path):
    from rollout_sdk.analysis.course import Course
    from rollout_sdk.analysis.facts import in_order
    from rollout_sdk.journal import read_journal

    errors = [
        a_call(
            number,
            BEGIN_S + 60 * number,
            "v2" if number % 2 else "control",
            "1:50%",
            error="ValueError" if number % 4 < 2 else None,
        )
        for number in range(600)
    ]
    written(tmp_path / "j", [changed(BEGIN_S, "promote", before="0:0%"), *errors])
    course = Course.begun("m", OLD_PLAN.criteria)
    for record in in_order(read_journal(tmp_path / "j"), "m", None):
        course.take(record)
        course.look(record["seen_s"])
    assert 5 > len(course.evidence.phases["1:50%"].sums["error_rate"].slices)


def changed(t, action, *, invalid="", phase="1:50%", before="1:50%"):
    extra = {"invalid": invalid} if invalid else {}
    return a_line(
        "transition", t, strategy="canary", action=action, status="running", revision=1, from_phase=before, to_phase=phase,
        shares={"control": 0.5, "v2": 0.5}, **extra,
    )  # fmt: skip


BROKEN = [
    changed(BEGIN_S, "promote", before="0:0%"),
    # Most of the candidate's units are lost, and then they are there.
    *served(range(240), 12),
    *served(range(240, 8240), 2, begin=BEGIN_S + 240),
]


def test_a_replay_latches_the_alarm_about_the_shares_and_says_when(tmp_path):
    written(tmp_path / "j", BROKEN)
    (phase,) = replay(tmp_path / "j", OLD_PLAN.criteria).phases
    assert (False, "ERROR", None) == (phase.last.valid, phase.last.outcome, phase.decided)
    assert phase.alarm.time_s < BEGIN_S + 240 < phase.last.time_s
    (assignment,) = (each for each in phase.last.findings if each.name == "assignment")
    # The evidence alone would have forgotten it.
    assert assignment.harm_log_e < assignment.harm_needed


def test_an_alarm_that_a_person_cleared_is_cleared_in_the_replay_and_only_the_phase_after_it_is_checked(tmp_path):
    cleared = BEGIN_S + 300
    lines = [
        *BROKEN[:241],
        changed(BEGIN_S + 239, "invalidate", invalid="broken"),
        changed(cleared, "resume", phase="2:50%"),
        *served(range(240, 3240), 2, begin=cleared + 60, phase="2:50%"),
    ]
    written(tmp_path / "j", lines)
    before, phase = replay(tmp_path / "j", OLD_PLAN.criteria).phases
    assert before.alarm is not None
    assert phase.last.valid
    (assignment,) = (each for each in phase.last.findings if each.name == "assignment")
    assert 3000 == sum(sum(counts) for counts, _ in assignment.numbers["strata"])


SPLIT_PLAN = Canary(
    [Step("20%", min_units=20, min_time=0), Step("50%", min_units=20, min_time=0)],
    guardrails=[Guardrail("error_rate", floor=0.2), Guardrail("latency", threshold_s=0.5)],
)


def described(phase, share):
    return a_line(
        "rollout", BEGIN_S, strategy="canary", control="control", variants=["control", "v2"], phase=phase, status="running",
        revision=0, shares={"control": 1 - share, "v2": share},
    )  # fmt: skip


def split(folder, lines, *, ways):
    """Calls of two phases, the step between which the first of so many processes makes."""
    folder.mkdir()
    before, step, after = lines
    for way in range(ways):
        mine = [line for number, line in enumerate(before) if number % ways == way]
        theirs = [line for number, line in enumerate(after) if number % ways == way]
        said = [described("0:20%", 0.2), *mine, *([step] if way == 0 else ()), *theirs]
        (folder / f"events-{way}-0.jsonl").write_text("\n".join(said) + "\n")
    return replay(folder, SPLIT_PLAN.criteria, every_s=EVERY_S)


@pytest.fixture
def two_phases():
    """A quarter of the candidate's calls fail in the second phase, in which it is rolled back."""
    step = changed(BEGIN_S + 600, "promote", before="0:20%")
    before = [a_call(n, BEGIN_S + n, "v2" if n % 5 == 0 else "control", "0:20%") for n in range(600)]
    after = [
        a_call(
            n,
            BEGIN_S + n + 0.5,
            "v2" if n % 2 else "control",
            "1:50%",
            error="ValueError" if n % 8 == 1 or n % 8 == 3 else None,
        )
        for n in range(600, 1800)
    ]
    return before, step, after


def test_a_replay_of_several_processes_comes_to_what_that_of_one_comes_to(tmp_path, two_phases):
    one, several = (split(tmp_path / f"{ways}", two_phases, ways=ways) for ways in (1, 3))
    assert one.as_dict() == several.as_dict()
    assert ["0:20%", "1:50%"] == [phase.phase for phase in one.phases]
    assert ("FAIL", True) == (one.phases[1].decided.outcome, one.phases[1].last.valid)


@pytest.mark.parametrize("early_s", [2.0, 2_000.0])
def test_calls_that_another_process_tells_of_before_the_step_are_judged_by_the_shares_of_their_phase(
    early_s, tmp_path, two_phases
):
    """The clocks of two machines are not one: some or all of the other's calls come before what is said of their phase."""
    before, step, after = two_phases
    told = {"ahead": json.dumps({**json.loads(step), "t": BEGIN_S + 600 + early_s}), "right": step}
    for clock, line in told.items():
        (tmp_path / clock).mkdir()
        (tmp_path / clock / "events-0-0.jsonl").write_text("\n".join([described("0:20%", 0.2), *before, line]) + "\n")
        (tmp_path / clock / "events-1-0.jsonl").write_text("\n".join([described("0:20%", 0.2), *after]) + "\n")
    expected, found = (replay(tmp_path / clock, SPLIT_PLAN.criteria, every_s=EVERY_S).phases[1] for clock in ("right", "ahead"))
    assert {"control": 600, "v2": 600} == expected.last.units
    assert expected.last.units == found.last.units
    assert without_the_clock(expected.last.findings) == without_the_clock(found.last.findings)
    assert ("FAIL", "FAIL") == (expected.decided.outcome, found.decided.outcome)
