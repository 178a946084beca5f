"""Further public names for plugins and integrations.

`plugins/README.md` shows how to use them.
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
    """A call whose model is running.

    Attributes:
        decision: Its decision.
        is_traced: Whether it has a span, with the event of its decision.
    """

    decision: Decision
    is_traced: bool


def call_under_way() -> CallUnderWay | None:
    """Return the innermost call in whose model, or shadow, this code runs; None outside any.

    `rollout_sdk.current_decision()` also returns the decision of the last call that has ended, which in a thread that serves
    several requests may belong to another user.
    """
    call = current_call.get()
    # A call drops its arguments when it ends; its shadows run after that.
    if call is None or (call.kwargs is NO_KWARGS and not is_shadow()):
        return None
    return CallUnderWay(call.full_decision(), call.span is not None)


def controller_of(rollout: object) -> Controller:
    """Return the controller of a decorated function, or the controller itself.

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
    """Return the controller with this key in a runtime; None if there is none."""
    found = runtime.rollouts.get(key)
    return found if isinstance(found, RolloutController) else None


def controllers_of(key: str) -> list[Controller]:
    """Return the controllers with this key in this process: one for each runtime that has such a rollout."""
    found = (find_rollout(runtime, key) for runtime in all_runtimes())
    return [controller for controller in found if controller is not None]


def store_of(runtime: Runtime) -> StateStore:
    """Return the store of a runtime's rollouts, in memory by default, for a plugin's own parts and notes.

    Every call returns, or raises `StoreError`, in time. Names of a plugin's parts and notes must start with its name.
    """
    return runtime.reconciler.store


def newest(controller: Controller) -> Controller:
    """Return the current controller for the same key: a function decorated again, by a reloaded module, has a new one."""
    return find_rollout(controller.runtime, controller.key) or controller


def state_of(controller: Controller) -> RolloutState:
    """Return the state of a rollout in this process: status, phase, steps and revision."""
    local_state = controller.runtime.local_state(controller.key)
    # Registered when it was built, and kept while its runtime lives.
    assert local_state is not None
    return local_state.state
