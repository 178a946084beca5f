"""What every answer of the dashboard carries, and which requests get none: another host's, and forms of another origin."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "form", "is_own_origin"]

_HEADERS = {
    # Markup in a name would still run nothing.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_LONGEST_FORM = 16_384


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """Answer requests for these hosts only.

        A page of another site whose name was made to resolve to this machine (DNS rebinding) asks for another host.

        Args:
            app: The application.
            hosts: Names without a port; "*" stands for all.
        """
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        host = urlsplit(f"//{Headers(scope=scope).get('host', '')}").hostname or ""
        if "*" in self._hosts or host in self._hosts:
            await self._app(scope, receive, send_with_headers)
        else:
            refusal = PlainTextResponse("This dashboard does not answer for that host: --allow-host adds one.\n", 421)
            await refusal(scope, receive, send_with_headers)


def is_own_origin(request: Request) -> bool:
    """Whether a form was sent by a page of this server: browsers say so with every POST, and programs do not."""
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")


async def form(request: Request) -> dict[str, str] | None:
    """The fields of a form, the last of each name; None where it is too large or not one."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            return None
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=20)
    except ValueError:
        return None
    return {name: values[-1] for name, values in fields.items()}
