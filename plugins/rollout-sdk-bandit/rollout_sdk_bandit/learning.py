"""The rewards of one rollout in a process: counts them, shares the sums through the store, and changes the shares."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rollout_sdk import RecordedEvent, RoutedEvent, StateError, StoreError
from rollout_sdk.extending import Controller, RolloutState, get_logger, state_of, store_of
from rollout_sdk_bandit.allocation import with_floor
from rollout_sdk_bandit.rewards import ArmSums, Ledger, Totals, added, read_totals, written_totals

if TYPE_CHECKING:
    from rollout_sdk_bandit.strategies import Bandit

__all__ = ["Learning"]

_PART: Final = "bandit"
_ACTOR: Final = "bandit"
_CHECKS_PER_BATCH: Final = 10
_LONGEST_PAUSE_S: Final = 5.0
_LEAST_CHANGE: Final = 0.005
_DIGITS: Final = 4


class Learning:
    """One bandit's rewards of one rollout in this process. Thread-safe: observers and callers of `update` share it."""

    def __init__(self, bandit: Bandit, controller: Controller) -> None:
        """Start without rewards."""
        self._bandit = bandit
        self._controller = weakref.ref(controller)
        self._writer = f"bandit-{os.getpid():x}-{os.urandom(6).hex()}"
        self._lock = threading.RLock()
        self._fingerprint: str | None = None
        self._published: Mapping[str, ArmSums] | None = None
        self._checked_s = 0.0
        self._logged: str | None = None

    def routed(self, event: RoutedEvent) -> None:
        """Count a decision."""
        with self._lock:
            state = self._follow()
            if state is not None and event.decision.fingerprint == self._fingerprint:
                self._ledger.routed(event)
                self._update_if_due(state)

    def recorded(self, event: RecordedEvent) -> None:
        """Count a reward."""
        with self._lock:
            state = self._follow()
            if state is not None and event.fingerprint == self._fingerprint:
                was_impossible = self._ledger.impossible is not None
                self._ledger.recorded(event)
                if self._ledger.impossible is not None and not was_impossible:
                    self._log_impossible(event)
                self._update_if_due(state)

    def _log_impossible(self, event: RecordedEvent) -> None:
        lowest, highest = self._bandit.limits
        with suppress(Exception, SystemExit):
            get_logger().warning(
                "rollout.bandit.refused",
                rollout=event.rollout,
                metric=event.metric,
                value=event.value,
                reason=f"a reward is between {lowest:g} and {highest:g}; others do not count, which is logged once",
            )

    def gathered(self) -> Totals:
        """Return the sums of all processes, for every arm.

        Raises:
            StoreError: The store does not answer.
        """
        with self._lock:
            state = self._follow()
            return {} if state is None else self._gather(state)

    def update(self) -> bool:
        """Compute the shares and change them; return whether they have changed.

        Raises:
            StoreError: The store does not answer.
        """
        with self._lock:
            state = self._follow()
            return state is not None and self._update(state)

    def _follow(self) -> RolloutState | None:
        """Return the rollout's state, or None if its function is gone; a new fingerprint starts without rewards."""
        controller = self._controller()
        if controller is None:
            return None
        state = state_of(controller)
        if state.fingerprint != self._fingerprint:
            self._fingerprint, self._published, self._logged = state.fingerprint, None, None
            self._ledger = Ledger(self._bandit.metric, self._bandit.window_s, self._bandit.limits)
        return state

    def _update_if_due(self, state: RolloutState) -> None:
        """Publish the sums, and change the shares if it is time; an unreachable store is tried again later."""
        now_s = self._now_s()
        every_s = min(self._bandit.batch_s / _CHECKS_PER_BATCH, _LONGEST_PAUSE_S)
        if now_s - self._checked_s < every_s:
            return
        self._checked_s = now_s
        with suppress(StoreError):
            self._publish(state)
            if now_s - state.entered_s >= self._bandit.batch_s:
                self._update(state)

    def _now_s(self) -> float:
        controller = self._controller()
        return 0.0 if controller is None else controller.runtime.time_ns() / 1e9

    def _publish(self, state: RolloutState) -> None:
        controller = self._controller()
        if controller is None or self._published == self._ledger.totals:
            return
        totals = dict(self._ledger.totals)
        # The sums are absolute, so publishing twice counts once.
        if store_of(controller.runtime).publish(controller.key, state.epoch, self._writer, {_PART: written_totals(totals)}):
            self._published = totals

    def _gather(self, state: RolloutState) -> Totals:
        controller = self._controller()
        assert controller is not None
        self._publish(state)
        parts = store_of(controller.runtime).gather(controller.key, state.epoch).parts
        others = [text for (writer, part), text in parts.items() if part == _PART and writer != self._writer]
        read: list[Mapping[str, ArmSums]] = [self._ledger.totals]
        for text in others:
            # A part of a later version, or a damaged one, is left out.
            with suppress(ValueError):
                read.append(read_totals(text))
        whole = added(read)
        arms = (state.phase.control, *state.candidates)
        return {arm: whole.get(arm, ArmSums()) for arm in arms}

    def _update(self, state: RolloutState) -> bool:
        controller = self._controller()
        if controller is None or state.status != "running" or state.invalid:
            return False
        sums = self._gather(state)
        if len(sums) < 2:
            return False
        stopped = self._bandit.stopped(sums)
        if stopped is not None:
            return self._stop(controller, state, *stopped)
        shares, why = self._bandit.wanted(sums)
        floored = with_floor(shares, self._bandit.floor)
        wanted = {arm: round(share, _DIGITS) for arm, share in floored.items() if arm != state.phase.control}
        if all(abs(share - state.phase.shares[arm]) < _LEAST_CHANGE for arm, share in wanted.items()):
            return False
        reason = f"{why}, after {sum(each.count for each in sums.values()):,.0f} rewards"
        try:
            controller.set_shares(wanted, actor=_ACTOR, reason=reason, revision=state.revision)
        # Another process came first, or the rollout was stopped in the meantime.
        except StateError:
            return False
        return True

    def _stop(self, controller: Controller, state: RolloutState, best: str, why: str) -> bool:
        if self._logged != best:
            self._logged = best
            with suppress(Exception, SystemExit):
                get_logger().info("rollout.bandit.stopped", rollout=controller.key, variant=best, reason=why)
        if not self._bandit.promotes():
            return False
        try:
            if best == state.phase.control:
                controller.abort(actor=_ACTOR, reason=why, revision=state.revision)
            else:
                controller.promote_full(best, actor=_ACTOR, reason=why, revision=state.revision)
        except StateError:
            return False
        return True
