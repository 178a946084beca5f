"""The application that the server tests serve: shadows behind every request, some of which hang or burn.

Run by gunicorn, uvicorn and Celery, in a folder of its own, with the journal's folder in ROLLOUT_JOURNAL.
"""

import json
import os
import threading
import time

from rollout_sdk import Shadow, default_runtime, rollout


def candidate(what):
    if what == "hang":
        threading.Event().wait(60)
    elif what.startswith("burn"):
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
    elif what == "block":
        time.sleep(0.3)
    return what


@rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", key="served")
def model(what):
    return what


if os.environ.get("USED_IN_MASTER"):
    # As a warm-up at import does: threads start in the master, and are not there in its workers.
    for _ in range(4):
        model("master")
    default_runtime().flush()


def wsgi(environ, start_response):
    """What gunicorn calls."""
    body = answer(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def answer(what):
    return json.dumps({"answer": model(what), "pid": os.getpid()}).encode()


async def acandidate(what):
    return what


@rollout(candidate=acandidate, strategy=Shadow(1.0), effects="read", key="served.async")
async def amodel(what):
    return what


async def asgi(scope, receive, send):
    """What uvicorn calls."""
    if scope["type"] != "http":
        return
    what = scope["path"].strip("/")
    body = answer(await amodel(what))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
