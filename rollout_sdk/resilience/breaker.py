"""Circuit breakers: stop running a candidate that keeps failing, and later try it with a single probe.

    closed --too many failures--> open --after the cooldown, one probe--> closed, or open again for twice as long

Only failures in excess of the control's count: in an outage that affects both, the candidate's breaker stays closed. So each
recent run is stored with the control's failure rate: in the same call if it ran there, too (as the fallback, or beside a
shadow), and otherwise in recent calls.

No lock is taken, and no exception is kept. A state is replaced as a whole by the thread that takes its single token. A run
carries the number of the state that admitted it, so runs started before a breaker opened do not affect the states after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import sqrt
from numbers import Integral, Real

from attrs import asdict, define, field, frozen

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Breaker", "CircuitBreaker", "ControlHealth"]

_NEWEST = 0.3
_HEALTHY = 0.01
_STALE_S = 60.0

_EXCESS = 0.5
_STANDARD_ERRORS = 4.0

_WELL = (False, 0.0)


@frozen(kw_only=True)
class Breaker:
    """When a candidate stops being run, and when it is tried again.

    A run fails if it raises (unless `passthrough` names the exception), gives an answer that `failed_if` classifies as a
    failure, misses its deadline, or times out as a shadow. While the breaker is open, the control answers in the candidate's
    place and the candidate is not shadowed; units stay assigned, so that every analysis attributes the failure to the
    candidate.

    It opens if both conditions hold for the candidate's recent runs: the share of failures is at least `failure_share`, and
    exceeds the control's share by at least half of `failure_share` and by four standard errors. The control's share is that of
    the same calls if the control ran in them, too (as the fallback, beside a shadow, or in a blend), and otherwise that of its
    recent calls in this process. If the control hardly runs (a share of 100 % with on_error="raise"), there is nothing to
    compare with, and the first condition decides alone.

    Attributes:
        window: Number of recent runs that count.
        min_runs: Runs before the breaker may open, at most `window`.
        failure_share: Share of failures, above 0 and up to 1, that opens the breaker while the control is healthy.
        cooldown_s: Seconds until one run may probe whether the candidate works again; doubled after each failed probe.
        max_cooldown_s: Maximum cooldown, in seconds.
    """

    window: int = 100
    min_runs: int = 20
    failure_share: float = 0.5
    cooldown_s: float = 30.0
    max_cooldown_s: float = 600.0

    def __attrs_post_init__(self) -> None:
        """Reject a breaker that could never open, or never close."""
        runs, numbers = (self.min_runs, self.window), (self.failure_share, self.cooldown_s, self.max_cooldown_s)
        are_numbers = all(isinstance(each, Integral) for each in runs) and all(isinstance(each, Real) for each in numbers)
        if (
            not are_numbers
            or any(isinstance(each, bool) for each in (*runs, *numbers))
            or not 0 < self.min_runs <= self.window
            or not 0 < self.failure_share <= 1
            or not 0 < self.cooldown_s <= self.max_cooldown_s
        ):
            got = ", ".join(f"{name}={value!r:.40}" for name, value in asdict(self).items())
            raise ConfigurationError(
                f"Breaker got {got}. It needs 1 <= min_runs <= window, both whole, 0 < failure_share <= 1 and "
                "0 < cooldown_s <= max_cooldown_s. To run without one, pass breaker=None."
            )


@define(slots=True, eq=False)
class _State:
    """One period of a breaker, closed or open.

    Attributes:
        number: Number of the period; the ticket of every run that it admits.
        until: Monotonic time from which a probe may run; None while closed.
        cooldown_s: Its cooldown; while closed, the next one.
        recent: For each recent run, whether it failed, and the control's failure share then (for a single call: 0 or 1).
        probes: The single permit to probe.
        ends: The single permit to end the period.
    """

    number: int
    until: float | None
    cooldown_s: float
    recent: deque[tuple[bool, float]]
    probes: deque[None] = field(factory=lambda: deque([None]))
    ends: deque[None] = field(factory=lambda: deque([None]))


def _take(permits: deque[None]) -> bool:
    """Return True to the one caller that gets the permit."""
    try:
        permits.pop()
    except IndexError:
        return False
    return True


class ControlHealth:
    """Recent health of a rollout's control in this process, with which failures of its candidates are compared.

    Attributes:
        share: Moving average of its failure share; exactly 0 while it is healthy, so that a call needs a single check.
    """

    __slots__ = ("_failed_s", "share")

    def __init__(self) -> None:
        """Start healthy."""
        self.share = 0.0
        self._failed_s = 0.0

    def note(self, *, failed: bool) -> None:
        """Record the outcome of a run of the control. Successes need not be recorded while `share` is 0."""
        share = self.share + _NEWEST * (failed - self.share)
        self.share = share if share > _HEALTHY else 0.0
        if failed:
            self._failed_s = monotonic()

    @property
    def now(self) -> float:
        """The share, reset to 0 after a minute without failures: a control that rarely runs does not stay unhealthy."""
        if self.share and monotonic() - self._failed_s > _STALE_S:
            self.share = 0.0
        return self.share


class CircuitBreaker:
    """The breaker of one candidate (or of one hook of a plugin) in this process."""

    __slots__ = ("_changed", "_state", "control", "settings")

    def __init__(
        self, settings: Breaker, changed: Callable[[bool, int, int, float], None], control: ControlHealth | None = None
    ) -> None:
        """Create a closed breaker.

        Args:
            settings: When it opens and closes.
            changed: Called when it has opened (True) or closed, with the failures and runs that were counted, and the cooldown
                in seconds; must not raise.
            control: Health of the control; None if there is none to compare with, as for a plugin's hook.
        """
        self.settings = settings
        self.control = ControlHealth() if control is None else control
        self._changed = changed
        self._state = self._closed(0)

    def _closed(self, number: int) -> _State:
        return _State(number, None, self.settings.cooldown_s, deque(maxlen=self.settings.window))

    @property
    def is_open(self) -> bool:
        """Whether runs are refused, except for a probe."""
        return self._state.until is not None

    def admit(self) -> int | None:
        """Return a ticket for a run, to be passed to `note`; None if it must not start."""
        state = self._state
        if state.until is None:
            return state.number
        return self._probe(state, state.until)

    @property
    def ticket(self) -> int | None:
        """The ticket of a run while the breaker is closed; None while it is open, also for a probe."""
        state = self._state
        return state.number if state.until is None else None

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
        # A probe that never ends (a stream that is not read) must not keep the breaker open forever.
        if now >= until + state.cooldown_s and _take(state.ends):
            self._state = _State(state.number + 1, now, state.cooldown_s, state.recent)
        return None

    def note(self, ticket: int, *, failed: bool, control_failed: bool | None = None) -> None:
        """Record the outcome of an admitted run.

        Args:
            ticket: The ticket from `admit`.
            failed: Whether the run failed.
            control_failed: Whether the control failed in the same call; None if it did not run or was interrupted.
        """
        state = self._state
        if ticket != state.number:
            return
        if state.until is not None:
            self._end(state, opens=failed, cooldown_s=min(2 * state.cooldown_s, self.settings.max_cooldown_s))
            return
        share = self.control.share
        if failed or share or control_failed:
            share = self.control.now if control_failed is None else float(control_failed)
            state.recent.append((failed, share))
        else:
            state.recent.append(_WELL)
        if failed and self._is_worse(state.recent.copy()):
            self._end(state, opens=True, cooldown_s=state.cooldown_s)

    def _is_worse(self, runs: deque[tuple[bool, float]]) -> bool:
        """Whether enough of these runs failed, and significantly more than the control's."""
        number = len(runs)
        if number < self.settings.min_runs:
            return False
        failed = sum([failed for failed, _ in runs]) / number
        # Includes the control's current health: at the start of an outage, its own calls show it later than the candidate's.
        control = max(sum([share for _, share in runs]) / number, self.control.now)
        # Both shares are estimates. If the control is healthy, the first condition decides alone.
        least = self.settings.failure_share
        margin = max(_EXCESS * least, _STANDARD_ERRORS * sqrt(2 * control * (1 - control) / number))
        return failed >= least and failed - control >= margin

    def trip(self) -> None:
        """Open at once, whatever the failure share: for events worse than a failed run."""
        state = self._state
        if state.until is None:
            self._end(state, opens=True, cooldown_s=state.cooldown_s)

    def _end(self, state: _State, *, opens: bool, cooldown_s: float) -> None:
        """End a period, unless another thread has."""
        if not _take(state.ends):
            return
        number, runs = state.number + 1, state.recent.copy()
        self._state = _State(number, monotonic() + cooldown_s, cooldown_s, state.recent) if opens else self._closed(number)
        self._changed(opens, sum([failed for failed, _ in runs]), len(runs), cooldown_s if opens else 0.0)
