"""Who may operate from a page: people who gave the token, and forms that this server handed out and that come back once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Session", "Sessions"]

_LIFE_S = 8 * 3_600.0
_MOST_SESSIONS = 200
_MOST_TICKETS = 500
_FAILURES_PER_MINUTE = 10
_SHORTEST_TOKEN = 16


@define
class Session:
    """A browser in which the token was entered.

    Attributes:
        actor: Who that is, by their own word; for the history of a rollout.
        ends_s: When it ends, by the monotonic clock.
        tickets: Forms that were handed out and have not come back: the rollout of each by its ticket.
    """

    actor: str
    ends_s: float
    tickets: OrderedDict[str, str] = field(factory=OrderedDict)

    def hand_out(self, key: str) -> str:
        """A ticket for one change of one rollout."""
        ticket = secrets.token_urlsafe(18)
        self.tickets[ticket] = key
        while len(self.tickets) > _MOST_TICKETS:
            self.tickets.popitem(last=False)
        return ticket

    def redeem(self, ticket: str, key: str) -> bool:
        """Whether a ticket was handed out for this rollout; it is good once."""
        return self.tickets.pop(ticket, None) == key


class Sessions:
    """The sessions of one server. They are in its memory: a restart ends all of them."""

    def __init__(self, token: str, *, clock: Callable[[], float] = monotonic) -> None:
        """Let those operate who know a token.

        Args:
            token: The token.
            clock: For tests.

        Raises:
            ConfigurationError: The token is too short.
        """
        if len(token) < _SHORTEST_TOKEN:
            raise ConfigurationError(
                f"The token of the dashboard has {len(token)} characters. Anyone who can reach the page could guess it. "
                f"Give one with at least {_SHORTEST_TOKEN}, or none: then one is made up and printed."
            )
        self._token = _digest(token)
        self._clock = clock
        self._by_id: OrderedDict[str, Session] = OrderedDict()
        self._failures: list[float] = []

    def open(self, token: str, actor: str) -> str | None:
        """The id of a new session; None where the token is wrong."""
        # Digests have one length, so the time tells nothing about the token, and neither about its length.
        if not hmac.compare_digest(_digest(token), self._token):
            self._failures.append(self._clock())
            return None
        session_id = secrets.token_urlsafe(32)
        # Only the digest is kept: a copy of this memory opens no session.
        self._by_id[_digest(session_id).hex()] = Session(actor, self._clock() + _LIFE_S)
        while len(self._by_id) > _MOST_SESSIONS:
            self._by_id.popitem(last=False)
        return session_id

    def is_locked(self) -> bool:
        """Whether so many tokens were wrong in the last minute that none is tried any more."""
        since = self._clock() - 60.0
        self._failures = [at for at in self._failures if at > since]
        return len(self._failures) >= _FAILURES_PER_MINUTE

    def find(self, session_id: str | None) -> Session | None:
        """The session with this id, unless it has ended."""
        if not session_id:
            return None
        session = self._by_id.get(_digest(session_id).hex())
        return session if session is not None and session.ends_s > self._clock() else None

    def close(self, session_id: str | None) -> None:
        """End a session."""
        if session_id:
            self._by_id.pop(_digest(session_id).hex(), None)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
