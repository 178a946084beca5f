"""The plan of a rollout: steps, guardrails, gates, freeze windows; values only."""

from rollout_sdk.plan.checks import Duration, as_duration, parse_duration
from rollout_sdk.plan.criteria import (
    ERROR_RATE,
    FIRST_ITEM,
    ITEMS_PER_S,
    JUDGE_PREFERENCE,
    LATENCY,
    LATENCY_MEAN,
    MEASURED,
    SHADOW_DIFFERENCE,
    SHADOW_MISMATCH,
    Criterion,
    Gate,
    Guardrail,
    OnFail,
    is_compared,
    is_judged,
    is_measured,
)
from rollout_sdk.plan.freeze import Freeze
from rollout_sdk.plan.plan import DEFAULT_GUARDRAILS, Criteria, Step, as_steps
from rollout_sdk.plan.table import as_criteria, from_written, load_criteria
from rollout_sdk.plan.written import written

__all__ = [
    "DEFAULT_GUARDRAILS",
    "ERROR_RATE",
    "FIRST_ITEM",
    "ITEMS_PER_S",
    "JUDGE_PREFERENCE",
    "LATENCY",
    "LATENCY_MEAN",
    "MEASURED",
    "SHADOW_DIFFERENCE",
    "SHADOW_MISMATCH",
    "Criteria",
    "Criterion",
    "Duration",
    "Freeze",
    "Gate",
    "Guardrail",
    "OnFail",
    "Step",
    "as_criteria",
    "as_duration",
    "as_steps",
    "from_written",
    "is_compared",
    "is_judged",
    "is_measured",
    "load_criteria",
    "parse_duration",
    "written",
]
