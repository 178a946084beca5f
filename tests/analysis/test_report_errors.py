"""Reports that are looked at daily are seldom wrong: the benchmark's worlds, a few runs of each."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks/report_errors.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("report_errors", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_errors"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["report_errors"]


def checked(benchmark, world, runs):
    (none, worth) = benchmark.measured([world], runs)[world.name]
    most = benchmark.limit(runs) * runs
    assert (runs, runs) == (none.runs, worth.runs)
    assert none.shipped <= most
    assert worth.stopped <= most
    assert max(none.missed, worth.missed) <= most
    return none, worth


def test_daily_looks_at_equal_and_unequal_users_do_not_fool_anybody(benchmark):
    for world in (benchmark.WORLDS[0], benchmark.WORLDS[3]):
        checked(benchmark, world, 2)


def test_an_effect_of_three_times_what_is_worth_having_is_found(benchmark):
    """Power, so that a report that never concludes does not pass these tests."""
    counts = benchmark.Counts()
    for seed in range(2):
        benchmark.run(benchmark.WORLDS[0], seed, 3 * benchmark.MDE, counts)
    assert (2, 0) == (counts.shipped, counts.missed)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("index", range(6))
def test_no_world_has_more_wrong_reports_than_chance_allows(benchmark, index):
    checked(benchmark, benchmark.WORLDS[index], 200)
