"""Where the unit of a request stands: a header, a cookie, the authenticated user."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias

__all__ = ["Scope", "Source", "cookie", "header", "user"]

Scope: TypeAlias = MutableMapping[str, Any]
"""What ASGI says of a request."""

Source: TypeAlias = Callable[[Scope], str | None]
"""Reads the unit of a request; None where it has none."""


def header(name: str) -> Source:
    """The value of a request header."""
    wanted = name.lower().encode("latin-1")

    def read(scope: Scope) -> str | None:
        value = next((value for key, value in scope["headers"] if key == wanted), b"")
        return value.decode("latin-1") or None

    return read


def cookie(name: str) -> Source:
    """The value of a cookie."""
    cookies = header("cookie")

    def read(scope: Scope) -> str | None:
        try:
            found = SimpleCookie(cookies(scope) or "").get(name)
        # Of a header that is not one of cookies.
        except CookieError:
            return None
        return None if found is None else found.value or None

    return read


def user(attribute: str = "identity") -> Source:
    """An attribute of `request.user`, which Starlette's AuthenticationMiddleware sets; None for a user who is not logged in.

    It is read when the first rollout of the request is called, so that the order of the two middlewares does not matter.
    """

    def read(scope: Scope) -> str | None:
        found = scope.get("user")
        if found is None or not getattr(found, "is_authenticated", True):
            return None
        value = getattr(found, attribute, None)
        return None if value is None or value == "" else str(value)

    return read
