"""What tests of acting share: a clock, and a judge that comes to what the test says."""

import threading

import pytest
from attrs import evolve

from rollout_sdk.judging import Finding, Verdict, judge
from rollout_sdk.testing import FakeClock


class Says:
    """A judge whose next verdicts a test sets; it keeps what it was asked."""

    def __init__(self):
        self.fields, self.asked = {}, []

    def __call__(self, **fields):
        self.fields = fields

    def judge(self, evidence, criteria, situation, now_s, previous=None):
        if threading.current_thread() is not threading.main_thread():
            # The background thread of a runtime that another test has left.
            return judge(evidence, criteria, situation, now_s, previous)
        self.asked.append((situation, previous))
        fields = {"outcome": "INCONCLUSIVE", "reason": "as the test says.", **self.fields}
        verdict = Verdict(
            rollout=situation.rollout,
            phase=situation.phase,
            revision=situation.revision,
            time_s=now_s,
            units={},
            outcomes={},
            passed=situation.candidates if fields["outcome"] == "PASS" else (),
            failed=situation.candidates[:1] if fields["outcome"] == "FAIL" else (),
            **fields,
        )
        if verdict.valid:
            return verdict
        broken = {"name": "assignment", "kind": "assignment", "candidate": None, "numbers": {}}
        broken |= {"harm_log_e": 9.0, "harm_needed": 7.0}
        return evolve(verdict, findings=(Finding(outcome="ERROR", reason="the shares are broken.", **broken),))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def says(monkeypatch):
    made = Says()
    monkeypatch.setattr("rollout_sdk.control.judge_loop.judge", made.judge)
    return made
