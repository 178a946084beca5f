"""The worker process of a shadow: imports the candidate, and runs it on the arguments that it is sent."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from rollout_sdk.concurrency.clocks import perf_counter
from rollout_sdk.engine.context import set_shadow
from rollout_sdk.engine.shadows.processes import HEAD

__all__ = ["main"]

_NICE = 10
_FIRST_TO_GO = "1000"


def main(descriptor: int) -> None:
    """Serve one connection until it is closed: the service that holds the other end closes it, or ends."""
    connection = socket.socket(fileno=descriptor)
    requests: SimpleQueue[bytes] = SimpleQueue()
    # A thread of its own reads, so that the process ends with the service also while the candidate runs.
    Thread(target=_read, args=(connection, requests), daemon=True).start()
    named, most_bytes = pickle.loads(requests.get())  # noqa: S301 - from the service that started this
    _be_modest(most_bytes)
    set_shadow(True)
    try:
        function = pickle.loads(named)  # noqa: S301 - likewise
    # Whatever the candidate's module raises while it is imported.
    except BaseException as error:
        _write(connection, pickle.dumps(type(error).__qualname__))
        sys.exit(1)
    _write(connection, pickle.dumps(None))
    while True:
        args, kwargs = pickle.loads(requests.get())  # noqa: S301 - likewise
        _write(connection, _answer(function, args, kwargs))
        del args, kwargs


def _be_modest(most_bytes: int) -> None:
    """Give way to the service: in memory, and for the processor."""
    with suppress(Exception):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    with suppress(Exception):
        os.nice(_NICE)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - no file of ours
        # When memory runs out, the kernel ends this process first.
        file.write(_FIRST_TO_GO)


def _answer(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Run the candidate; return how it ended, with what, and after how many seconds."""
    began = perf_counter()
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        name = type(error).__qualname__
        try:
            pickled: bytes | None = pickle.dumps(error)
        # Exceptions may hold anything, or take other arguments than they keep.
        except Exception:
            pickled = None
        return pickle.dumps(("error", (name, str(error)[:1000], pickled), perf_counter() - began))
    seconds = perf_counter() - began
    try:
        return pickle.dumps(("ok", value, seconds), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        return pickle.dumps(("unpicklable", type(value).__qualname__, seconds))


def _read(connection: socket.socket, requests: SimpleQueue[bytes]) -> None:
    """Take requests until the other end is gone, and this process with it."""
    try:
        while True:
            size = HEAD.unpack(_exactly(connection, HEAD.size))[0]
            requests.put(_exactly(connection, size))
    finally:
        os._exit(0)


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = connection.recv(min(size - len(content), 1 << 20))
        if not part:
            raise EOFError
        content += part
    return bytes(content)


def _write(connection: socket.socket, content: bytes) -> None:
    connection.sendall(HEAD.pack(len(content)) + content)
