"""The runtimes of this process: the default one, and one for each set of settings that was pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeVar
from weakref import WeakValueDictionary

from rollout_sdk.concurrency.forking import ForkSafeLock
from rollout_sdk.concurrency.threads import living

__all__ = ["add", "default", "is_default", "known", "restored"]


class Kind(Protocol):
    """The class of runtimes."""

    _origin: str

    @classmethod
    def from_environment(cls) -> Self:
        """Create a runtime from environment variables."""
        ...


R = TypeVar("R", bound=Kind)

_default: Any = None
_runtimes: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""Runtimes by origin, so that one that is unpickled twice is the same."""

_publishing = ForkSafeLock()


def add(origin: str, runtime: object) -> None:
    """Remember a runtime while it is in use.

    Args:
        origin: Identifies its settings in all processes.
        runtime: The runtime.
    """
    _runtimes[origin] = runtime


def known() -> list[Any]:
    """Return the runtimes that are still in use."""
    return living(_runtimes)


def is_default(runtime: object) -> bool:
    """Whether it is the default runtime."""
    return runtime is _default


def default(kind: type[R]) -> R:
    """Return the default runtime, created at the first use from the environment."""
    global _default  # noqa: PLW0603 - the one global of the package
    if _default is None:
        built = kind.from_environment()
        # Two threads may both create one; both get the first, and the other is dropped before it starts anything.
        with _publishing:
            _default = built if _default is None else _default
    found: R = _default
    return found


def restored(kind: type[R], origin: str, was_default: bool, options: Mapping[str, Any]) -> R:  # noqa: FBT001 - pickle
    """Return this process's runtime for one that was pickled, here or elsewhere."""
    found: R | None = _runtimes.get(origin)
    if found is None:
        if was_default:
            return default(kind)
        found = kind(**options)
        found._origin = origin  # noqa: SLF001 - the same package
        found = _runtimes.setdefault(origin, found)
    return found
