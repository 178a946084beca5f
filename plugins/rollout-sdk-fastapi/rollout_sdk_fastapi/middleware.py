"""The middleware: makes the current request known to rollouts, and sends their decisions in the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from attrs import Factory, define

from rollout_sdk import ConfigurationError, Decision
from rollout_sdk_fastapi.forcing import FORCE_HEADER, as_key, forced_by
from rollout_sdk_fastapi.units import Scope, Source, header

__all__ = ["RolloutMiddleware", "ServedRequest", "served_request"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[Scope, _Receive, _Send], Awaitable[None]]

_MOST_DECISIONS: Final = 20


@define(eq=False)
class ServedRequest:
    """The current request. All contexts of the request share this object: a sync endpoint runs in a copied context.

    Attributes:
        scope: Its ASGI scope.
        sources: Where its unit is read from, in order.
        forced: Variants that its signed header forces, by key of the rollout.
        decisions: Decisions of its rollouts, by key.
    """

    scope: Scope
    sources: tuple[Source, ...]
    forced: dict[str, str]
    decisions: dict[str, Decision] = Factory(dict)

    def unit(self) -> str | None:
        """Return the first unit that a source finds."""
        return next((unit for source in self.sources if (unit := source(self.scope)) is not None), None)


served_request: ContextVar[ServedRequest | None] = ContextVar("rollout_sdk_fastapi_request", default=None)


class RolloutMiddleware:
    """Gives rollouts the unit of the request, and responses the header `X-Rollout`.

        app.add_middleware(RolloutMiddleware, unit=[user(), cookie("visitor")], force_key=os.environ["FORCE_KEY"])

    It is a pure ASGI middleware: endpoints, sync or async, dependencies and the functions they call see the same request.
    `X-Rollout` has `key=variant; id=decision` for every rollout with `**endpoint(...)` (or `request_decisions` among its
    plugins) that was called before the response began, separated by commas; at most the first 20.
    """

    def __init__(
        self,
        app: _App,
        *,
        unit: Source | Iterable[Source] = (),
        force_key: str | bytes | None = None,
        response_header: str | None = "X-Rollout",
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            unit: Where the unit is read from: `header(...)`, `cookie(...)`, `user()`, or a function of the ASGI scope. With
                several, the first that a request has is used.
            force_key: Key of the header `X-Rollout-Force` (see `force_value`); None: the header is ignored.
            response_header: Name of the response's header; None: no header.

        Raises:
            ConfigurationError: `unit` is not a function, or the key is too short.
        """
        self._app = app
        self._sources = (unit,) if callable(unit) else tuple(unit)
        for source in self._sources:
            if not callable(source):
                raise ConfigurationError(
                    f"unit={source!r:.60} of RolloutMiddleware is not a function. It reads the unit of a request. "
                    "Write unit=header('X-User'), cookie(...), user(), or a function of the ASGI scope."
                )
        self._force_key = None if force_key is None else as_key(force_key)
        self._force_header = header(FORCE_HEADER)
        self._response_header = None if response_header is None else response_header.lower().encode("latin-1")

    async def __call__(self, scope: Scope, receive: _Receive, send: _Send) -> None:
        """Serve a request or a websocket; the lifespan is passed on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        value = None if self._force_key is None else self._force_header(scope)
        forced = forced_by(value, self._force_key) if value and self._force_key is not None else {}
        request = ServedRequest(scope, self._sources, forced)

        async def send_with_decisions(message: _Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept") and request.decisions:
                assert self._response_header is not None
                message["headers"] = [*message.get("headers", ()), (self._response_header, _header_value(request))]
            await send(message)

        token = served_request.set(request)
        try:
            await self._app(scope, receive, send if self._response_header is None else send_with_decisions)
        finally:
            served_request.reset(token)


def _header_value(request: ServedRequest) -> bytes:
    decisions = list(request.decisions.values())[:_MOST_DECISIONS]
    parts = (f"{quote(each.rollout)}={quote(each.variant)}; id={quote(each.id)}" for each in decisions)
    return ", ".join(parts).encode("ascii")
