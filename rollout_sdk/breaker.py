"""Circuit breakers: what keeps failing is left alone for a while, and then tried by exactly one call.

    closed --too many failures--> open --after the cooldown, one probe--> closed, or open again for twice as long

No lock is taken, and no exception is kept. A state is replaced as a whole by whoever takes its only token; a run carries the
number of the state that admitted it, so that what started before a breaker opened says nothing about what came after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from attrs import asdict, define, field, frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Breaker", "CircuitBreaker"]


@frozen(kw_only=True)
class Breaker:
    """When a candidate is no longer run, and when it is tried again.

    A run fails when it raises (unless `passthrough` names the exception), misses its deadline, or times out as a shadow.
    While the breaker is open, the control answers in the candidate's place and it is not shadowed; units stay assigned, so
    that the failure stays the candidate's in every analysis.

    Attributes:
        window: Last runs that count.
        min_runs: Runs before anything is concluded, at most `window`.
        failure_share: Share of failed runs, above 0 and up to 1, that opens the breaker.
        cooldown_s: Seconds until one run may probe whether the candidate works again; doubled each time it does not.
        max_cooldown_s: The longest cooldown, in seconds.
    """

    window: int = 100
    min_runs: int = 20
    failure_share: float = 0.5
    cooldown_s: float = 30.0
    max_cooldown_s: float = 600.0

    def __attrs_post_init__(self) -> None:
        """Refuse a breaker that could never open, or never close."""
        if not (
            0 < self.min_runs <= self.window and 0 < self.failure_share <= 1 and 0 < self.cooldown_s <= self.max_cooldown_s
        ):
            raise ConfigurationError(
                f"Breaker got {asdict(self)}. It needs 1 <= min_runs <= window, 0 < failure_share <= 1 and "
                "0 < cooldown_s <= max_cooldown_s. To run without one, pass breaker=None."
            )


@define(slots=True, eq=False)
class _State:
    """One period of a breaker, closed or open.

    Attributes:
        number: Which period; the ticket of every run that it admits.
        until: Monotonic time from which a probe may run; None while closed.
        cooldown_s: How long it was opened for; while closed, how long it would be.
        recent: Whether each of the last runs failed.
        probes: The one permit to probe.
        ends: The one permit to end the period.
    """

    number: int
    until: float | None
    cooldown_s: float
    recent: deque[bool]
    probes: deque[None] = field(factory=lambda: deque([None]))
    ends: deque[None] = field(factory=lambda: deque([None]))


def _take(permits: deque[None]) -> bool:
    """Whether the caller is the one who gets the permit."""
    try:
        permits.pop()
    except IndexError:
        return False
    return True


class CircuitBreaker:
    """The breaker of one candidate (or of one hook of a plugin) in this process."""

    __slots__ = ("_changed", "_settings", "_state")

    def __init__(self, settings: Breaker, changed: Callable[[bool, int, int, float], None]) -> None:
        """Begin closed.

        Args:
            settings: When it opens and closes.
            changed: Told when it opened (True) or closed, with failures and runs that were counted, and the cooldown in
                seconds; must not raise.
        """
        self._settings = settings
        self._changed = changed
        self._state = self._closed(0)

    def _closed(self, number: int) -> _State:
        return _State(number, None, self._settings.cooldown_s, deque(maxlen=self._settings.window))

    @property
    def is_open(self) -> bool:
        """Whether runs are refused now, or all but a probe."""
        return self._state.until is not None

    def admit(self) -> int | None:
        """A ticket for a run, which `note` asks back; None when it must not start."""
        state = self._state
        if state.until is None:
            return state.number
        return self._probe(state, state.until)

    def would_admit(self) -> bool:
        """Whether a run would get a ticket now; takes none."""
        state = self._state
        return state.until is None or (monotonic() >= state.until and bool(state.probes))

    def _probe(self, state: _State, until: float) -> int | None:
        now = monotonic()
        if now < until:
            return None
        if _take(state.probes):
            return state.number
        # A probe that never came back (a stream that nobody reads) must not keep it open for ever.
        if now >= until + state.cooldown_s and _take(state.ends):
            self._state = _State(state.number + 1, now, state.cooldown_s, state.recent)
        return None

    def note(self, ticket: int, *, failed: bool) -> None:
        """How a run went that was admitted."""
        state = self._state
        if ticket != state.number:
            return
        if state.until is not None:
            self._end(state, opens=failed, cooldown_s=min(2 * state.cooldown_s, self._settings.max_cooldown_s))
            return
        recent = state.recent
        recent.append(failed)
        if failed:
            runs = recent.copy()
            if len(runs) >= self._settings.min_runs and sum(runs) >= self._settings.failure_share * len(runs):
                self._end(state, opens=True, cooldown_s=state.cooldown_s)

    def trip(self) -> None:
        """Open at once, whatever the share of failures: something worse has happened than a failed run."""
        state = self._state
        if state.until is None:
            self._end(state, opens=True, cooldown_s=state.cooldown_s)

    def _end(self, state: _State, *, opens: bool, cooldown_s: float) -> None:
        """End a period, unless somebody else was faster."""
        if not _take(state.ends):
            return
        number, runs = state.number + 1, state.recent.copy()
        self._state = _State(number, monotonic() + cooldown_s, cooldown_s, state.recent) if opens else self._closed(number)
        self._changed(opens, sum(runs), len(runs), cooldown_s if opens else 0.0)
