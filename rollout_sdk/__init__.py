"""Put a new ML model beside the one in production, and find out safely which is better.

Shadow it, canary it, A/B test it or interleave it, with one decorator:

    @rollout(candidate=rank_v2, strategy=Canary(["1%", "5%", "25%", "50%"]), unit="user_id")
    def rank(user_id: str, query: str) -> list[str]: ...
"""

from rollout_sdk.assignment import Layer, Phase, RouteRequest
from rollout_sdk.controller import RolloutController, record
from rollout_sdk.decorator import Decorated, rollout
from rollout_sdk.engine.context import current_decision, is_shadow
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.exceptions import (
    ConfigurationError,
    ConflictError,
    DecisionIdError,
    DuplicateKeyError,
    MissingUnitError,
    OutcomeError,
    PluginError,
    RolloutError,
    SignatureError,
    StateError,
    UnknownItemError,
    UnknownStrategyError,
)
from rollout_sdk.hookspecs import hookimpl
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
from rollout_sdk.runtime import Runtime, default_runtime
from rollout_sdk.status import RolloutStatus
from rollout_sdk.strategies import ABTest, Canary, Interleave, Shadow
from rollout_sdk.switch import disable, enable, is_disabled
from rollout_sdk.telemetry import Telemetry

__all__ = [
    "ABTest",
    "BreakerEvent",
    "Canary",
    "Comparison",
    "ConfigurationError",
    "ConflictError",
    "Decision",
    "DecisionIdError",
    "Decorated",
    "DuplicateKeyError",
    "Interleave",
    "Layer",
    "Merged",
    "MissingUnitError",
    "OutcomeError",
    "Phase",
    "PluginError",
    "RecordedEvent",
    "RolloutController",
    "RolloutError",
    "RolloutStatus",
    "RouteRequest",
    "Routed",
    "RoutedEvent",
    "Runtime",
    "Shadow",
    "ShadowLimits",
    "ShadowedEvent",
    "SignatureError",
    "StateError",
    "Telemetry",
    "TransitionedEvent",
    "UnknownItemError",
    "UnknownStrategyError",
    "current_decision",
    "default_runtime",
    "disable",
    "enable",
    "hookimpl",
    "is_disabled",
    "is_shadow",
    "record",
    "rollout",
]


def __getattr__(name: str) -> str:
    """The installed version, looked up only when somebody asks: reading metadata costs more than the import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("rollout-sdk")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
