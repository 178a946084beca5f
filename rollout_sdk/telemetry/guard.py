"""A guard around every use of OpenTelemetry: samplers, processors and exporters are the application's, and may raise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["guarded"]

F = TypeVar("F", bound=Callable[..., Any])


def guarded(method: F) -> F:
    """A method whose faults are counted (by its object's `failed`) and never raised; it then returns None."""

    @functools.wraps(method)
    def safe(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except BaseException as error:
            if not is_fault(error):
                raise
            self.failed("telemetry.spans", error)
            return None

    return safe  # type: ignore[return-value]
