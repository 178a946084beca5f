"""Put a new ML model beside the one in production, and find out safely which is better.

Shadow it, canary it, A/B test it or interleave it, with one decorator:

    @rollout(candidate=rank_v2, strategy=Canary(["1%", "5%", "25%", "50%"]), unit="user_id")
    def rank(user_id: str, query: str) -> list[str]: ...
"""

from rollout_sdk.assignment import Layer, Phase, RouteRequest, moved_units
from rollout_sdk.assignment.ids import ItemToken, read_token
from rollout_sdk.control.stored import StoredChange, StoredRollout, StoredStatus, operate
from rollout_sdk.control.stored_status import Process
from rollout_sdk.controller import RolloutController
from rollout_sdk.decorator import Decorated, rollout
from rollout_sdk.engine.context import is_shadow
from rollout_sdk.engine.copies.copiers import copier
from rollout_sdk.engine.current import current_decision
from rollout_sdk.engine.judges.judge import Judge, Judgement, Money
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.engine.shadows.guards import shadow_guard
from rollout_sdk.engine.stopping import disable
from rollout_sdk.exceptions import (
    BatchError,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    DecisionIdError,
    DuplicateKeyError,
    JournalError,
    MissingUnitError,
    MutationError,
    NotAllowedError,
    OutcomeError,
    PluginError,
    RolloutError,
    ShadowEffectError,
    ShadowProcessError,
    SignatureError,
    StateError,
    StoreError,
    UnknownItemError,
    UnknownStrategyError,
    UnreachableError,
    WaitTimeoutError,
)
from rollout_sdk.external import pseudonym, record
from rollout_sdk.judging import Finding, Verdict
from rollout_sdk.plan import Freeze, Gate, Guardrail, Step
from rollout_sdk.plugins.hookspecs import hookimpl
from rollout_sdk.records import (
    BreakerEvent,
    Comparison,
    Decision,
    Merged,
    RecordedEvent,
    Routed,
    RoutedEvent,
    ShadowedEvent,
    TransitionedEvent,
)
from rollout_sdk.resilience.breaker import Breaker
from rollout_sdk.resilience.kill_switch import enable, is_disabled
from rollout_sdk.runtime import Runtime, default_runtime
from rollout_sdk.status import RolloutStatus
from rollout_sdk.strategies import ABTest, Canary, Interleave, Shadow
from rollout_sdk.telemetry import Telemetry

__all__ = [
    "ABTest",
    "BatchError",
    "Breaker",
    "BreakerEvent",
    "Canary",
    "Comparison",
    "ConfigurationError",
    "ConflictError",
    "DeadlineError",
    "Decision",
    "DecisionIdError",
    "Decorated",
    "DuplicateKeyError",
    "Finding",
    "Freeze",
    "Gate",
    "Guardrail",
    "Interleave",
    "ItemToken",
    "JournalError",
    "Judge",
    "Judgement",
    "Layer",
    "Merged",
    "MissingUnitError",
    "Money",
    "MutationError",
    "NotAllowedError",
    "OutcomeError",
    "Phase",
    "PluginError",
    "Process",
    "RecordedEvent",
    "RolloutController",
    "RolloutError",
    "RolloutStatus",
    "RouteRequest",
    "Routed",
    "RoutedEvent",
    "Runtime",
    "Shadow",
    "ShadowEffectError",
    "ShadowLimits",
    "ShadowProcessError",
    "ShadowedEvent",
    "SignatureError",
    "StateError",
    "Step",
    "StoreError",
    "StoredChange",
    "StoredRollout",
    "StoredStatus",
    "Telemetry",
    "TransitionedEvent",
    "UnknownItemError",
    "UnknownStrategyError",
    "UnreachableError",
    "Verdict",
    "WaitTimeoutError",
    "copier",
    "current_decision",
    "default_runtime",
    "disable",
    "enable",
    "hookimpl",
    "is_disabled",
    "is_shadow",
    "moved_units",
    "operate",
    "pseudonym",
    "read_token",
    "record",
    "rollout",
    "shadow_guard",
]


def __getattr__(name: str) -> str:
    """Return the installed version, on demand: reading metadata is more expensive than the import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("rollout-sdk")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
