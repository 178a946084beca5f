"""A process that joins a cluster in place of the application's, because Ray ends a process that has lost the cluster's head.

After a minute without its head (`RAY_gcs_rpc_server_reconnect_timeout_s`), Ray ends each process that has joined, without
Python's exit functions. An application that is on the cluster for the state of its rollouts alone must not end with it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from rollout_sdk.extending import renew_after_fork
from rollout_sdk_ray.actor import Version

__all__ = ["Elsewhere", "ElsewhereError", "main"]

_SLACK_S = 1.0
# Starting it takes seconds of processor time, which are of no use while the head is gone.
_START_EVERY_S = 10.0
_STUCK_S = 90.0
_CURE = "Check the cluster and its head; the store is tried again."
_MAIN = "import sys; from rollout_sdk_ray.helper import main; main(*map(int, sys.argv[1:]))"

_inherited: list[object] = []


class ElsewhereError(Exception):
    """What has failed in the other process, or with it; `cure` says what happens next, and what to do."""

    def __init__(self, cause: str, cure: str = _CURE) -> None:
        """Keep both."""
        super().__init__(cause)
        self.cure = cure


class Elsewhere:
    """Asks the actor through another process, which is started at the first use, and again when it has ended.

    It has the methods of `rollout_sdk_ray.joined.Joined`; they raise `ElsewhereError`.
    """

    def __init__(self, cluster: str, name: str, keep: str, patience_s: float, join_s: float) -> None:
        """Start nothing yet.

        Args:
            cluster: Address of the cluster.
            name: Name of the actor.
            keep: Address of the store in which the actor keeps everything.
            patience_s: Seconds that a request may take.
            join_s: Seconds that a request may take longer if the process has yet to join, or to start the actor.
        """
        self._settings = (cluster, name, keep, patience_s)
        self._patience_s, self._join_s = patience_s, join_s
        self._process: subprocess.Popen[bytes] | None = None
        self._channels: tuple[_Channel, ...] = ()
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start without the process in a forked child: it is the parent's."""
        for channel in self._channels:
            # The process notices the parent's end by these, so nothing else may have them.
            channel.close()
        if self._process is not None:
            # Forgetting it would wait for it, which only the parent can.
            _inherited.append(self._process)
        self._process, self._channels, self._lock = None, (), threading.Lock()
        self._has_joined = False
        self._start_again_at = self._worked_at = 0.0
        self._why = ""

    def start(self, timeout_s: float) -> None:
        """Start the actor, unless it runs."""
        self._ask(0, "start", (timeout_s,), self._join_s + timeout_s)

    def ask(self, method: str, arguments: tuple[Any, ...], start_s: float | None = None) -> Any:
        """Return the store's answer, or its `StoreError`; without an actor and `start_s`, that of an empty store."""
        within_s = self._patience_s + (self._join_s if start_s or not self._has_joined else _SLACK_S)
        return self._ask(0, "ask", (method, arguments, start_s), within_s)

    def wait(self, seen: Version | None, timeout_s: float) -> Version | None:
        """Return the actor's version as soon as it differs from `seen`, or after the time-out; None if there is no actor."""
        within_s = timeout_s + self._patience_s + (_SLACK_S if self._has_joined else self._join_s)
        version: Version | None = self._ask(1, "wait", (seen, timeout_s), within_s)
        return version

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end("the store was closed")

    def __del__(self) -> None:
        """End the process when the store is no longer used."""
        with suppress(Exception):
            self.close()

    def _ask(self, number: int, method: str, arguments: tuple[Any, ...], within_s: float) -> Any:
        deadline = monotonic() + within_s
        with self._lock:
            channel = self._started()[number]
        try:
            cause, cure, answer = channel.ask(method, arguments, deadline)
        except TimeoutError:
            cause, cure, answer = f"TimeoutError: no answer from the cluster in {within_s:g} s", _CURE, None
        except (EOFError, OSError):
            with self._lock:
                # Another thread may have noticed it first, and even have started another.
                if channel in self._channels:
                    self._end("the process that had joined the cluster has ended, as Ray ends those that have lost its head")
                raise ElsewhereError(self._why) from None
        if not cause:
            self._has_joined, self._worked_at = True, monotonic()
            return answer
        with self._lock:
            if channel in self._channels and monotonic() > self._worked_at + _STUCK_S:
                # It may be joined to a cluster that is no longer the one at this address.
                self._end(cause)
        raise ElsewhereError(cause, cure)

    def _started(self) -> tuple[_Channel, ...]:
        """Return the channels of a process that runs."""
        if self._process is None:
            if monotonic() < self._start_again_at:
                raise ElsewhereError(self._why)
            self._worked_at = monotonic()
            self._start_again_at = self._worked_at + _START_EVERY_S
            pairs = [socket.socketpair() for _ in range(2)]
            try:
                self._process = _process([other.fileno() for _, other in pairs])
                self._channels = tuple(_Channel(Connection(own.detach())) for own, _ in pairs)
                self._channels[0].send(self._settings)
            except OSError as error:
                self._end(f"{type(error).__name__}: {error}")
                raise ElsewhereError(self._why, "Check that this process may start another.") from None
            finally:
                for end in (each for pair in pairs for each in pair):
                    end.close()
        return self._channels

    def _end(self, why: str) -> None:
        process, channels = self._process, self._channels
        self._process, self._channels, self._why, self._has_joined = None, (), why, False
        if process is not None:
            process.kill()
            process.wait()
        # Last, so that a thread that waits for an answer has noticed the end.
        for channel in channels:
            channel.close()


def _process(channels: list[int]) -> subprocess.Popen[bytes]:
    """Start the process. It imports what this one imports, and hears of no Ctrl-C."""
    # A server that embeds Python is not an interpreter.
    is_python = "python" in os.path.basename(sys.executable or "")  # noqa: PTH119 - a text
    python = sys.executable if is_python else os.path.join(sys.exec_prefix, "bin", "python3")  # noqa: PTH118 - likewise
    return subprocess.Popen(  # noqa: S603 - this interpreter
        [python, "-c", _MAIN, *map(str, channels)],
        pass_fds=channels,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


class _Channel:
    """One request at a time, and its answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock, self._number = connection, threading.Lock(), 0
        self.send, self.close = connection.send, connection.close

    def ask(self, method: str, arguments: tuple[Any, ...], deadline: float) -> tuple[str, str, Any]:
        """Return the cause and the cure of a failure, or two empty texts and the answer.

        Raises:
            TimeoutError: There is none by the deadline.
            EOFError: The process has ended.
            OSError: It has ended, or another thread has closed the channel.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic())):
            raise TimeoutError
        try:
            self._number += 1
            self.send((self._number, deadline, method, arguments))
            while self._connection.poll(max(0.0, deadline - monotonic())):
                number, *answer = self._connection.recv()
                # Those before answer requests that were given up.
                if number == self._number:
                    return tuple(answer)
            raise TimeoutError
        finally:
            self._lock.release()


def main(asking: int, waiting: int) -> None:
    """Serve the process that has these two channels, until it ends or closes them."""
    # Here, because the other process needs nothing of it.
    from rollout_sdk_ray.serving import Serving

    channels = [Connection(asking), Connection(waiting)]
    serving = Serving(*channels[0].recv())
    threading.Thread(target=_serve, args=(serving, channels[1]), daemon=True).start()
    _serve(serving, channels[0])


def _serve(serving: Any, channel: Connection) -> None:
    try:
        while True:
            number, deadline, method, arguments = channel.recv()
            # A request that was given up must not change anything later.
            if monotonic() < deadline:
                channel.send((number, *serving.answer(method, arguments)))
    except (EOFError, OSError):
        # No end of Python's: it would wait for the other thread.
        os._exit(0)
