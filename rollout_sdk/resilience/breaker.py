"""Circuit breakers: what keeps failing is left alone for a while, and then tried by exactly one call.

    closed --too many failures--> open --after the cooldown, one probe--> closed, or open again for twice as long

A candidate is left alone for what it does worse than the control: in an outage that hits both, its breaker stays closed. So
each of its last runs is kept with how the control did: in the same call where it ran there, too (as its fallback, or beside
its shadow), and else recently.

No lock is taken, and no exception is kept. A state is replaced as a whole by whoever takes its only token; a run carries the
number of the state that admitted it, so that what started before a breaker opened says nothing about what came after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import sqrt

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
    """When a candidate is no longer run, and when it is tried again.

    A run fails when it raises (unless `passthrough` names the exception), gives an answer that `failed_if` calls a failure,
    misses its deadline, or times out as a shadow. While the breaker is open, the control answers in the candidate's place and
    it is not shadowed; units stay assigned, so that the failure stays the candidate's in every analysis.

    It opens when both hold for the candidate's last runs: the share of failed ones is at least `failure_share`, and exceeds the
    control's share by at least half of `failure_share` and by four standard errors. The control's share is that of the same
    calls where the control ran in them, too (as the fallback, beside a shadow, or in a blend), and else that of its recent
    calls in this process. Where a control hardly runs (a share of 100 % with on_error="raise"), there is nothing to compare
    with, and the first condition decides alone.

    Attributes:
        window: Last runs that count.
        min_runs: Runs before anything is concluded, at most `window`.
        failure_share: Share of failed runs, above 0 and up to 1, that opens the breaker while the control does well.
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
        recent: Of each of the last runs, whether it failed, and the control's share of failures then (of one call: 0 or 1).
        probes: The one permit to probe.
        ends: The one permit to end the period.
    """

    number: int
    until: float | None
    cooldown_s: float
    recent: deque[tuple[bool, float]]
    probes: deque[None] = field(factory=lambda: deque([None]))
    ends: deque[None] = field(factory=lambda: deque([None]))


def _take(permits: deque[None]) -> bool:
    """Whether the caller is the one who gets the permit."""
    try:
        permits.pop()
    except IndexError:
        return False
    return True


class ControlHealth:
    """How the control of a rollout did recently in this process: what failures of its candidates are compared with.

    Attributes:
        share: Moving average of its share of failed runs; exactly 0 while all is well, which is all that a call looks at.
    """

    __slots__ = ("_failed_s", "share")

    def __init__(self) -> None:
        """All is well."""
        self.share = 0.0
        self._failed_s = 0.0

    def note(self, *, failed: bool) -> None:
        """Note how a run of the control went. A run that did well need not be noted while `share` is 0."""
        share = self.share + _NEWEST * (failed - self.share)
        self.share = share if share > _HEALTHY else 0.0
        if failed:
            self._failed_s = monotonic()

    @property
    def now(self) -> float:
        """The share, as far as it says something about now: a control that rarely runs does not stay ill forever."""
        if self.share and monotonic() - self._failed_s > _STALE_S:
            self.share = 0.0
        return self.share


class CircuitBreaker:
    """The breaker of one candidate (or of one hook of a plugin) in this process."""

    __slots__ = ("_changed", "_state", "control", "settings")

    def __init__(
        self, settings: Breaker, changed: Callable[[bool, int, int, float], None], control: ControlHealth | None = None
    ) -> None:
        """Begin closed.

        Args:
            settings: When it opens and closes.
            changed: Called when it opened (True) or closed, with failures and runs that were counted, and the cooldown in
                seconds; must not raise.
            control: How the control does; None where there is nothing to compare with, as for a plugin's hook.
        """
        self.settings = settings
        self.control = ControlHealth() if control is None else control
        self._changed = changed
        self._state = self._closed(0)

    def _closed(self, number: int) -> _State:
        return _State(number, None, self.settings.cooldown_s, deque(maxlen=self.settings.window))

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

    def note(self, ticket: int, *, failed: bool, control_failed: bool | None = None) -> None:
        """Note how a run went that was admitted.

        Args:
            ticket: What `admit` gave.
            failed: Whether the run failed.
            control_failed: Whether the control failed in the same call; None where it did not run, or was interrupted.
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
        """Whether so many of these runs failed, and so many more than of the control's, that it is not chance."""
        number = len(runs)
        if number < self.settings.min_runs:
            return False
        failed = sum([failed for failed, _ in runs]) / number
        # What the control does now, too: at the beginning of an outage, its own calls show it later than the candidate's.
        control = max(sum([share for _, share in runs]) / number, self.control.now)
        # Both shares are measured. Where the control does well, the first condition decides alone.
        least = self.settings.failure_share
        margin = max(_EXCESS * least, _STANDARD_ERRORS * sqrt(2 * control * (1 - control) / number))
        return failed >= least and failed - control >= margin

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
        self._changed(opens, sum([failed for failed, _ in runs]), len(runs), cooldown_s if opens else 0.0)
