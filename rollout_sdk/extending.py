"""What plugins and integrations need beside `rollout_sdk` itself.

What is exported here is public. `plugins/README.md` shows how it is used.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from attrs import frozen

from rollout_sdk.assignment import Share, parse_share
from rollout_sdk.concurrency.forking import renew_after_fork
from rollout_sdk.control.state import RolloutState
from rollout_sdk.control.stores import StateStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.controller import RolloutController
from rollout_sdk.engine.context import is_shadow
from rollout_sdk.engine.current import current_call
from rollout_sdk.engine.steps import NO_KWARGS
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.records import EXCLUDED_REASONS, Decision
from rollout_sdk.runtime import Runtime, all_runtimes
from rollout_sdk.telemetry import names
from rollout_sdk.telemetry.attributes import Versions
from rollout_sdk.telemetry.logs import get_logger

__all__ = [
    "EXCLUDED_REASONS",
    "CallUnderWay",
    "Controller",
    "RolloutState",
    "Share",
    "Versions",
    "call_under_way",
    "controller_of",
    "controllers_of",
    "find_rollout",
    "get_logger",
    "names",
    "newest",
    "parse_share",
    "renew_after_fork",
    "state_of",
    "store_at",
    "store_of",
]

Controller: TypeAlias = RolloutController[..., Any]


@frozen
class CallUnderWay:
    """A call whose model runs now.

    Attributes:
        decision: Its decision.
        is_traced: Whether it has a span, which has the event of its decision.
    """

    decision: Decision
    is_traced: bool


def call_under_way() -> CallUnderWay | None:
    """The innermost call in whose model this code runs, or whose shadow it is; None outside of any.

    `rollout_sdk.current_decision()` also gives the decision of the last call that has ended, which in a thread that serves one
    request after the other may be another user's.
    """
    call = current_call.get()
    # A call lets go of its arguments when it ends; its shadows run after that.
    if call is None or (call.kwargs is NO_KWARGS and not is_shadow()):
        return None
    return CallUnderWay(call.full_decision(), call.span is not None)


def controller_of(rollout: object) -> Controller:
    """The controller of a decorated function, or the controller itself.

    Raises:
        ConfigurationError: It is neither.
    """
    controller = rollout if isinstance(rollout, RolloutController) else getattr(rollout, "rollout", None)
    if not isinstance(controller, RolloutController):
        raise ConfigurationError(
            f"{rollout!r:.60} is not a rollout. A rollout is a decorated function or its controller. "
            "Pass the function that @rollout(...) decorates."
        )
    return controller


def find_rollout(runtime: Runtime, key: str) -> Controller | None:
    """The controller of a key in a runtime; None where no function is decorated with it."""
    found = runtime.rollouts.get(key)
    return found if isinstance(found, RolloutController) else None


def controllers_of(key: str) -> list[Controller]:
    """The controllers of this process with this key: one in each runtime that has such a rollout."""
    found = (find_rollout(runtime, key) for runtime in all_runtimes())
    return [controller for controller in found if controller is not None]


def store_of(runtime: Runtime) -> StateStore:
    """The store of a runtime's rollouts, or the memory that takes its place; for parts and notes of a plugin's own.

    Whatever it does, there is an answer or a `StoreError` in time. Names of a plugin's parts and notes begin with its own name.
    """
    return runtime.reconciler.store


def newest(controller: Controller) -> Controller:
    """The controller that has the key now: a function that is decorated anew, by a reloaded module, has another one."""
    return find_rollout(controller.runtime, controller.key) or controller


def state_of(controller: Controller) -> RolloutState:
    """Where a rollout stands in this process: its status, phase, steps and revision."""
    local_state = controller.runtime.local_state(controller.key)
    # Registered when it was built, and kept for as long as its runtime lives.
    assert local_state is not None
    return local_state.state
