"""Sources of a request's unit: a header, a cookie, the authenticated user."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, TypeAlias

from starlette.requests import cookie_parser

__all__ = ["Scope", "Source", "cookie", "header", "user"]

Scope: TypeAlias = MutableMapping[str, Any]
"""The ASGI scope of a request."""

Source: TypeAlias = Callable[[Scope], str | None]
"""Reads the unit of a request; returns None if it has none."""


def header(name: str) -> Source:
    """Return a source that reads a request header."""
    wanted = name.lower().encode("latin-1")

    def read(scope: Scope) -> str | None:
        value = next((value for key, value in scope["headers"] if key == wanted), b"")
        return value.decode("latin-1") or None

    return read


def cookie(name: str) -> Source:
    """Return a source that reads a cookie."""
    cookies = header("cookie")

    def read(scope: Scope) -> str | None:
        # Python's own parser gives up the whole header for one cookie with a space, or with JSON in it.
        return cookie_parser(cookies(scope) or "").get(name) or None

    return read


def user(attribute: str = "identity") -> Source:
    """Return a source that reads an attribute of `request.user`, which Starlette's AuthenticationMiddleware sets.

    A user who is not logged in has no unit. The attribute is read when the first rollout of the request is called, so that
    the order of the two middlewares does not matter.
    """

    def read(scope: Scope) -> str | None:
        found = scope.get("user")
        if found is None or not getattr(found, "is_authenticated", True):
            return None
        value = getattr(found, attribute, None)
        return None if value is None or value == "" else str(value)

    return read
