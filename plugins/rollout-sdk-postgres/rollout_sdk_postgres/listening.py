"""The connection that listens for changes. It needs its own session, which a pooler does not provide."""

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
        """Create a listener; it connects at the first wait."""
        self._address = address
        self._connection: TimedConnection | None = None
        self._is_pooled = False
        renew_after_fork(self)

    def renew(self) -> None:
        """Start without a connection in a forked child."""
        inherited.append(self._connection)
        self._connection = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for a notification for at most `timeout_s`; without a connection that can listen, for all of that time.

        Raises:
            Exception: The connection has failed; the next wait opens another.
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
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def __del__(self) -> None:
        """Close the connection when the store is no longer used."""
        with suppress(Exception):
            self.close()

    def _listening(self) -> TimedConnection | None:
        if self._address.listening is None or self._is_pooled:
            return None
        connection = connect(self._address.listening)
        try:
            connection.deadline = monotonic() + self._address.timeout_s
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            # A pooler reports a process id that is not the server's. It would reassign the session after each statement.
            if row is None or row[0] != connection.info.backend_pid:
                self._is_pooled = True
                connection.close()
                return None
            connection.execute(f"LISTEN {self._address.schema}".encode())
        except BaseException:
            connection.close()
            raise
        return connection
