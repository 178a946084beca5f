"""The caller's trace across a handle: Ray passes arguments to a replica, but no context."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from opentelemetry import context, propagate

__all__ = ["CARRIER", "carrier", "continues_trace"]

CARRIER = "rollout_trace"
"""The keyword argument that carries the context."""

F = TypeVar("F", bound=Callable[..., Any])


def carrier() -> dict[str, str]:
    """Return the current context, written by the application's propagators: by default W3C's `traceparent` and `baggage`."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def continues_trace(method: F) -> F:
    """Decorate a deployment's method so that it runs in the trace of its caller.

        @serve.deployment
        class Ranker:
            @continues_trace
            async def rank(self, user, query): ...

    Its spans are children of the call's span, if the call comes from `variant(handle.rank, carries_trace=True)`; other calls
    are unchanged. Functions, coroutine functions and both kinds of generators keep their kind. It needs no OpenTelemetry
    SDK, and does nothing without one. A method of `@serve.batch` serves several callers at the same time: decorate the method
    that awaits it.
    """
    kinds: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
        (inspect.iscoroutinefunction, _coroutine_function),
        (inspect.isasyncgenfunction, _async_generator_function),
        (inspect.isgeneratorfunction, _generator_function),
    )
    make = next((make for is_kind, make in kinds if is_kind(method)), _function)
    return functools.wraps(method)(make(method))  # type: ignore[return-value] # of the same kind and parameters


class _Trace:
    """The context of one call of a method: at first the caller's, then the one that the method leaves between two items."""

    def __init__(self, kwargs: dict[str, Any]) -> None:
        headers = kwargs.pop(CARRIER, None)
        self._context = propagate.extract(headers) if headers else None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Enter the context, and leave it afterwards: the reader of a generator runs in the same thread or task."""
        if self._context is None:
            yield
            return
        token = context.attach(self._context)
        try:
            yield
        finally:
            self._context = context.get_current()
            context.detach(token)


def _coroutine_function(method: Callable[..., Any]) -> Callable[..., Any]:
    async def continued(*args: Any, **kwargs: Any) -> Any:
        with _Trace(kwargs).entered():
            return await method(*args, **kwargs)

    return continued


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    def continued(*args: Any, **kwargs: Any) -> Any:
        with _Trace(kwargs).entered():
            return method(*args, **kwargs)

    return continued


_END = object()


def _generator_function(method: Callable[..., Any]) -> Callable[..., Any]:
    def continued(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        trace, items = _Trace(kwargs), method(*args, **kwargs)
        try:
            while True:
                with trace.entered():
                    item = next(items, _END)
                if item is _END:
                    return
                yield item
        finally:
            with trace.entered():
                items.close()

    return continued


def _async_generator_function(method: Callable[..., Any]) -> Callable[..., Any]:
    async def continued(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        trace, items = _Trace(kwargs), method(*args, **kwargs)
        try:
            while True:
                with trace.entered():
                    item = await anext(items, _END)
                if item is _END:
                    return
                yield item
        finally:
            with trace.entered():
                await items.aclose()

    return continued
