"""Judging a candidate: evidence, measurements, findings and a verdict; pure, without a clock."""

from rollout_sdk.judging.bench import Situation
from rollout_sdk.judging.evidence import Evidence
from rollout_sdk.judging.ruling import judge
from rollout_sdk.judging.samples import UnitSample, cell_of
from rollout_sdk.judging.sums import PhaseEvidence
from rollout_sdk.judging.verdicts import Finding, Outcome, Verdict
from rollout_sdk.judging.witness import add_outcome, add_routed, add_shadowed

__all__ = [
    "Evidence",
    "Finding",
    "Outcome",
    "PhaseEvidence",
    "Situation",
    "UnitSample",
    "Verdict",
    "add_outcome",
    "add_routed",
    "add_shadowed",
    "cell_of",
    "judge",
]
