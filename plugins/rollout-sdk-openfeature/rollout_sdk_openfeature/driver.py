"""The driver: a flag moves a rollout's share, or switches its candidates off."""

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
from rollout_sdk.concurrency.forking import renew_after_fork
from rollout_sdk_openfeature.flags import Believed, ShareFlag, Source, SwitchFlag
from rollout_sdk_openfeature.rollouts import current
from rollout_sdk_openfeature.switching import switch_off, switch_on
from rollout_sdk_openfeature.telling import tell

__all__ = ["FlagDriver"]

_TARGETING_KEY = "rollout_sdk"
_EVENTS = (ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, ProviderEvent.PROVIDER_READY)
_SHORTEST_PAUSE_S = 0.05
_PATIENCE_S = 10.0


@define(eq=False)
class _Driven:
    """A flag, what was last done by it, and what is wrong with it."""

    flag: ShareFlag | SwitchFlag
    done: float | None = None
    problem: str | None = None


class FlagDriver:
    """Has flags drive rollouts: `FlagDriver(api.get_client(), [ShareFlag("rank-share", rank), SwitchFlag("rank-on", rank)])`.

    Flags are evaluated once a second in one daemon thread, and at once when the provider says that something has changed;
    never on a call's path, and never for a user. Who gets the candidate stays the rollout's own decision.

    A share is set when its flag changes (and when it is read for the first time): whoever promotes afterwards, a person or the
    judge, is not called back. A switch that is false holds for as long as it is: no candidate runs in this process, and units
    keep their variants for later. It is not an abort, and undoes none.

    What cannot be believed changes nothing, and what held before goes on: a provider that fails or hangs, a flag that is
    missing, disabled or stale, a default, a text, NaN, a number outside 0 to 1. It stands in `problems`, and is logged once.
    """

    def __init__(
        self,
        source: OpenFeatureClient | FeatureProvider,
        flags: Iterable[ShareFlag | SwitchFlag],
        *,
        every_s: float = 1.0,
        targeting_key: str = _TARGETING_KEY,
    ) -> None:
        """Evaluate nothing and start nothing yet: see `start` and `poll`.

        Args:
            source: An OpenFeature client, or a provider that is initialised already (whose events nobody hears then).
            flags: What drives what.
            every_s: Seconds between two looks at the flags.
            targeting_key: What flags are evaluated for; their rules can use the attribute `rollout`, a rollout's key, too.

        Raises:
            ConfigurationError: A flag drives nothing, or two drive the same share.
        """
        if isinstance(every_s, bool) or not isinstance(every_s, int | float) or not (isfinite(every_s) and every_s > 0):
            raise ConfigurationError(f"every_s={every_s!r:.60} of FlagDriver is no time. It is in seconds, above 0. Write 1.0.")
        self._source = Source(source, targeting_key)
        # What stops candidates comes first: it shall not wait for what gives them more.
        self._driven = [_Driven(flag) for flag in sorted(map(_checked, flags), key=lambda flag: isinstance(flag, ShareFlag))]
        _refuse_rivals([each.flag for each in self._driven])
        self._every_s = float(every_s)
        self._is_started = False
        self._is_closed = False
        self._listens_in: int | None = None
        self._afresh()
        renew_after_fork(self)

    def _afresh(self) -> None:
        """Whatever belongs to one process."""
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._asking: tuple[str, float] | None = None

    def renew(self) -> None:
        """In a forked child: a thread of its own, if the parent had one. What the flags said last holds there, too."""
        self._afresh()
        if self._is_started and not self._is_closed:
            self._run_thread()

    @property
    def problems(self) -> dict[str, str]:
        """Flags by which nothing can be done now, and why; empty when all is well."""
        found = {each.flag.flag: each.problem for each in self._driven if each.problem is not None}
        asking = self._asking
        if asking is not None and monotonic() - asking[1] > _PATIENCE_S:
            found[asking[0]] = f"its evaluation has not come back for {monotonic() - asking[1]:.0f} s"
        return found

    def start(self) -> Self:
        """Look at the flags from now on, in one daemon thread; starting twice changes nothing. In every process of its own."""
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
        """Look at every flag now and do what it says; False when that is under way in another thread, and after `close`.

        It takes as long as the provider does. Never raises.
        """
        if self._is_closed or not self._turn.acquire(blocking=False):
            return False
        try:
            for driven in self._driven:
                self._look(driven)
        finally:
            self._turn.release()
        return True

    def close(self, timeout_s: float = 1.0) -> None:
        """Look no more, and wait so many seconds at most for a look that is under way. What the flags said last holds on."""
        with self._starting:
            self._is_closed = True
            # In a forked child, the lock of OpenFeature's handlers can be one that nobody will ever release.
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
        """Started."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Closed."""
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
            # A provider may tell of changes as often as it likes.
            ended.wait(_SHORTEST_PAUSE_S)
            wake.wait(self._every_s)
            wake.clear()

    def _look(self, driven: _Driven) -> None:
        flag = driven.flag
        try:
            believed = self._ask(driven)
            if self._is_closed:
                return
            self._obey(driven, believed)
        # Of any kind, a rollout's and a store's included: nothing has changed then, and the next look tries again.
        except (Exception, SystemExit) as error:
            problem = str(error) or type(error).__name__
            if problem != driven.problem:
                tell("warning", "rollout.flag.refused", flag.rollout.key, flag=flag.flag, why=problem)
            driven.problem = problem
        else:
            driven.problem = None
        if not self._is_closed and isinstance(flag, SwitchFlag) and driven.done == 0:
            with suppress(Exception):
                # Also when the function was decorated anew meanwhile.
                switch_off(flag)

    def _ask(self, driven: _Driven) -> Believed:
        flag = driven.flag
        self._asking = flag.flag, monotonic()
        try:
            if isinstance(flag, ShareFlag):
                return self._source.share(flag.flag, flag.rollout.key)
            return self._source.switch(flag.flag, flag.rollout.key, now=driven.done != 0)
        finally:
            self._asking = None

    def _obey(self, driven: _Driven, believed: Believed) -> None:
        flag, actor = driven.flag, f"openfeature:{self._source.name}"
        # A switch that is off is held by every look.
        if believed.value == driven.done:
            return
        if isinstance(flag, SwitchFlag):
            if believed.value:
                switch_on(flag)
            else:
                switch_off(flag)
            about = {"disabled": not believed.value, "actor": actor, "reason": believed.said}
            tell("warning", "rollout.flag.switched", flag.rollout.key, flag=flag.flag, **about)
        else:
            controller = current(flag.rollout)
            if controller.phase.shares.get(flag.candidate or "") != believed.value:
                controller.set_share(believed.value, flag.candidate, actor=actor, reason=believed.said)
        driven.done = believed.value


def _checked(flag: object) -> ShareFlag | SwitchFlag:
    if not isinstance(flag, ShareFlag | SwitchFlag):
        raise ConfigurationError(
            f"{flag!r:.60} of FlagDriver drives nothing. flags= lists what drives what. Write ShareFlag('rank-share', rank)."
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
                    f"{flag.rollout.key!r}. A share has one master. Leave one out."
                )
