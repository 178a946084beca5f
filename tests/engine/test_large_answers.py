"""`benchmarks/large_answers.py`: no caller of a shadowed function is slower than its budget, however large its answer is."""

import json
from pathlib import Path

import pytest

ARGUMENTS = ["--size", "2000", "--calls", "20", "--kinds", "array of numpy"]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import large_answers

    return large_answers


# The processor time of threads, which knows nothing of other programs, but of the caches that they empty.
@pytest.mark.slow
def test_no_caller_of_100_000_numbers_is_slower_than_its_budget(benchmark, capsys):
    assert benchmark.main(["--size", "2000", "--calls", "400", "--kinds", "array of numpy"]) == 0
    assert "budget" not in capsys.readouterr().out


def test_a_caller_over_its_budget_fails_the_benchmark(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "BUDGET_MS", -1.0)
    assert benchmark.main([*ARGUMENTS, "--answer", "100"]) == 1
    assert "array of numpy: a caller worked " in capsys.readouterr().out
    assert benchmark.main([*ARGUMENTS, "--answer", "100", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["over_budget"].keys() == {"ten numbers", "array of numpy"}


def test_the_budget_is_about_the_slowest_caller(benchmark):
    def waits(most):
        return {"bare, worked": {"p50": 2.0, "p100": 9.0}, "shadowed, worked": {"p50": 2.0, "p100": 2.0 + most}}

    assert benchmark.over_budget({"a": waits(8.0), "b": waits(8.5)}) == {"b": pytest.approx(8.5)}


def test_all_kinds_of_answers_match_their_equals(benchmark):
    made = {name: make(benchmark.np.linspace(-1.0, 1.0, 40)) for name, make in benchmark.kinds().items()}
    assert {"array of numpy", "array with a mask", "whole numbers beyond 2^53", "list of floats"} <= made.keys()
    assert all(
        benchmark.compare(each, benchmark.kinds()[name](benchmark.np.linspace(-1.0, 1.0, 40))).match
        for name, each in made.items()
    )
