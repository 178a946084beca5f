"""The connection that hears of changes. It has a session of its own, which a pooler does not give."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic, sleep

from rollout_sdk.extending import renew_after_fork
from rollout_sdk_postgres.addresses import Address
from rollout_sdk_postgres.connections import TimedConnection, connect, inherited

__all__ = ["Listener"]


class Listener:
    """Waits for the notifications of one schema."""

    def __init__(self, address: Address) -> None:
        """Listen to nothing yet."""
        self._address = address
        self._connection: TimedConnection | None = None
        self._is_pooled = False
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked child: a connection of its own."""
        inherited.append(self._connection)
        self._connection = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for a notification, for so many seconds; without a connection that can listen, for all of them.

        Raises:
            Exception: The connection has failed; the next wait makes another.
        """
        until_s = monotonic() + timeout_s
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._listening()
            left_s = max(0.0, until_s - monotonic())
            if connection is None:
                sleep(left_s)
                return False
            connection.deadline = monotonic() + left_s + self._address.timeout_s
            return any(True for _ in connection.notifies(timeout=left_s, stop_after=1))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def __del__(self) -> None:
        """Close the connection when nothing uses the store any more."""
        with suppress(Exception):
            self.close()

    def _listening(self) -> TimedConnection | None:
        if self._address.listening is None or self._is_pooled:
            return None
        connection = connect(self._address.listening)
        try:
            connection.deadline = monotonic() + self._address.timeout_s
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            # A pooler gives its clients a process id that is no server's. It would take the session away after the statement.
            if row is None or row[0] != connection.info.backend_pid:
                self._is_pooled = True
                connection.close()
                return None
            connection.execute(f"LISTEN {self._address.schema}".encode())
        except BaseException:
            connection.close()
            raise
        return connection
