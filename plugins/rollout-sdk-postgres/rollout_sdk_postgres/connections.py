"""Connections with a deadline, which belong to one process."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen

from rollout_sdk.extending import renew_after_fork

__all__ = ["Connections", "TimedConnection", "connect", "inherited"]

_CHECK_EVERY_S = 0.1


class TimedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements fail at its deadline.

    The server's own `statement_timeout` is not enough: a frozen or unreachable server does not answer at all, and a pooler does
    not keep session settings.
    """

    deadline = float("inf")

    def wait(self, gen: PQGen[RV], interval: float = _CHECK_EVERY_S, *args: Any, **options: Any) -> RV:
        """Wait as psycopg does, until the deadline."""
        return super().wait(_until(gen, self), min(interval, _CHECK_EVERY_S), *args, **options)


def _until(gen: PQGen[RV], connection: TimedConnection) -> PQGen[RV]:
    """Wrap psycopg's wait so that it fails at the deadline of the connection."""
    try:
        waits_for = next(gen)
        while True:
            ready = yield waits_for
            if not ready and monotonic() >= connection.deadline:
                raise TimeoutError("the server has not answered in time")
            waits_for = gen.send(ready)
    except StopIteration as end:
        answer: RV = end.value
        return answer


def connect(options: dict[str, Any]) -> TimedConnection:
    """Open a connection in which each statement is a transaction, and none is prepared: a pooler may change the session.

    Raises:
        psycopg.Error: The connection failed.
    """
    return TimedConnection.connect(autocommit=True, prepare_threshold=None, **options)


def _alive(idle: deque[TimedConnection]) -> TimedConnection | None:
    """Take one of these connections that the server has not closed; None if there is none."""
    with suppress(IndexError):
        while True:
            connection = idle.pop()
            with suppress(psycopg.Error, OSError, ValueError):
                readable = select.poll()
                readable.register(connection.fileno(), select.POLLIN)
                # An idle connection is readable only if the server has closed it.
                if not readable.poll(0):
                    return connection
            connection.close()
    return None


inherited: list[object] = []
"""Connections of the processes that this one was forked from. They are kept: closing them here would close the parent's."""


class Connections:
    """The connections of one process: one for each thread that uses the store at the same time."""

    def __init__(self, options: dict[str, Any], timeout_s: float) -> None:
        """Create an empty pool; connections are opened when they are needed.

        Args:
            options: libpq's options.
            timeout_s: Seconds that the server may take to answer.
        """
        self._options = options
        self._timeout_s = timeout_s
        self._closed = False
        self._idle: deque[TimedConnection] = deque()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start with no connections in a forked child."""
        inherited.append(self._idle)
        self._idle = deque()

    @contextmanager
    def one(self) -> Iterator[TimedConnection]:
        """Provide a connection for one use; afterwards it is kept for the next use, or closed after an error."""
        idle = self._idle
        connection = _alive(idle) or connect(self._options)
        connection.deadline = monotonic() + self._timeout_s
        try:
            yield connection
        except BaseException:
            with suppress(Exception):
                connection.close()
            raise
        if self._closed or idle is not self._idle:
            connection.close()
        else:
            idle.append(connection)

    def close(self) -> None:
        """Close idle connections now, and the others after their current use."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def __del__(self) -> None:
        """Close the connections when the store is no longer used."""
        with suppress(Exception):
            self.close()
