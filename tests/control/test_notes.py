"""Verdicts as the store keeps them for other processes: what this version cannot use is refused, whatever it is."""

from json import dumps

import pytest

from rollout_sdk import Verdict
from rollout_sdk.control.stored_status import phase_number, verdict_from_note

VERDICT = Verdict(
    rollout="model", outcome="PASS", reason="all is well.", phase="3:25%", revision=7, time_s=1.8e9, passed=("v2",),
    units={"control": 100, "v2": 100}, outcomes={"counted": 5},
)  # fmt: skip


def note(**changed):
    return dumps({**VERDICT.as_dict(), **changed})


def test_a_verdict_is_read_as_it_was_written():
    assert VERDICT == verdict_from_note(note())
    assert 3 == phase_number(verdict_from_note(note()))


@pytest.mark.parametrize(
    "changed",
    [
        {"phase": "25%"}, {"phase": ""}, {"phase": None}, {"phase": 3}, {"time_s": "soon"}, {"time_s": None},
        {"units": 7}, {"findings": [7]}, {"findings": None}, {"passed": 7}, {"outcomes": "x"},
        {"revision": None}, {"revision": "7"},
    ],
    ids=str,
)  # fmt: skip
def test_a_verdict_that_cannot_be_used_is_a_value_error(changed):
    with pytest.raises(ValueError):
        verdict_from_note(note(**changed))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "7", "{", "[" * 100_000], ids=lambda text: text[:5])
def test_what_is_no_verdict_is_a_value_error(text):
    with pytest.raises(ValueError):
        verdict_from_note(text)
