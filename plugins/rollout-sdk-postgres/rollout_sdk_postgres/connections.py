"""Connections that give up in time, and belong to one process."""

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

_LOOKS_EVERY_S = 0.1


class TimedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements fail at its deadline.

    A time-out of the server would not do: a server that is frozen or cut off does not answer at all, and a pooler takes no
    settings of a session.
    """

    deadline = float("inf")

    def wait(self, gen: PQGen[RV], interval: float = _LOOKS_EVERY_S, *args: Any, **options: Any) -> RV:
        """Wait as psycopg does, until the deadline."""
        return super().wait(_until(gen, self), min(interval, _LOOKS_EVERY_S), *args, **options)


def _until(gen: PQGen[RV], connection: TimedConnection) -> PQGen[RV]:
    """What psycopg waits for, asked for again and again, which fails at the deadline of its connection."""
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
    """A new connection, in which each statement is a transaction, and none is prepared: a pooler may change the session.

    Raises:
        psycopg.Error: There is none to be had.
    """
    return TimedConnection.connect(autocommit=True, prepare_threshold=None, **options)


def _alive(idle: deque[TimedConnection]) -> TimedConnection | None:
    """One of these connections that the server has not ended; None where there is none."""
    with suppress(IndexError):
        while True:
            connection = idle.pop()
            with suppress(psycopg.Error, OSError, ValueError):
                asked = select.poll()
                asked.register(connection.fileno(), select.POLLIN)
                # Where nothing was asked, there is nothing to read but the end.
                if not asked.poll(0):
                    return connection
            connection.close()
    return None


inherited: list[object] = []
"""Connections of the processes that this one was forked from. They are kept: to close them here would close them there."""


class Connections:
    """The connections of one process: as many as there are threads that ask at once."""

    def __init__(self, options: dict[str, Any], timeout_s: float) -> None:
        """Connect to nothing yet.

        Args:
            options: What libpq gets.
            timeout_s: How long the server may take to answer, in seconds.
        """
        self._options = options
        self._timeout_s = timeout_s
        self._closed = False
        self._idle: deque[TimedConnection] = deque()
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked child: connections of its own."""
        inherited.append(self._idle)
        self._idle = deque()

    @contextmanager
    def one(self) -> Iterator[TimedConnection]:
        """A connection for one use; it is kept for the next one, and closed after an error."""
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
        """Close those that are idle now, and the others once they are used no longer."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def __del__(self) -> None:
        """Close what is left when nothing uses the store any more."""
        with suppress(Exception):
            self.close()
