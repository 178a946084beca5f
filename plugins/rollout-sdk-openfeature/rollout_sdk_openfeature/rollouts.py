"""Which rollout is meant, and where it stands now."""

from __future__ import annotations

from typing import Any, TypeAlias

from rollout_sdk import ConfigurationError, RolloutController, is_shadow
from rollout_sdk.control.local_state import LocalState
from rollout_sdk.engine.call import Call
from rollout_sdk.engine.context import current_call
from rollout_sdk.engine.flow import NO_KWARGS

__all__ = ["Controller", "call_under_way", "controller_of", "current", "standing_of"]

Controller: TypeAlias = RolloutController[..., Any]


def controller_of(rollout: object) -> Controller:
    """The controller of a decorated function, or the controller itself.

    Raises:
        ConfigurationError: It is neither.
    """
    controller = rollout if isinstance(rollout, RolloutController) else getattr(rollout, "rollout", None)
    if not isinstance(controller, RolloutController):
        raise ConfigurationError(
            f"{rollout!r:.60} is no rollout. A rollout is a decorated function or its controller. "
            "Pass the function that @rollout(...) decorates."
        )
    return controller


def current(controller: Controller) -> Controller:
    """The controller that has the key now: a function that is decorated anew, by a reloaded module, has another one."""
    return controller.runtime.rollouts.get(controller.key, controller)


def standing_of(controller: Controller) -> LocalState:
    """Where a rollout stands in this process."""
    standing = controller.runtime.local_state(controller.key)
    # Registered when it was built, and kept for as long as its runtime lives.
    assert standing is not None
    return standing


def call_under_way() -> Call | None:
    """The innermost call in whose model this code runs, or whose shadow it is; None outside of any.

    `rollout_sdk.current_decision()` goes on to give the last call's decision when it has ended. In a thread that serves one
    request after the other, that is somebody else's.
    """
    call = current_call.get()
    # A call lets go of its arguments when it ends; its shadows run after that.
    return None if call is None or (call.kwargs is NO_KWARGS and not is_shadow()) else call
