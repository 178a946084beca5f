"""How often the canary is wrong although it looks again and again, and how fast it is right. Simulated, and seeded.

The long version is `python benchmarks/canary_errors.py`, and in `make test-all`.
"""

import importlib
import math
import pkgutil
import statistics
import sys
from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve

import rollout_sdk.engine
from rollout_sdk import Canary, Guardrail, Step
from rollout_sdk.judging import Evidence

np = pytest.importorskip("numpy")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from canary_errors import COUNTED, exceeded  # noqa: E402
from worlds.canary import FastCanary, Units  # noqa: E402
from worlds.catalog import FAMILIES, WORLDS, world_named  # noqa: E402
from worlds.mirror import Mirrored, population  # noqa: E402
from worlds.numerics import fast_numerics  # noqa: E402
from worlds.power import errors_until_rollback, lost_units_alarm  # noqa: E402
from worlds.running import ALPHA, bound, errors, looks_of  # noqa: E402

CHECKS = [(world, mode) for world in WORLDS for mode in world.checks]


def names(check):
    world, mode = check
    return f"{world.name}-{mode}"


@pytest.mark.parametrize("family", FAMILIES)
def test_no_kind_of_error_is_more_frequent_than_alpha_in_a_dozen_looks(family):
    """Few runs of each world, and all worlds of a family together."""
    runs, looks = 4, 10
    together, tries = Counter(), Counter()
    for world in FAMILIES[family]:
        for mode in world.checks:
            made = errors(world, runs, looks, mode, first_seed=1000)
            assert [] == exceeded(made, runs, mode), (world.name, mode, made)
            for name, alpha in COUNTED[mode]:
                together[mode, name, alpha] += made[name]
                tries[mode, name, alpha] += runs
    for (mode, name, alpha), number in together.items():
        assert number <= max(tries[mode, name, alpha] * bound(tries[mode, name, alpha], alpha), alpha > 0), (family, mode, name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("check", CHECKS, ids=names)
def test_no_kind_of_error_is_more_frequent_than_alpha_in_fifty_looks(check):
    world, mode = check
    made = errors(world, 400, 50, mode)
    assert [] == exceeded(made, 400, mode), made


def test_ordinary_minutes_near_the_ceiling_are_not_left_out_for_what_chance_does_to_one_arm():
    """A day in which 45 % of all calls are slow in both arms: the minutes left out must not be the control's bad ones alone."""
    made = errors(world_named("slow near the ceiling, for hours"), 6, 100, "same")
    assert [] == exceeded(made, 6, "same"), made


def test_calls_in_arrays_leave_the_evidence_that_calls_one_by_one_leave():
    """With unknown latencies, a covariate, a window and a cap of calls, which the worlds have not all."""
    rng = np.random.default_rng(5)
    guardrails = [
        Guardrail("error_rate"),
        Guardrail("latency", threshold_s=0.5),
        Guardrail("latency_mean"),
        Guardrail("click", margin=0.1, window=60),
    ]
    strategy = Canary([Step(0.3, min_time=0)], guardrails=guardrails)
    users, number, start_s = Units.random(rng, 50), 600, 1_700_000_000.0
    fast = FastCanary(strategy, users, now_s=start_s, max_calls=7)
    slow = Evidence(strategy.criteria.all, max_calls_per_unit=7)
    who = rng.integers(0, 50, number)
    times_s = start_s + np.sort(rng.integers(0, 300_000, number)) / 1000
    failed, duration_s = rng.random(number) < 0.2, rng.lognormal(-1, 0.7, number)
    duration_s[rng.random(number) < 0.1] = np.nan
    covariate, arm = rng.normal(0, 1, number), fast.route(who)
    fast.add_calls(who, arm, times_s, failed=failed, duration_s=duration_s, covariate=covariate)
    phase = fast.state.phase
    for i, user in enumerate(who.tolist()):
        slow.add_call(
            phase.name,
            fast.arms[arm[i]],
            phase.exposure,
            int(users.cell[user]),
            int(users.bucket[user]),
            failed=bool(failed[i]),
            duration_s=None if math.isnan(duration_s[i]) else float(duration_s[i]),
            time_s=float(times_s[i]),
            covariate=float(covariate[i]),
        )
    tables = [each.phases[phase.name].as_dict() for each in (slow, fast.evidence)]
    for table in tables:
        table["events"].sort(key=str)
        for minutes in table["minutes"].values():
            minutes["kept"].sort(key=str)
    assert differ(*tables) is None
    assert slow.outcomes == fast.evidence.outcomes
    assert slow.outcomes["capped"] > 100


@pytest.fixture
def mirrored(monkeypatch):
    """Makes canaries whose every call, outcome, look and transition is also made by decorated functions."""
    made = []
    # All of them first: a module that is imported later would have the real clock.
    for each in pkgutil.iter_modules(rollout_sdk.engine.__path__):
        importlib.import_module(f"rollout_sdk.engine.{each.name}")
    for name, module in list(sys.modules.items()):
        if name.startswith("rollout_sdk.engine.") and hasattr(module, "perf_counter"):
            monkeypatch.setattr(module, "perf_counter", lambda: made[-1].perf_s)

    def make(*args, **options):
        made.append(Mirrored(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.runtime.close(1.0)


def plain(verdict):
    """A verdict without its words."""
    table = verdict.as_dict()
    del table["rollout"], table["reason"]
    for finding in table["findings"]:
        del finding["reason"]
    return table


def differ(one, other, where=""):
    """Where two tables differ, numbers by more than 1e-9; None where they are alike."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        found = (differ(one[name], other[name], f"{where}.{name}") for name in one)
        return next((each for each in found if each), None)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next((each for i, (a, b) in pairs if (each := differ(a, b, f"{where}[{i}]"))), None)
    if isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9):
        return None
    return None if one == other else f"{where}: {one} and {other}"


def small(name, calls=200):
    """A world with few calls, whose shadows, where there are any, all run."""
    world = world_named(name)
    steps = [Step(0, shadow=1.0, min_time=0) if getattr(step, "shadow", 0) else step for step in world.steps]
    return evolve(world, calls=40 if steps[0] != world.steps[0] else calls, steps=tuple(steps))


ALIKE = (
    ("ramp, drifting base", "same"),
    ("sticky ramp, clusters", "harm"),
    ("few returning users", "margin"),
    ("by the judge, defaults", "same"),
    ("outage 60% at 50%", "same"),
    ("shadow, no drops", "same"),
    ("labels later in one arm", "same"),
    ("pareto 2 at 50%", "same"),
    ("3 candidates x 4 guardrails", "margin"),
    ("mean latency", "harm"),
)


@pytest.mark.parametrize(("name", "mode"), ALIKE)
def test_the_simulated_canary_comes_to_the_verdicts_and_phases_of_the_public_api(mirrored, name, mode):
    """The same users, calls, failures, outcomes and clock, through decorated functions, `record` and `judge`."""
    world = small(name)
    for canary, _, number in looks_of(world, 3, 8, mode, population=population, make=mirrored):
        real, simulated = canary.seen[-1]
        assert differ(plain(real), plain(simulated)) is None, number
        assert canary.state.phase.name == canary.rank.rollout.status().phase
    assert 8 == len(canary.seen) or canary.state.status in {"promoted", "rolled_back"}


@pytest.mark.parametrize(("name", "mode"), ALIKE)
def test_the_judge_comes_to_the_same_numbers_with_numpy(name, mode):
    world = small(name)
    slow = [plain(verdict) for _, verdict, _ in looks_of(world, 4, 8, mode)]
    with fast_numerics(intervals=True):
        fast = [plain(verdict) for _, verdict, _ in looks_of(world, 4, 8, mode)]
    assert len(slow) == len(fast)
    assert [None] * len(slow) == [differ(*each) for each in zip(slow, fast, strict=True)]


def median_errors(ratio, runs, **options):
    with fast_numerics():
        return statistics.median(errors_until_rollback(ratio, seed, **options)[0] for seed in range(runs))


@pytest.mark.parametrize(("ratio", "most"), [(10.0, 4), (3.0, 10)])
def test_a_regression_at_one_percent_is_rolled_back_within_a_handful_of_errors(ratio, most):
    assert median_errors(ratio, 25, share=0.01, harm=0.0) <= most


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("ratio", "most"), [(10.0, 4), (3.0, 10), (2.0, 23)])
def test_two_hundred_regressions_at_one_percent_are_rolled_back_within_a_handful_of_errors(ratio, most):
    assert median_errors(ratio, 200, share=0.01, harm=0.0) <= most


def test_a_tenth_of_the_candidates_users_lost_at_one_percent_of_a_million_is_an_alarm():
    with fast_numerics():
        alarms = sum(lost_units_alarm(seed) for seed in range(20))
    assert alarms >= 19


def test_no_share_of_experiments_is_allowed_more_than_alpha_and_three_standard_errors():
    assert 0.0827 == pytest.approx(bound(400), abs=1e-4)
    assert 0.05 == ALPHA


def windows(success, requests, *, number=25, seed=1, share=0.5):
    """The verdicts of a canary that is looked at after every window of so many requests."""
    import random

    from rollout_sdk.judging import Situation, judge
    from rollout_sdk.plan import Criteria

    criteria, rng = Criteria(steps=[Step("50%", min_time=0)], guardrails=[Guardrail("error_rate")]), random.Random(seed)
    evidence = Evidence(criteria.all)
    situation = Situation(
        rollout="m", phase="0", revision=0, control="control", candidates=("v2",), step=criteria.steps[0], entered_s=0.0
    )
    for _ in range(number):
        for _ in range(requests):
            arm, cell = ("v2" if rng.random() < share else "control"), rng.getrandbits(32)
            failed = rng.random() > (success if arm == "v2" else 0.995)
            evidence.add_call(
                "0", arm, {"control": 1 - share, "v2": share}, cell, cell % 512, failed=failed, duration_s=0.0, time_s=0.0
            )
        yield judge(evidence, criteria, situation, 1.0).outcome


def test_a_healthy_candidate_with_little_traffic_is_not_aborted():
    """99.5 % at 20 requests a window: an alarm at any failure would abort nine of ten over 25 windows."""
    aborted = sum("FAIL" in windows(0.995, 20, seed=seed) for seed in range(100))
    assert aborted <= 100 * bound(100)


def test_an_unhealthy_candidate_with_much_traffic_is_aborted_in_the_first_windows():
    """95 % where the control has 99.5 %, at 1,000 requests a window."""
    for seed in range(10):
        verdicts = list(windows(0.95, 1000, seed=seed, number=3))
        assert "FAIL" in verdicts, (seed, verdicts)
