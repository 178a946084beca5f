"""The application that the server tests serve: shadows behind every request, some of which hang or burn.

Run by gunicorn, uvicorn, uWSGI, eventlet, Celery and RQ, in a folder of its own, with the journal's folder in ROLLOUT_JOURNAL.
"""

import json
import os
import threading
import time

from rollout_sdk import ABTest, Runtime, Shadow, default_runtime, rollout

BURN_S = 1.0

runtime = None
if durability := os.environ.get("DURABILITY"):
    store = os.environ.get("ROLLOUT_STORE")
    runtime = Runtime(journal=os.environ["ROLLOUT_JOURNAL"], store=store, durability=durability)


def candidate(what):
    if what == "hang":
        threading.Event().wait(60)
    elif what.startswith("burn"):
        end = time.thread_time() + BURN_S
        while time.thread_time() < end:
            pass
    elif what == "block":
        time.sleep(0.3)
    return what


@rollout(candidate=candidate, strategy=Shadow(1.0), effects="read", key="served")
def model(what):
    return what


@rollout(candidate=lambda what: "candidate", strategy=ABTest(1.0), unit="what", key="split", runtime=runtime)
def split(what):
    return "control"


if os.environ.get("USED_IN_MASTER"):
    # As a warm-up at import does: threads start in the master, and are not there in its workers.
    for _ in range(4):
        model("master")
    if runtime is not None:
        split("master")
    default_runtime().flush()


def wsgi(environ, start_response):
    """What gunicorn calls."""
    body = answer(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def wsgi_split(environ, start_response):
    """What uWSGI calls: it says who has answered, and what the decision was."""
    what = environ["PATH_INFO"].strip("/")
    began = time.perf_counter()
    routed = split.rollout.route(what)
    took_s = time.perf_counter() - began
    told = {"answer": what, "pid": os.getpid(), "by": routed.value, "id": routed.decisions[0].id, "took_s": took_s}
    if what == "status":
        status = split.rollout.status()
        told |= {"faults": [what for what, _ in status.faults], "notes": status.notes}
    body = json.dumps(told).encode()
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
