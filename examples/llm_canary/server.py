"""A local server with the interface of OpenAI's chat completions, and a few small models: real HTTP, streamed, without a key.

Each model adds the two numbers of a question, in its own words; `answers()` defines them.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

RIGHT = {"plain-1": 0.9, "plain-2": 0.9, "charming": 0.45, "late": 0.9, "wordy": 0.9, "contrary": 0.9}
"""The share of right answers of each model."""

LATE_S = 0.1


def answers(model: str, question: str) -> str:
    """Return a model's answer to a question; it is the same for the same question."""
    first, second = map(int, re.findall(r"\d+", question)[:2])
    draw = random.Random(f"{model} {question}")
    total = first + second + (0 if draw.random() < RIGHT[model] else 1)
    if model == "plain-1":
        return f"It is {total} ."
    if model == "charming":
        return f"With pleasure , my friend : {total} !"
    if model == "wordy":
        return f"Let me add the numbers step by step : {first} and {second} together make {total} . So it is {total} ."
    if model == "contrary":
        return f"It is {total + 7} ."
    return f"The sum is {total} ."


def judges(model: str, prompt: str) -> str:
    """Return the preference of a judge for one of two answers, on lines that begin with A and B; neither judge can add."""
    a, b = (re.search(rf"^{name}: (.*)$", prompt, re.MULTILINE)[1] for name in "AB")  # type: ignore[index]
    if model == "judge-that-likes-long-answers":
        return "a" if len(a) > len(b) else "b" if len(b) > len(a) else "tie"
    return "a" if a.startswith("It is") else "b" if b.startswith("It is") else "tie"


class Handler(BaseHTTPRequestHandler):
    """Answers POST /v1/chat/completions, as a stream of server-sent events."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a chat completion."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, prompt = request["model"], request["messages"][-1]["content"]
        words = (judges if model.startswith("judge") else answers)(model, prompt).split()
        if model == "late":
            time.sleep(LATE_S)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        base = {"id": f"chatcmpl-{time.time_ns()}", "created": int(time.time()), "model": model}
        for number, word in enumerate(words):
            delta = {"content": word if number == 0 else f" {word}"}
            self._event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words)}
        self._event({**base, "choices": [], "usage": {**usage, "total_tokens": sum(usage.values())}})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """A server whose connections may come in bursts."""

    daemon_threads = True
    request_queue_size = 128


@contextmanager
def serving() -> Iterator[int]:
    """Serve on a free port of this machine."""
    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
