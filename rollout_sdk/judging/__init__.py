"""The judge: computes measurements, findings and a verdict from evidence; pure, without a clock."""

from rollout_sdk.judging.evidence import Evidence
from rollout_sdk.judging.ingest import AddOutcome, add_outcome, add_routed, add_shadowed
from rollout_sdk.judging.judge import judge
from rollout_sdk.judging.look import Situation
from rollout_sdk.judging.metrics.base import Traffic
from rollout_sdk.judging.phase_evidence import PhaseEvidence
from rollout_sdk.judging.unit_sample import UnitSample, cell_of
from rollout_sdk.judging.verdicts import Finding, Outcome, Verdict

__all__ = [
    "AddOutcome",
    "Evidence",
    "Finding",
    "Outcome",
    "PhaseEvidence",
    "Situation",
    "Traffic",
    "UnitSample",
    "Verdict",
    "add_outcome",
    "add_routed",
    "add_shadowed",
    "cell_of",
    "judge",
]
