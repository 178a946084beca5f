"""Runs a candidate in worker processes: whatever it does to its process, the service does not notice.

A worker is a fresh interpreter that imports the candidate by name. Arguments and answers are pickled. A worker that crashes,
hangs or takes too much memory is killed and replaced; its run ends as an error or a timeout.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import renew_after_fork
from rollout_sdk.concurrency.threads import Lock, original
from rollout_sdk.exceptions import ConfigurationError, ShadowProcessError

__all__ = ["NotPickled", "NotReady", "ProcessLane", "TookTooLong", "check_picklable"]

HEAD = struct.Struct("!Q")
_START = "import sys; from rollout_sdk.engine.shadows.process_worker import main; main(int(sys.argv[1]))"
_OURS = frozenset({"ROLLOUT_JOURNAL", "ROLLOUT_STORE", "ROLLOUT_CONTROL"})
"""Settings that a worker does not get: a rollout in the candidate's module is not served there."""
_STARTING_PART = 0.5
_RETRY_S = 1.0
_MOST_CLASSES = 100
_SHORTEST_S = 0.01


class NotReady(Exception):  # noqa: N818 - how a run ended, and not a fault
    """No worker has started in time."""


class NotPickled(Exception):  # noqa: N818 - likewise
    """Arguments or an answer cannot be sent to another process; the message names the class."""


class TookTooLong(Exception):  # noqa: N818 - likewise
    """The worker did not answer in time, and was killed."""


def check_picklable(key: str, name: str, function: Callable[..., Any]) -> None:
    """Check that another process can import a candidate.

    Raises:
        ConfigurationError: It cannot.
    """
    try:
        is_found = pickle.loads(pickle.dumps(function)) is not None  # noqa: S301 - our own bytes
    except Exception as error:
        why = type(error).__name__
    else:
        module = getattr(function, "__module__", None) or type(function).__module__
        if is_found and module not in ("__main__", "__mp_main__"):
            return
        why = f"it is defined in {module}, the script"
    raise ConfigurationError(
        f"Candidate {name!r} of {key!r} would run in another process, which cannot import it: {why}. "
        "Shadow(where='process') takes functions at the top of a module. Move it there, or use where='thread'."
    )


class _Worker:
    """A worker process, and this end of the connection to it."""

    def __init__(self, function: bytes, most_bytes: int) -> None:
        """Start the process; it is not ready yet."""
        self.is_ready = False
        self._function, self._most_bytes = function, most_bytes
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {name: value for name, value in os.environ.items() if name not in _OURS}
            environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
            command = [_python(), "-c", _START, str(theirs.fileno())]
            self.process = original("subprocess", "Popen")(
                command, env=environment, pass_fds=[theirs.fileno()], stdin=original("subprocess", "DEVNULL"), close_fds=True
            )
        self._socket = ours
        self._send(pickle.dumps((function, most_bytes)), 1.0)

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until the candidate is imported.

        Raises:
            NotReady: It was not in time; or the process ended, or could not import it.
        """
        if self.is_ready:
            return
        try:
            failed = pickle.loads(self._receive(timeout_s))  # noqa: S301 - from our own process
        except TimeoutError:
            raise NotReady("Starting") from None
        except OSError:
            self.end()
            raise NotReady("Ended") from None
        if failed is not None:
            self.end()
            raise NotReady(failed)
        self.is_ready = True

    def call(self, request: bytes, timeout_s: float) -> tuple[Any, ...]:
        """Have the worker run the candidate.

        Raises:
            TookTooLong: It did not answer in time.
            ShadowProcessError: The process ended.
        """
        deadline = monotonic() + timeout_s
        try:
            self._send(request, timeout_s)
            answer = self._receive(max(_SHORTEST_S, deadline - monotonic()))
        except TimeoutError:
            self.end()
            raise TookTooLong from None
        except OSError:
            raise ShadowProcessError(
                f"The process of a shadow ended {self.end()}. A candidate that ends its process would end the service in its "
                "place. Look for os._exit, a crash of C code, or too little memory."
            ) from None
        return pickle.loads(answer)  # type: ignore[no-any-return]  # noqa: S301 - from our own process

    def _send(self, content: bytes, timeout_s: float) -> None:
        self._socket.settimeout(max(_SHORTEST_S, timeout_s))
        self._socket.sendall(HEAD.pack(len(content)) + content)

    def _receive(self, timeout_s: float) -> bytes:
        deadline = monotonic() + timeout_s
        return self._read(HEAD.unpack(self._read(HEAD.size, deadline))[0], deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            self._socket.settimeout(max(_SHORTEST_S, deadline - monotonic()))
            part = self._socket.recv(min(size - len(content), 1 << 20))
            if not part:
                raise ConnectionResetError
            content += part
        return bytes(content)

    def end(self) -> str:
        """Kill the process if it still runs; return how it ended, in words."""
        self._socket.close()
        with suppress(Exception):
            self.process.wait(0.1)
        with suppress(OSError):
            self.process.kill()
        code = self.process.wait()
        if code >= 0:
            return f"with exit code {code}"
        return f"by signal {signal.Signals(-code).name if -code in set(signal.Signals) else -code}"


def _python() -> str:
    """Return the interpreter: a server that embeds Python is not one."""
    if "python" in os.path.basename(sys.executable or "").lower():  # noqa: PTH119 - a text
        return sys.executable
    return os.path.join(sys.exec_prefix, "bin", "python3")  # noqa: PTH118 - likewise


class ProcessLane:
    """The worker processes of one candidate: as many as threads wait for one."""

    def __init__(self, function: Callable[..., Any], *, timeout_s: float, most_bytes: int) -> None:
        """Start no process yet.

        Args:
            function: The candidate.
            timeout_s: Seconds that a run may take.
            most_bytes: Memory that a worker may allocate.
        """
        self._function = pickle.dumps(function)
        self._timeout_s, self._most_bytes = timeout_s, most_bytes
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start without workers in a forked child: those belong to the parent."""
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._lock = Lock()
        self._retry_at = 0.0
        self._is_closed = False

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, float]:
        """Run the candidate in a worker; return its answer and the seconds that it took there.

        Raises:
            NotReady: No worker has started yet.
            NotPickled: The arguments or the answer cannot be sent.
            TookTooLong: It took too long, and was killed.
            ShadowProcessError: The process ended.
            BaseException: What the candidate raised.
        """
        began = monotonic()
        try:
            request = pickle.dumps((args, dict(kwargs)), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise NotPickled(type(error).__name__) from None
        worker = self._taken()
        is_whole = False
        try:
            worker.wait_until_ready(self._timeout_s * _STARTING_PART)
            how, value, seconds = worker.call(request, self._timeout_s - (monotonic() - began))
            is_whole = True
        except NotReady as why:
            # One that is still starting is used for the next run.
            is_whole = str(why) == "Starting"
            raise
        finally:
            self._put_back(worker, is_whole=is_whole)
        if how == "unpicklable":
            raise NotPickled(value)
        if how == "error":
            raise _raised(value)
        return value, seconds

    def _taken(self) -> _Worker:
        with self._lock:
            if self._is_closed or monotonic() < self._retry_at:
                raise NotReady("Ended")
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker(self._function, self._most_bytes)
        with self._lock:
            self._busy.add(worker)
        return worker

    def _put_back(self, worker: _Worker, *, is_whole: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            if is_whole and not self._is_closed:
                self._idle.append(worker)
                return
            if not worker.is_ready:
                # It could not start: not again and again.
                self._retry_at = monotonic() + _RETRY_S
        worker.end()

    def close(self) -> None:
        """Kill all workers."""
        with self._lock:
            self._is_closed = True
            workers = [*self._idle, *self._busy]
            self._idle = []
        for worker in workers:
            with suppress(OSError):
                worker.process.kill()
            worker.end()


_CLASSES: dict[str, type[ShadowProcessError]] = {}


def _raised(what: tuple[str, str, bytes | None]) -> BaseException:
    """Return the exception that a candidate raised; one that cannot be sent is replaced by one of the same name."""
    name, text, pickled = what
    if pickled is not None:
        with suppress(Exception):
            error = pickle.loads(pickled)  # noqa: S301 - from our own process
            if isinstance(error, BaseException):
                return error
    if name not in _CLASSES and len(_CLASSES) >= _MOST_CLASSES:
        return ShadowProcessError(text)
    return _CLASSES.setdefault(name, type(name, (ShadowProcessError,), {}))(text)
