"""What the tests of found faults share: calls and outcomes of units that are made by hand, and a plan to judge them by."""

from rollout_sdk import Step
from rollout_sdk.judging import Situation
from rollout_sdk.plan import Criteria

HALF = {"control": 0.5, "v2": 0.5}
PHASE = "0:50%"


def situation(**changed):
    about = {
        "rollout": "model", "phase": PHASE, "revision": 3, "control": "control", "candidates": ("v2",),
        "step": Step("50%", min_units=100, min_time=0), "entered_s": 0.0,
    }  # fmt: skip
    return Situation(**{**about, **changed})


def criteria(*guardrails, gates=()):
    return Criteria(steps=["50%"], guardrails=guardrails, gates=gates)


def call(evidence, rng, time_s, *, arm=None, failed=False, duration_s=0.01, shares=HALF, unit=None, phase=PHASE, **more):
    """A call of a unit (by default a new one) in an arm; the arm and the bucket."""
    arm = arm or ("v2" if rng.random() < shares["v2"] else "control")
    cell, bucket = unit or (rng.getrandbits(32), rng.randrange(512))
    evidence.add_call(phase, arm, shares, cell, bucket, failed=failed, duration_s=duration_s, time_s=time_s, **more)
    return arm, bucket


def outcome(evidence, metric, value, decision, arm, bucket, time_s):
    evidence.add_outcome(
        metric, value, decision=str(decision), phase_name=PHASE, arm=arm, bucket=bucket, decided_s=time_s, time_s=time_s
    )


def found(verdict, name):
    return next(finding for finding in verdict.findings if finding.name == name)
