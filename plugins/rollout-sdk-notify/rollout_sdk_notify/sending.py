"""Sends requests in the background, in order, with retries and a bounded queue."""

from __future__ import annotations

import http.client
import random
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from typing import IO, Final

from attrs import frozen

from rollout_sdk.extending import get_logger, renew_after_fork

__all__ = ["Sender", "Unsent"]

_LONGEST_PAUSE_S: Final = 60.0
_RETRIED: Final = frozenset({408, 425, 429})


@frozen
class Unsent:
    """A waiting message.

    Attributes:
        rollout: Key of its rollout, for the log.
        wanted: Whether this process should send it; called in the thread, before the first attempt.
        request: Creates the request of an attempt; the signature covers the time of the attempt.
    """

    rollout: str
    wanted: Callable[[], bool]
    request: Callable[[], urllib.request.Request]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects: a message that is signed for one address must not be sent to another."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> None:
        """Return None: the redirect is not followed."""
        del req, fp, code, msg, headers, newurl


class Sender:
    """A bounded queue and its daemon thread, which starts with the first message and ends after the last.

    Attributes:
        sent: Number of messages that the receiver accepted.
        failed: Number of messages that were given up.
        dropped: Number of messages dropped because the queue was full or closed.
    """

    def __init__(self, *, timeout_s: float, attempts: int, pause_s: float, most_waiting: int) -> None:
        """See `Webhook`."""
        self.sent = self.failed = self.dropped = 0
        self._timeout_s, self._attempts, self._pause_s, self._most_waiting = timeout_s, attempts, pause_s, most_waiting
        self._opener = urllib.request.build_opener(_NoRedirects)
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start with an empty queue in a forked child: the parent sends the waiting messages."""
        self._waiting: deque[Unsent] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def waiting(self) -> int:
        """Number of waiting messages, including the one that is being sent."""
        return len(self._waiting)

    def put(self, message: Unsent) -> None:
        """Queue a message; drop it if the queue is full or the sender is closed."""
        with self._changed:
            if len(self._waiting) >= self._most_waiting or self._closed.is_set():
                self.dropped += 1
                self._log("rollout.notify.dropped", message, waiting=len(self._waiting))
                return
            self._waiting.append(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rollout-notify", daemon=True)
                self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; return False after the time-out."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Send the waiting messages within `timeout_s`, and nothing afterwards; return False after the time-out."""
        is_done = self.flush(timeout_s)
        self._closed.set()
        return is_done

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._closed.is_set():
                    self._thread = None
                    return
                message = self._waiting[0]
            try:
                self._send(message)
            # The thread must survive every error of a message or a store.
            except Exception as error:
                self.failed += 1
                self._log("rollout.notify.failed", message, error_type=type(error).__qualname__)
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()

    def _send(self, message: Unsent) -> None:
        if not message.wanted():
            return
        pause_s, why = self._pause_s, ""
        for attempt in range(1, self._attempts + 1):
            why, retry_after_s = self._attempt(message)
            if not why:
                self.sent += 1
                return
            if retry_after_s is None or attempt == self._attempts:
                break
            # Jitter: processes that one receiver has refused do not all retry at the same time.
            waits_s = max(retry_after_s, pause_s * random.uniform(0.5, 1.0))
            if self._closed.wait(min(waits_s, _LONGEST_PAUSE_S)):
                break
            pause_s *= 2
        self.failed += 1
        self._log("rollout.notify.failed", message, error_type=why)

    def _attempt(self, message: Unsent) -> tuple[str, float | None]:
        """Send once; return the error ("" if none), and the minimum pause before the next attempt (None: do not retry)."""
        try:
            with self._opener.open(message.request(), timeout=self._timeout_s):
                return "", None
        except urllib.error.HTTPError as error:
            with error:
                is_retried = error.code in _RETRIED or error.code >= 500
                return str(error.code), _retry_after_s(error.headers) if is_retried else None
        # Failed connection, time-out, unverified TLS, or an answer that is not HTTP.
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            return type(reason if isinstance(reason, Exception) else error).__qualname__, 0.0

    @staticmethod
    def _log(event: str, message: Unsent, **fields: object) -> None:
        # Neither address nor body: Slack's addresses are secrets. The application's logging may raise.
        with suppress(Exception, SystemExit):
            get_logger().warning(event, rollout=message.rollout, **fields)


def _retry_after_s(headers: Message) -> float:
    with suppress(ValueError, TypeError):
        return max(0.0, float(headers["Retry-After"]))
    return 0.0


def unix_time() -> int:
    """Return whole seconds since 1970, as signatures contain them."""
    return int(time.time())
