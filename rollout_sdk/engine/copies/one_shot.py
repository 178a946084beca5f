"""Inputs that can be read only once: after a failed candidate has read one, no control can read it again.

Iterators, coroutines, files, uploads, requests, sockets, queues, database cursors, websockets, ASGI's `receive`. They are known
by their types: what has `read()`, `receive()` or `stream()` that can be called without arguments, and so gives what comes next.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from functools import cached_property
from inspect import Parameter, Signature, getattr_static
from types import CoroutineType
from typing import Any

__all__ = ["is_endless", "is_read_already", "is_receive", "reads_once", "takes_asgi"]

_NEXT = ("__next__", "__anext__", "recv", "recvfrom", "fetchone")
_READERS = ("read", "receive", "stream")
_QUEUE = ("get", "put", "empty")
_KEPT = ("_body", "_content", "_read_bytes", "_cached_data")
"""Where requests and responses keep a body that was read: it can be had again."""
_NO_BODY = (None, "", "0")


def reads_once(kind: type) -> bool:
    """Whether objects of a type give what they hold only once."""
    if any(hasattr(kind, name) for name in _NEXT) or issubclass(kind, CoroutineType):
        return True
    if hasattr(kind, "__await__") and hasattr(kind, "send") and hasattr(kind, "throw"):
        return True
    if any(_gives_next(getattr_static(kind, name, None), name) for name in _READERS):
        return True
    return all(hasattr(kind, name) for name in _QUEUE) and _needs_nothing(getattr_static(kind, "get"))


def _gives_next(attribute: Any, name: str) -> bool:
    if attribute is None:
        return False
    if not callable(attribute) and not isinstance(attribute, staticmethod | classmethod):
        # werkzeug's `request.stream`, starlette's `request.receive`. A property `read` says whether something was read.
        return name != "read" and isinstance(attribute, property | cached_property)
    return _needs_nothing(attribute)


def _needs_nothing(method: Any) -> bool:
    """Whether a method can be called without an argument."""
    try:
        parameters = list(inspect.signature(method).parameters.values())[1:]
    # Of some that are written in C, nothing is known.
    except (TypeError, ValueError):
        return True
    required = (each for each in parameters if each.default is Parameter.empty)
    return all(each.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) for each in required)


def is_read_already(value: Any) -> bool:
    """Whether an object of a type that reads once keeps what it has read, or has nothing to read."""
    own = getattr(value, "__dict__", None)
    if not own:
        return False
    if any(isinstance(own.get(name), bytes) for name in _KEPT):
        return True
    # Django's: the length of the body is known, and reading nothing can be done twice.
    meta = own.get("META")
    return type(meta) is dict and meta.get("CONTENT_LENGTH") in _NO_BODY and "HTTP_TRANSFER_ENCODING" not in meta


def is_endless(value: Any) -> bool:
    """Whether an iterator never ends, so that an object that holds one counts with it, and gives nothing away."""
    return type(value) in (itertools.count, itertools.cycle, itertools.repeat)


def is_receive(value: Any) -> bool:
    """Whether a function is ASGI's `receive`, whoever wrote it: it gives the next part of a request."""
    return "receive" in value.__name__ and _takes_nothing(value)


def _takes_nothing(function: Callable[..., Any]) -> bool:
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def takes_asgi(signature: Signature | None) -> bool:
    """Whether a function is an ASGI application: each of its calls reads a request."""
    return signature is not None and {"scope", "receive", "send"} <= set(signature.parameters)
