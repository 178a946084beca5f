"""Deployment handles as the variants of a rollout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from inspect import Parameter, Signature, signature
from typing import Any

from ray.serve.handle import DeploymentHandle

from rollout_sdk import ConfigurationError
from rollout_sdk_ray.tracing import CARRIER, carrier

__all__ = ["variant"]


def variant(
    handle: DeploymentHandle[Any],
    *,
    like: Callable[..., Any] | None = None,
    is_async: bool = True,
    carries_trace: bool = False,
) -> Callable[..., Any]:
    """Return a function that calls a deployment, as control or candidate of a rollout.

        rank = rollout(candidate=variant(v2.rank), strategy=Canary(["5%", "50%"]), unit="user")(variant(v1.rank))

    The function calls the deployment and waits for its answer, so that the answer's errors and time are those of the call. For
    a handle with `stream=True`, it is a generator of the answer's items. If the caller stops waiting or reading, the request
    is cancelled.

    Args:
        handle: A handle (its deployment is called) or a method of it: `handle.rank`, `handle.options(stream=True).tokens`.
        like: A function with the deployment's parameters, such as the method of its class; the parameter `self` is left out.
            None: any arguments are accepted; `unit=` and other options then find parameters that are passed by keyword.
        is_async: Whether it is a coroutine function or async generator function, as replicas need; False for code that has no
            event loop, such as a batch job: a plain function or a generator function.
        carries_trace: Whether the deployment's method is decorated with `continues_trace`, and gets the caller's trace context.

    Returns:
        A function of the kind that the handle and `is_async` require. Its name, and so the default key of the rollout, consists
        of the application, the deployment and the method.

    Raises:
        ConfigurationError: `handle` is not a handle.
    """
    if not isinstance(handle, DeploymentHandle):
        raise ConfigurationError(
            f"variant got {handle!r:.60}, which is not a handle of a deployment. A variant calls a deployment of Ray Serve. "
            "Pass a handle or its method: variant(handle.rank), without .remote."
        )
    options = handle.handle_options
    call = _Call(handle, carries_trace=carries_trace)
    kinds: dict[tuple[bool, bool], Callable[[_Call], Callable[..., Any]]] = {
        (True, False): _coroutine_function,
        (True, True): _async_generator_function,
        (False, False): _function,
        (False, True): _generator_function,
    }
    function: Any = kinds[is_async, bool(options.stream)](call)
    # Names are the same in every process, independent of its imports: records and default keys use them.
    function.__module__ = handle.app_name or "serve"
    function.__name__ = options.method_name
    function.__qualname__ = f"{handle.deployment_name}.{options.method_name}"
    function.__doc__ = f"Calls {function.__qualname__} of the application {handle.app_name!r}."
    if like is not None:
        function.__signature__ = _without_self(like)
    return function  # type: ignore[no-any-return] # of any kind


def _without_self(function: Callable[..., Any]) -> Signature:
    found = signature(function)
    parameters = list(found.parameters.values())
    if parameters and parameters[0].name == "self" and parameters[0].kind is not Parameter.KEYWORD_ONLY:
        del parameters[0]
    return found.replace(parameters=parameters)


class _Call:
    """Starts requests of one handle."""

    def __init__(self, handle: DeploymentHandle[Any], *, carries_trace: bool) -> None:
        self._handle = handle
        self._carries_trace = carries_trace

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._carries_trace:
            kwargs = {**kwargs, CARRIER: carrier()}
        return self._handle.remote(*args, **kwargs)


def _coroutine_function(call: _Call) -> Callable[..., Any]:
    async def answer(*args: Any, **kwargs: Any) -> Any:
        response = call(args, kwargs)
        try:
            return await response
        except asyncio.CancelledError:
            # Cancelled by the caller or a deadline: the replica need not continue.
            response.cancel()
            raise

    return answer


def _async_generator_function(call: _Call) -> Callable[..., Any]:
    async def items(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        response, has_ended = call(args, kwargs), False
        try:
            async for item in response:
                yield item
            has_ended = True
        finally:
            if not has_ended:
                response.cancel()

    return items


def _function(call: _Call) -> Callable[..., Any]:
    def answer(*args: Any, **kwargs: Any) -> Any:
        return call(args, kwargs).result()

    return answer


def _generator_function(call: _Call) -> Callable[..., Any]:
    def items(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        response, has_ended = call(args, kwargs), False
        try:
            yield from _each(response)
            has_ended = True
        finally:
            if not has_ended:
                response.cancel()

    return items


def _each(response: Any) -> Generator[Any, None, None]:
    """Yield the items of a response. `yield from` would also pass on sent values, which a response does not accept."""
    for item in response:  # noqa: UP028
        yield item
