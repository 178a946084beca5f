"""The driver: flags set a rollout's share, or switch its candidates off and on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from math import isfinite
from time import monotonic
from types import TracebackType
from typing import Self

from attrs import define
from openfeature.client import OpenFeatureClient
from openfeature.event import EventDetails, ProviderEvent
from openfeature.provider import FeatureProvider

from rollout_sdk import ConfigurationError
from rollout_sdk.extending import get_logger, newest, renew_after_fork
from rollout_sdk_openfeature.flags import FlagValue, ShareFlag, Source, SwitchFlag

__all__ = ["FlagDriver"]

_TARGETING_KEY = "rollout_sdk"
_EVENTS = (ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, ProviderEvent.PROVIDER_READY)
_SHORTEST_PAUSE_S = 0.05
_PATIENCE_S = 10.0


@define(eq=False)
class _Driven:
    """A flag, its value that was applied last, and what is wrong with it."""

    flag: ShareFlag | SwitchFlag
    applied: float | None = None
    problem: str | None = None


class FlagDriver:
    """Applies flags to rollouts: `FlagDriver(api.get_client(), [ShareFlag("rank-share", rank), SwitchFlag("rank-on", rank)])`.

    Flags are evaluated once a second in one daemon thread, and at once when the provider announces a change; never on a call's
    path, and never for a user. Only the rollout decides who gets the candidate.

    A share is set when its flag changes, and when it is read for the first time: later promotions by a person or the judge are
    not reverted. While a switch is false, no candidate runs in this process, and units keep their variants for later. It is not
    an abort, and undoes none.

    Unreliable values change nothing, and the last state stays in effect: a provider that fails or hangs, a flag that is
    missing, disabled or stale, a default, a text, NaN, a number outside 0 to 1. They are listed in `problems`, and logged once.
    """

    def __init__(
        self,
        source: OpenFeatureClient | FeatureProvider,
        flags: Iterable[ShareFlag | SwitchFlag],
        *,
        every_s: float = 1.0,
        targeting_key: str = _TARGETING_KEY,
    ) -> None:
        """Create a driver; nothing is evaluated before `start` or `poll`.

        Args:
            source: An OpenFeature client, or an initialised provider, whose events are not received.
            flags: The flags, each with the rollout that it drives.
            every_s: Seconds between two evaluations of the flags.
            targeting_key: Targeting key of all evaluations; the flags' rules can also use the attribute `rollout`, the
                rollout's key.

        Raises:
            ConfigurationError: A flag drives nothing, two drive the same share, or `every_s` is not a time.
        """
        if isinstance(every_s, bool) or not isinstance(every_s, int | float) or not (isfinite(every_s) and every_s > 0):
            raise ConfigurationError(
                f"every_s={every_s!r:.60} of FlagDriver is not a time. It is in seconds, above 0. Write 1.0."
            )
        self._source = Source(source, targeting_key)
        # Switches first: stopping candidates must not wait until shares are set.
        self._driven = [_Driven(flag) for flag in sorted(map(_validated, flags), key=lambda flag: isinstance(flag, ShareFlag))]
        _refuse_rivals([each.flag for each in self._driven])
        self._every_s = float(every_s)
        self._is_started = False
        self._is_closed = False
        self._listens_in: int | None = None
        self._reset()
        renew_after_fork(self)

    def _reset(self) -> None:
        """Create what belongs to one process."""
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._evaluating: tuple[str, float] | None = None

    def renew(self) -> None:
        """Start a thread in a forked child, if the parent had one. The flags' last values stay in effect there, too."""
        self._reset()
        if self._is_started and not self._is_closed:
            self._run_thread()

    @property
    def problems(self) -> dict[str, str]:
        """Flags without a reliable value now, and the reasons; empty if there are none."""
        found = {each.flag.flag: each.problem for each in self._driven if each.problem is not None}
        evaluating = self._evaluating
        if evaluating is not None and monotonic() - evaluating[1] > _PATIENCE_S:
            found[evaluating[0]] = f"its evaluation has not returned for {monotonic() - evaluating[1]:.0f} s"
        return found

    def start(self) -> Self:
        """Start one daemon thread that evaluates the flags; a second start does nothing. A forked child gets its own thread."""
        with self._starting:
            if self._is_closed or self._thread is not None:
                return self
            self._is_started = True
            if self._source.client is not None:
                self._listens_in = os.getpid()
                for event in _EVENTS:
                    self._source.client.add_handler(event, self._changed)
            self._run_thread()
        return self

    def poll(self) -> bool:
        """Evaluate and apply every flag now. Never raises.

        It takes as long as the provider does. Returns False without doing anything if another thread is doing it, and after
        `close`.
        """
        if self._is_closed or not self._turn.acquire(blocking=False):
            return False
        try:
            for driven in self._driven:
                self._refresh(driven)
        finally:
            self._turn.release()
        return True

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop, and wait for an evaluation in progress for at most `timeout_s`. The flags' last values stay in effect."""
        with self._starting:
            self._is_closed = True
            # In a forked child, the lock of OpenFeature's handlers may stay locked forever.
            if self._source.client is not None and self._listens_in == os.getpid():
                self._listens_in = None
                for event in _EVENTS:
                    self._source.client.remove_handler(event, self._changed)
            thread, self._is_started = self._thread, False
        self._ended.set()
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def __enter__(self) -> Self:
        """Start the driver."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the driver."""
        self.close()

    def _changed(self, details: EventDetails) -> None:
        del details
        self._wake.set()

    def _run_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="rollout-flags", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        ended, wake = self._ended, self._wake
        while not self._is_closed:
            self.poll()
            # A provider may announce changes at any rate, so two evaluations are at least this far apart.
            ended.wait(_SHORTEST_PAUSE_S)
            wake.wait(self._every_s)
            wake.clear()

    def _refresh(self, driven: _Driven) -> None:
        flag = driven.flag
        try:
            value = self._evaluate(driven)
            if self._is_closed:
                return
            self._apply(driven, value)
        # Any error, including a rollout's and a store's: nothing has changed, and the next evaluation tries again.
        except (Exception, SystemExit) as error:
            problem = str(error) or type(error).__name__
            if problem != driven.problem:
                _log("rollout.flag.refused", flag, why=problem)
            driven.problem = problem
        else:
            driven.problem = None
        if not self._is_closed and isinstance(flag, SwitchFlag) and driven.applied == 0:
            with suppress(Exception):
                # Repeated, because the function may have been decorated again in the meantime.
                _switch(flag, on=False)

    def _evaluate(self, driven: _Driven) -> FlagValue:
        flag = driven.flag
        self._evaluating = flag.flag, monotonic()
        try:
            if isinstance(flag, ShareFlag):
                return self._source.share(flag.flag, flag.rollout.key)
            return self._source.switch(flag.flag, flag.rollout.key, now=driven.applied != 0)
        finally:
            self._evaluating = None

    def _apply(self, driven: _Driven, flag_value: FlagValue) -> None:
        flag, value, actor = driven.flag, flag_value.value, f"openfeature:{self._source.name}"
        if value == driven.applied:
            return
        if isinstance(flag, SwitchFlag):
            _switch(flag, on=bool(value))
            _log("rollout.flag.switched", flag, disabled=not value, actor=actor, reason=flag_value.description)
        else:
            controller = newest(flag.rollout)
            if controller.phase.shares.get(flag.candidate or "") != value:
                controller.set_share(value, flag.candidate, actor=actor, reason=flag_value.description)
        driven.applied = value


def _switch(flag: SwitchFlag, *, on: bool) -> None:
    """Switch candidates on or off, for this flag; other holders, such as the control file, may still keep them off."""
    controller, holder = newest(flag.rollout), f"flag {flag.flag}"
    if on:
        controller.enable(holder=holder)
    else:
        controller.disable(holder=holder)


def _log(event: str, flag: ShareFlag | SwitchFlag, **fields: object) -> None:
    """Log an event about a flag; never raises, because the application's logging may."""
    with suppress(Exception, SystemExit):
        get_logger().warning(event, rollout=flag.rollout.key, flag=flag.flag, **fields)


def _validated(flag: object) -> ShareFlag | SwitchFlag:
    if not isinstance(flag, ShareFlag | SwitchFlag):
        raise ConfigurationError(
            f"{flag!r:.60} of FlagDriver drives nothing. flags= is a list of ShareFlag and SwitchFlag. "
            "Write ShareFlag('rank-share', rank)."
        )
    return flag


def _refuse_rivals(flags: Iterable[ShareFlag | SwitchFlag]) -> None:
    known: dict[tuple[str, str | None], str] = {}
    for flag in flags:
        if isinstance(flag, ShareFlag):
            first = known.setdefault((flag.rollout.key, flag.candidate), flag.flag)
            if first != flag.flag:
                raise ConfigurationError(
                    f"The flags {first!r} and {flag.flag!r} of FlagDriver set the share of the same candidate of "
                    f"{flag.rollout.key!r}. Only one flag can set a share. Remove one of them."
                )
