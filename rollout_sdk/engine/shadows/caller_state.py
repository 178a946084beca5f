"""Recreates the caller's thread state around its shadows: torch's modes, numpy's error handling, and plugins' own state.

Context variables come with the copy of the caller's context; this module covers the rest. The state is read in the caller's
thread when the input is copied, and entered in the shadow's. The shadow of a coroutine shares its caller's thread and
alternates with it, so there the state is entered for every step and left whenever the shadow waits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from attrs import frozen

from rollout_sdk.concurrency.threads import imported
from rollout_sdk.resilience.interruptions import is_fault

if TYPE_CHECKING:
    from rollout_sdk.assignment import RouteRequest
    from rollout_sdk.plugins.manager import Failed, PluginSet

__all__ = ["CallerState", "Surround", "is_stateful", "surrounds_of"]

T = TypeVar("T")
Entered: TypeAlias = Callable[[], Iterator[AbstractContextManager[Any]]]
"""Yields, in the order to enter them, context managers that recreate the caller's thread state."""

_NUMPY = "numpy.core._multiarray_umath"
"""A module that exists only in numpy before 2.0."""
_DEVICES = ("cpu", "cuda", "xpu", "mps")
"""Device types, each with an autocast setting of its own."""


@frozen
class Surround:
    """One plugin's `rollout_surround`, with each of its three calls guarded."""

    ask: Callable[[RouteRequest], AbstractContextManager[Any] | None]
    enter: Callable[[AbstractContextManager[Any]], bool | None]
    leave: Callable[[AbstractContextManager[Any]], None]


def surrounds_of(hooks: PluginSet) -> tuple[Surround, ...]:
    """Return the surroundings of every plugin; one that fails three times in a row is suspended."""
    return tuple(
        Surround(
            hooks.guard(name, partial(_asked, ask)),
            hooks.guard(name, _enter, longest_s=math.inf),
            hooks.guard(name, _leave, longest_s=math.inf),
        )
        for name, ask in hooks.implementations("rollout_surround")
    )


def _asked(ask: Callable[[RouteRequest], Any], request: RouteRequest) -> Any:
    given = ask(request)
    if given is not None and not (hasattr(type(given), "__enter__") and hasattr(type(given), "__exit__")):
        raise TypeError(f"{type(given).__qualname__} is not a context manager")
    return given


def _enter(manager: AbstractContextManager[Any]) -> bool:
    manager.__enter__()
    return True


def _leave(manager: AbstractContextManager[Any]) -> None:
    manager.__exit__(None, None, None)


def is_stateful() -> bool:
    """Whether a library is loaded that keeps state by thread."""
    return "torch" in sys.modules or _NUMPY in sys.modules


class CallerState:
    """Thread state of a shadow's caller."""

    __slots__ = ("_asked", "_failed", "_libraries")

    def __init__(self, surrounds: Sequence[Surround], request: Callable[[], RouteRequest], failed: Failed) -> None:
        """Read the state, in the caller's thread."""
        self._failed = failed
        self._libraries: list[Entered] = []
        for name, look in _LIBRARIES.items():
            if (module := imported(name)) is not None:
                try:
                    self._libraries.append(look(module))
                # A version without these functions.
                except BaseException as error:
                    if not is_fault(error):
                        raise
                    failed(f"surroundings.{name}", error)
        self._asked: list[tuple[Surround, AbstractContextManager[Any]]] = []
        if surrounds:
            about = request()
            self._asked = [(each, manager) for each in surrounds if (manager := each.ask(about)) is not None]

    @classmethod
    def of(cls, surrounds: Sequence[Surround], request: Callable[[], RouteRequest], failed: Failed) -> CallerState | None:
        """Return the current thread's state; None if nothing that could set such state is loaded."""
        return cls(surrounds, request, failed) if surrounds or is_stateful() else None

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function with the caller's thread state."""
        left: list[Callable[[], Any]] = []
        try:
            self._enter_all(left)
            return function(*args)
        finally:
            for leave in reversed(left):
                self._guarded(leave)

    def _enter_all(self, left: list[Callable[[], Any]]) -> None:
        def libraries() -> None:
            for entered in self._libraries:
                for manager in entered():
                    _enter(manager)
                    left.append(partial(_leave, manager))

        self._guarded(libraries)
        for surround, given in self._asked:
            # A manager made by @contextmanager can be entered only once; this is how contextlib reuses it as a decorator.
            recreate = getattr(given, "_recreate_cm", None)
            manager = given if recreate is None else recreate()
            if self._guarded(partial(surround.enter, manager)):
                left.append(partial(surround.leave, manager))

    def _guarded(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        # Catches everything: an interruption raised by a plugin must not end a worker, or the caller's event loop.
        except BaseException as error:
            self._failed("surroundings", error)
            return None


def _torch(torch: Any) -> Entered:
    """Inference mode, grad mode and, from torch 2.4 on, autocast and the default device; only differences are entered."""
    inference, grad, recent = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), hasattr(torch, "get_autocast_dtype")
    device, cache = torch.get_default_device() if recent else None, torch.is_autocast_cache_enabled()
    autocasts = {each: _autocast(torch, each) for each in _DEVICES} if recent else {}

    def entered() -> Iterator[AbstractContextManager[Any]]:
        if torch.is_inference_mode_enabled() != inference:
            yield torch.inference_mode(inference)
        # After inference mode, which changes grad mode.
        if torch.is_grad_enabled() != grad:
            yield torch.set_grad_enabled(grad)
        for kind, wanted in autocasts.items():
            if _autocast(torch, kind) != wanted:
                yield torch.autocast(kind, dtype=wanted, enabled=wanted is not None, cache_enabled=cache)
        if recent and torch.get_default_device() != device:
            yield torch.device(device)

    return entered


def _autocast(torch: Any, kind: str) -> Any:
    """Return the dtype that autocast uses on a device type; None if it is off."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _numpy(umath: Any) -> Entered:
    """Error handling of numpy before 2.0; later versions keep it in a context variable."""
    # numpy returns the list itself and later changes it in place.
    wanted = list(umath.geterrobj())

    @contextmanager
    def errors() -> Iterator[None]:
        before = list(umath.geterrobj())
        umath.seterrobj(list(wanted))
        try:
            yield
        finally:
            umath.seterrobj(before)

    return lambda: iter([errors()]) if umath.geterrobj() != wanted else iter(())


_LIBRARIES: dict[str, Callable[[Any], Entered]] = {"torch": _torch, _NUMPY: _numpy}
