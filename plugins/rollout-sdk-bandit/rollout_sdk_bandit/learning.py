"""What a process learns about one rollout, shares with the others through the store, and does with it."""

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
_LOOKS: Final = 10
_LONGEST_LOOK_S: Final = 5.0
_LEAST_CHANGE: Final = 0.005
_DIGITS: Final = 4


class Learning:
    """One bandit's rewards of one rollout in this process. Used by the threads of observers, and by whoever asks."""

    def __init__(self, bandit: Bandit, controller: Controller) -> None:
        """Know nothing yet."""
        self._bandit = bandit
        self._controller = weakref.ref(controller)
        self._writer = f"bandit-{os.getpid():x}-{os.urandom(6).hex()}"
        self._turn = threading.RLock()
        self._fingerprint: str | None = None
        self._published: Mapping[str, ArmSums] | None = None
        self._looked_s = 0.0
        self._said: str | None = None

    def routed(self, event: RoutedEvent) -> None:
        """Count a decision."""
        with self._turn:
            state = self._follow()
            if state is not None and event.decision.fingerprint == self._fingerprint:
                self._ledger.routed(event)
                self._look(state)

    def recorded(self, event: RecordedEvent) -> None:
        """Count a reward."""
        with self._turn:
            state = self._follow()
            if state is not None and event.fingerprint == self._fingerprint:
                self._ledger.recorded(event)
                self._look(state)

    def gathered(self) -> Totals:
        """The sums of all processes, every arm among them.

        Raises:
            StoreError: The store does not answer.
        """
        with self._turn:
            state = self._follow()
            return {} if state is None else self._gathered(state)

    def update(self) -> bool:
        """Change the shares as the rewards ask for; whether they have changed.

        Raises:
            StoreError: The store does not answer.
        """
        with self._turn:
            state = self._follow()
            return state is not None and self._updated(state)

    def _follow(self) -> RolloutState | None:
        """Where the rollout stands; under another fingerprint, everything is learnt anew. None: its function is gone."""
        controller = self._controller()
        if controller is None:
            return None
        state = state_of(controller)
        if state.fingerprint != self._fingerprint:
            self._fingerprint, self._published, self._said = state.fingerprint, None, None
            self._ledger = Ledger(self._bandit.metric, self._bandit.window_s)
        return state

    def _look(self, state: RolloutState) -> None:
        """Publish what was learnt, and change the shares when it is time; a store that is away is asked again later."""
        now_s = self._now_s()
        every_s = min(self._bandit.batch_s / _LOOKS, _LONGEST_LOOK_S)
        if now_s - self._looked_s < every_s:
            return
        self._looked_s = now_s
        with suppress(StoreError):
            self._publish(state)
            if now_s - state.entered_s >= self._bandit.batch_s:
                self._updated(state)

    def _now_s(self) -> float:
        controller = self._controller()
        return 0.0 if controller is None else controller.runtime.time_ns() / 1e9

    def _publish(self, state: RolloutState) -> None:
        controller = self._controller()
        if controller is None or self._published == self._ledger.totals:
            return
        totals = dict(self._ledger.totals)
        # Absolute sums: publishing twice counts once.
        if store_of(controller.runtime).publish(controller.key, state.epoch, self._writer, {_PART: written_totals(totals)}):
            self._published = totals

    def _gathered(self, state: RolloutState) -> Totals:
        controller = self._controller()
        assert controller is not None
        self._publish(state)
        parts = store_of(controller.runtime).gather(controller.key, state.epoch).parts
        others = [text for (writer, part), text in parts.items() if part == _PART and writer != self._writer]
        read: list[Mapping[str, ArmSums]] = [self._ledger.totals]
        for text in others:
            # Of a later version, or damaged: learnt without it.
            with suppress(ValueError):
                read.append(read_totals(text))
        whole = added(read)
        arms = (state.phase.control, *state.candidates)
        return {arm: whole.get(arm, ArmSums()) for arm in arms}

    def _updated(self, state: RolloutState) -> bool:
        controller = self._controller()
        if controller is None or state.status != "running" or state.invalid:
            return False
        sums = self._gathered(state)
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
        # Another process was faster, or somebody has stopped it meanwhile.
        except StateError:
            return False
        return True

    def _stop(self, controller: Controller, state: RolloutState, best: str, why: str) -> bool:
        if self._said != best:
            self._said = best
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
