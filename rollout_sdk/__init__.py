"""Put a new ML model beside the one in production, and find out safely which is better.

Shadow it, canary it, A/B test it or interleave it, with one decorator:

    @rollout(candidate=rank_v2, strategy=Canary(["1%", "5%", "25%", "50%"]), unit="user_id")
    def rank(user_id: str, query: str) -> list[str]: ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollout_sdk._version import __version__ as __version__
    from rollout_sdk.assignment import Layer, Phase, RouteRequest, moved_units
    from rollout_sdk.assignment.ids import ItemToken, read_token
    from rollout_sdk.control.stored import StoredChange, StoredRollout, StoredStatus, operate
    from rollout_sdk.control.stored_status import Process
    from rollout_sdk.controller import RolloutController
    from rollout_sdk.controller.status import RolloutStatus
    from rollout_sdk.decorator import Decorated, rollout
    from rollout_sdk.engine.context import is_shadow, shadow_guard
    from rollout_sdk.engine.copies.copiers import copier
    from rollout_sdk.engine.current import current_decision
    from rollout_sdk.engine.judges.judge import Judge, Judgement, Money
    from rollout_sdk.engine.rollout import ShadowLimits
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
    from rollout_sdk.runtime.external import pseudonym, record
    from rollout_sdk.strategies.ab import ABTest
    from rollout_sdk.strategies.canary import Canary
    from rollout_sdk.strategies.interleave import Interleave
    from rollout_sdk.strategies.shadow import Shadow
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

# Where each name comes from; the imports above are read by type checkers and documentation only. A module is imported when one
# of its names is first read, so that a program pays for what it uses; the decorator imports what its calls need.
_HOMES = {
    "_version": "__version__",
    "assignment": "Layer Phase RouteRequest moved_units",
    "assignment.ids": "ItemToken read_token",
    "control.stored": "StoredChange StoredRollout StoredStatus operate",
    "control.stored_status": "Process",
    "controller": "RolloutController",
    "controller.status": "RolloutStatus",
    "decorator": "Decorated rollout",
    "engine.context": "is_shadow shadow_guard",
    "engine.copies.copiers": "copier",
    "engine.current": "current_decision",
    "engine.judges.judge": "Judge Judgement Money",
    "engine.rollout": "ShadowLimits",
    "engine.stopping": "disable",
    "exceptions": (
        "BatchError ConfigurationError ConflictError DeadlineError DecisionIdError DuplicateKeyError JournalError "
        "MissingUnitError MutationError NotAllowedError OutcomeError PluginError RolloutError ShadowEffectError "
        "ShadowProcessError SignatureError StateError StoreError UnknownItemError UnknownStrategyError UnreachableError "
        "WaitTimeoutError"
    ),
    "judging": "Finding Verdict",
    "plan": "Freeze Gate Guardrail Step",
    "plugins.hookspecs": "hookimpl",
    "records": "BreakerEvent Comparison Decision Merged RecordedEvent Routed RoutedEvent ShadowedEvent TransitionedEvent",
    "resilience.breaker": "Breaker",
    "resilience.kill_switch": "enable is_disabled",
    "runtime": "Runtime default_runtime",
    "runtime.external": "pseudonym record",
    "strategies.ab": "ABTest",
    "strategies.canary": "Canary",
    "strategies.interleave": "Interleave",
    "strategies.shadow": "Shadow",
    "telemetry": "Telemetry",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

# Not for type checkers, which would accept every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first read."""
        if (home := _HOME.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return found


def __dir__() -> list[str]:
    """List the public names, whether or not they are imported yet."""
    return sorted({*globals(), *_HOME})
