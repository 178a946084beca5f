"""The hooks a plugin may implement: markers and specifications, nothing else.

A plugin is any object, class or module with functions of these names; `@hookimpl` is only needed for pluggy's options
(`tryfirst`, `trylast`). Hooks are synchronous and pure: they call no model, do no I/O and read no clock, except the
observers, which run off the caller's path and may do what they like. A hook that raises is passed over and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pluggy

from rollout_sdk.assignment import Phase, RouteRequest
from rollout_sdk.records import (
    BreakerEvent,
    Comparison,
    Decision,
    Merged,
    RecordedEvent,
    RoutedEvent,
    ShadowedEvent,
    TransitionedEvent,
)

if TYPE_CHECKING:
    from rollout_sdk.plugins.store_protocol import StateStore

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "rollout_sdk"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def rollout_phases(control: str, candidates: tuple[str, ...]) -> Sequence[Phase] | None:
    """The periods of constant shares that the strategy goes through, in order; asked once, when decorating.

    Every phase has the control's name, a printable name of its own, and shares of the same candidates. With more than one
    (or with an attribute `steps`) the strategy ramps: an operator can promote it and set its shares. Refuse what cannot work
    here, with a `ConfigurationError`. None, or no implementation: one phase without shares.
    """


@hookspec(firstresult=True)
def rollout_route(request: RouteRequest) -> Decision | None:
    """The decision for a call; None leaves it to the next plugin, and at the end to the control.

    Must give the same unit the same variant while the phase lasts. Runs on the caller's path: microseconds, no I/O.
    """


@hookspec
def rollout_decided(request: RouteRequest, decision: Decision) -> None:
    """A call was decided, and nothing has run yet: called in the caller's thread and context, in the plugins' order.

    The caller's span is the current one, and a context variable that is set here is seen by the variant, its shadows and the
    caller. `decision` has its id, and is what `current_decision()` gives. Called for every call that observers hear of and for
    every row of a batch, whatever decided it; not by `controller.assign`, and not while the kill switch is on. Before the first
    item of a generator. Nothing that it does changes the decision. Runs on the caller's path: microseconds, no I/O.
    """


@hookspec(firstresult=True)
def rollout_arguments(request: RouteRequest) -> Mapping[str, Any] | None:
    """Arguments, by parameter name, that all blended variants get in place of the caller's; None leaves the caller's own.

    When the answers cannot be blended, `rollout_merge` may give the control's list fit to be served (`is_blend=False`);
    otherwise the control runs again, as it was called.
    """


@hookspec(firstresult=True)
def rollout_merge(request: RouteRequest, outputs: Mapping[str, Any]) -> Merged | None:
    """One answer made of the outputs of all blended variants (by name); None serves the control's."""


@hookspec(firstresult=True)
def rollout_compare(request: RouteRequest, control: Any, candidate: Any) -> Comparison | None:
    """How a shadow's output compares with the control's, in the background; None leaves it to the next plugin."""


@hookspec
def rollout_surround(request: RouteRequest) -> AbstractContextManager[Any] | None:
    """What of its caller's surroundings, beyond context variables, a shadow is to run in; None: nothing.

    Called in the caller's thread and context when the shadow's input is copied, before the control runs. Look at what is set
    there (a device, a precision, a tenant that is kept for each thread) and return a context manager that sets it again. It
    is entered in the shadow's thread and context, around the run and the reading of its stream, not around the comparison. The
    shadow of a coroutine runs in its caller's thread, by turns with it: there, the context manager is entered for every step
    and left whenever the shadow waits, so it must be possible to enter it again (one of `@contextlib.contextmanager` is made
    again). It is left without an exception, whatever the shadow raised. The context managers of all plugins are entered, in
    the plugins' order. Runs on the caller's path: microseconds, no I/O.
    """


@hookspec
def rollout_routed(event: RoutedEvent) -> None:
    """A call was decided and answered. In the background, in order."""


@hookspec
def rollout_shadowed(event: ShadowedEvent) -> None:
    """A shadow run ended. In the background."""


@hookspec
def rollout_recorded(event: RecordedEvent) -> None:
    """An outcome was recorded. In the background."""


@hookspec
def rollout_tripped(event: BreakerEvent) -> None:
    """A candidate's circuit breaker opened or closed in this process. In the background."""


@hookspec
def rollout_transitioned(event: TransitionedEvent) -> None:
    """A rollout changed its phase or status. In the background.

    Called once for every transition in every process that follows it, whatever made it: this process, another one's judge, the
    command line, the control file. `event.id` is the same in all of them, so that one of many can act on it. The start of a
    rollout, and what was done before this process began to follow, is not a transition here.
    """


@hookspec(firstresult=True)
def rollout_open_store(url: str) -> StateStore | None:
    """The store at an address whose scheme is the plugin's entry-point name: "redis://..." is opened by the plugin "redis".

    Asked once, when the runtime is built (or by the command line); it should not connect before the first use. Hold the store
    against `rollout_sdk.testing.StoreContract`. None: there is no store at this address.
    """


@hookspec
def rollout_strategies() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Strategy classes by the names under which `strategy="..."` finds them; called without arguments to build one."""
