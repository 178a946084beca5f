"""What tests of the judge share: evidence that is added to by hand, and what comes of it."""

import random
from collections import Counter

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.judging import Evidence, Situation, judge
from rollout_sdk.judging.look import Look
from rollout_sdk.plan import Criteria

HALF = {"control": 0.5, "v2": 0.5}
PAIRS = {"control": 1.0, "v2": 1.0}
ERRORS = Guardrail("error_rate")
SLOW = Guardrail("latency", threshold_s=0.1, margin=0.05)
SCORE = Guardrail("score", margin=0.5)
NOW_S = 1e6
START_MINUTE = 1000


def situation(**changed):
    about = {
        "rollout": "model", "phase": "0:50%", "revision": 0, "control": "control", "candidates": ("v2",),
        "step": Step("50%", min_units=0, min_time=0), "entered_s": 0.0,
    }  # fmt: skip
    return Situation(**{**about, **changed})


def criteria(*each, **options):
    guardrails = [criterion for criterion in each if isinstance(criterion, Guardrail)]
    gates = [criterion for criterion in each if isinstance(criterion, Gate)]
    return Criteria(steps=["50%"], guardrails=guardrails, gates=gates, **options)


class Seen:
    """Evidence that is added to by hand; each call is one of a new unit, and the units fill the buckets evenly."""

    def __init__(self, *each, phase="0:50%", shares=None, seed=1, **options):
        self.plan, self.phase, self.shares = criteria(*each, **options), phase, shares or HALF
        self.evidence, self.rng, self.count = Evidence(self.plan.all), random.Random(seed), Counter()

    def call(self, arm="v2", number=1, *, failed=False, duration_s=0.01, time_s=0.0, cell=None, bucket=None, values=(), **more):
        for _ in range(number):
            unit = self.rng.getrandbits(32) if cell is None else cell
            at = self.count[arm] % 512 if bucket is None else bucket
            self.count[arm] += 1
            self.evidence.add_call(
                self.phase, arm, self.shares, unit, at, failed=failed, duration_s=duration_s, time_s=time_s, **more
            )
            for metric, value in dict(values).items():
                self.evidence.add_outcome(
                    metric, value, decision=f"{self.phase}/{arm}/{self.count[arm]}", phase_name=self.phase, arm=arm, bucket=at,
                    decided_s=time_s, time_s=time_s,
                )  # fmt: skip
        return self

    def both(self, number=1, **call):
        for arm in HALF:
            self.call(arm, number, **call)
        return self

    def verdict(self, now_s=NOW_S, previous=None, **changed):
        return judge(self.evidence, self.plan, situation(phase=self.phase, **changed), now_s, previous)

    def finding(self, name, **options):
        return next(each for each in self.verdict(**options).findings if each.name == name)

    def numbers(self, name, **options):
        return self.finding(name, **options).numbers

    def look(self, now_s=NOW_S, **changed):
        return Look(self.evidence.in_order(), self.plan, situation(phase=self.phase, **changed), now_s)


def toss(arm, number):
    """1.0 for a third of the units, and for others in the other arm."""
    return float((number + (arm == "v2")) % 3 == 0)
