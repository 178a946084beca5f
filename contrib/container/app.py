"""The smallest service with a rollout: GET /?user=u-1 answers with the model's name; GET /health is the health check."""

from __future__ import annotations

from urllib.parse import parse_qs

from rollout_sdk import Canary, rollout


def rank_v2(user: str) -> bytes:
    """The candidate."""
    del user
    return b"new\n"


@rollout(candidate=rank_v2, strategy=Canary(["1%", "10%", "50%"]), unit="user", key="shop.rank", version="v2")
def rank(user: str) -> bytes:
    """The model that serves today."""
    del user
    return b"old\n"


async def app(scope, receive, send) -> None:
    """Serve HTTP, by the ASGI specification."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        rank.rollout.runtime.flush()
        await send({"type": "lifespan.shutdown.complete"})
        return
    user = parse_qs(scope["query_string"].decode()).get("user", [""])[0]
    body = b"ok\n" if scope["path"] == "/health" else rank(user)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
