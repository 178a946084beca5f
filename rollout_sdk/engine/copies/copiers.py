"""Copying functions of the application, for types that the SDK does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rollout_sdk.engine.copies.kinds import Into, Kind
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Registered", "copier", "registered"]

T = TypeVar("T")

_copiers: dict[type, Registered] = {}
_changed: list[Callable[[], None]] = []


class Registered(Kind):
    """A type with a copying function of the application."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def copy(self, value: Any, into: Into, begun: Callable[[Any], None]) -> Any:  # noqa: ARG002
        twin = self._function(value)
        begun(twin)
        return twin


def copier(kind: type[T]) -> Callable[[Callable[[T], T]], Callable[[T], T]]:
    """Register how objects of a type, and of its subclasses, are copied: `@copier(Molecule)` above a function.

    Candidates and shadows then work on copies of such objects, wherever they stand in the arguments of a call.

        @rollout_sdk.copier(Molecule)
        def copy_molecule(molecule: Molecule) -> Molecule:
            return molecule.clone()

    Args:
        kind: The type. A later registration takes the place of an earlier one.

    Returns:
        A decorator that gives the function back as it is.

    Raises:
        ConfigurationError: `kind` is not a type, or what is decorated cannot be called.
    """
    if not isinstance(kind, type):
        raise ConfigurationError(
            f"copier got {kind!r:.60}, which is not a type. A copier is registered for one type and its subclasses. "
            "Write @copier(MyType)."
        )

    def register(function: Callable[[T], T]) -> Callable[[T], T]:
        if not callable(function):
            raise ConfigurationError(
                f"The copier of {kind.__qualname__!r} is {function!r:.60}, which cannot be called. A copier takes an object "
                "and returns its copy. Pass a function."
            )
        _copiers[kind] = Registered(function)
        for forget in _changed:
            forget()
        return function

    return register


def registered(kind: type) -> Registered | None:
    """The copier of a type or of its nearest base, or None."""
    return next((_copiers[base] for base in kind.__mro__ if base in _copiers), None) if _copiers else None


def when_changed(forget: Callable[[], None]) -> None:
    """Have this called after each registration."""
    _changed.append(forget)
