"""Lines of a journal that cannot be counted are said to be so, and hide none of the others."""

import pytest

from rollout_sdk.analysis import judged, summarise
from tests.analysis.test_early import decision, outcome, write


def refused(folder):
    (verdict,) = (each.verdict for each in summarise(folder).rollouts)
    return sum(verdict.calls.values()), [check.what.partition(",")[0] for check in verdict.checks if check.name == "refused"]


@pytest.fixture(autouse=True)
def few_phases(monkeypatch):
    monkeypatch.setattr(judged, "MOST_PHASES", 1)


@pytest.mark.parametrize(
    ("phases", "expected"), [(2, []), (3, ["1 line cannot be counted"]), (5, ["3 lines cannot be counted"])]
)
def test_calls_of_phases_beyond_those_that_are_kept(tmp_path, phases, expected):
    write(tmp_path, "a", *(decision(f"d{number}", 1e9 + number, phase=f"{number}:50%") for number in range(phases)))
    assert expected == refused(tmp_path)[1]


def test_a_phase_that_is_kept_goes_on_after_others_were_refused(tmp_path):
    phases = (0, 1, 2, 0, 1, 2)
    write(tmp_path, "a", *(decision(f"d{at}", 1e9 + at, phase=f"{number}:50%") for at, number in enumerate(phases)))
    assert ["2 lines cannot be counted"] == refused(tmp_path)[1]


def test_values_that_would_spoil_a_sum(tmp_path):
    calls = [decision(f"d{number}", 1e9 + number) for number in range(3)]
    values = [outcome(f"d{number}", 1e9 + number, 1e9, value=value) for number, value in enumerate((1e51, -1e51, 1.0))]
    write(tmp_path, "a", *calls, *values)
    assert (3, ["2 lines cannot be counted"]) == refused(tmp_path)
