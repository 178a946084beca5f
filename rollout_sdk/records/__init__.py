"""The facts of a rollout as frozen values: what was decided, run, compared, observed and changed.

Hooks receive these and nothing else. Each hook takes one object, so that a new field breaks nobody.
"""

from rollout_sdk.records.events import (
    BreakerEvent,
    RecordedEvent,
    RoutedEvent,
    RoutedRows,
    ShadowedEvent,
    ShadowEnd,
    TransitionAction,
    TransitionedEvent,
    Withheld,
)
from rollout_sdk.records.values import EXCLUDED_REASONS, FAILED_IF, UNMEASURED, Comparison, Decision, Merged, Routed, Run

__all__ = [
    "EXCLUDED_REASONS",
    "FAILED_IF",
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
