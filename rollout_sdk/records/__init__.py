"""Frozen values that describe a rollout's facts: decisions, runs, comparisons, outcomes and transitions.

Hooks receive only these. Each hook takes one object, so that adding a field is backwards compatible.
"""

from rollout_sdk.records.calls import RoutedEvent, RoutedRows, ShadowedEvent, ShadowEnd, Withheld
from rollout_sdk.records.events import BreakerEvent, RecordedEvent, TransitionAction, TransitionedEvent
from rollout_sdk.records.values import (
    ERRORS,
    EXCLUDED_REASONS,
    FAILED_IF,
    INTERLEAVED,
    UNMEASURED,
    Comparison,
    Decision,
    Merged,
    Routed,
    Run,
)

__all__ = [
    "ERRORS",
    "EXCLUDED_REASONS",
    "FAILED_IF",
    "INTERLEAVED",
    "UNMEASURED",
    "BreakerEvent",
    "Comparison",
    "Decision",
    "Merged",
    "RecordedEvent",
    "Routed",
    "RoutedEvent",
    "RoutedRows",
    "Run",
    "ShadowEnd",
    "ShadowedEvent",
    "TransitionAction",
    "TransitionedEvent",
    "Withheld",
]
