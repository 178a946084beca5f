"""A service that starts its own server, as examples of uvicorn do: this file is two modules then, a script and an import."""

import json
import os
import sys

from rollout_sdk import ABTest, rollout


@rollout(candidate=lambda what: what, strategy=ABTest(0.5), key="script")
def model(what):
    return what


async def asgi(scope, receive, send):
    """What uvicorn calls."""
    if scope["type"] != "http":
        return
    body = json.dumps({"answer": model(scope["path"].strip("/")), "pid": os.getpid()}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    import uvicorn

    options = {"reload": {"reload": True}, "workers": {"workers": 2}, "script": {}}[sys.argv[2]]
    uvicorn.run("script:asgi", host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", **options)
