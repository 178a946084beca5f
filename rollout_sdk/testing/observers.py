"""The contract of observers."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

from rollout_sdk.decorator import rollout
from rollout_sdk.plugins.discovery import plugin_name
from rollout_sdk.resilience.breaker import Breaker
from rollout_sdk.runtime import Runtime
from rollout_sdk.strategies.ab import ABTest
from rollout_sdk.strategies.canary import Canary
from rollout_sdk.testing.calls import silent_runtime
from rollout_sdk.testing.doubles import RecordingPlugin

__all__ = ["ObserverContract"]


class _Payload:
    """An argument that no observer may keep."""


class ObserverContract:
    """Subclass it in a test module, as `class TestMine(ObserverContract)`, and implement `make`.

    It may observe decisions (`rollout_decided`) or events.
    """

    def make(self) -> object:
        """Return a new observer."""
        raise NotImplementedError

    def test_it_fits_the_hooks(self) -> None:
        """It observes something, and its hooks have the specified names and arguments."""
        observer = self.make()
        hooks = [name for name in dir(observer) if name.startswith("rollout_")]
        observing = {
            "rollout_decided",
            "rollout_routed",
            "rollout_shadowed",
            "rollout_recorded",
            "rollout_transitioned",
            "rollout_tripped",
        }
        assert observing & set(hooks), f"{plugin_name(observer)!r} observes nothing: its hooks are {hooks}"
        silent_runtime(observer).close()

    def test_it_takes_every_kind_of_event(self) -> None:
        """It handles all events: calls, fallbacks, withheld calls, shadows, outcomes, transitions, trips of a breaker."""
        runtime, seen, _ = _lived(self.make())
        assert runtime.faults == {}, f"it failed: {runtime.faults}"
        assert all((seen.routed, seen.shadowed, seen.recorded, seen.transitioned, seen.tripped))

    def test_it_does_not_change_events(self) -> None:
        """The next observer gets the same events."""
        _, seen, copies = _lived(self.make())
        assert seen.events == copies, "an event was changed"

    def test_it_keeps_no_payload(self) -> None:
        """The arguments of an observed call are freed."""
        observer, payload = self.make(), _Payload()
        alive = weakref.ref(payload)
        runtime = silent_runtime(observer)
        model = rollout(candidate=_second, strategy=ABTest(1.0), key="contract", runtime=runtime)(_first)
        model(payload)
        del payload
        runtime.close(10.0)
        gc.collect()
        assert alive() is None, "something keeps the arguments of a call alive"

    def test_one_may_observe_several_rollouts(self) -> None:
        """The same observer works on two rollouts of two runtimes."""
        observer = self.make()
        for _ in range(2):
            runtime, *_ = _lived(observer)
            assert runtime.faults == {}, f"it failed: {runtime.faults}"


def _first(x: Any) -> int:
    return id(x) * 0


def _second(x: Any) -> int:
    return id(x) * 0 + 1


class _Copying(RecordingPlugin):
    """Copies every event before the observer under test gets it."""

    name = "copying"

    def _keep(self, event: Any) -> None:
        super()._keep(copy.deepcopy(event))


def _lived(observer: object) -> tuple[Runtime, RecordingPlugin, list[Any]]:
    """Return a runtime with all kinds of events, the observer after the one under test, and copies made before it."""
    before, after = _Copying(), RecordingPlugin()
    runtime = silent_runtime(before, observer, after)

    def fails(x: int) -> int:
        raise ValueError(x)

    options: dict[str, Any] = {"unit": "x", "effects": "read", "runtime": runtime}
    ramp = rollout(candidate=_second, strategy=Canary(["50%"], shadow=1.0), key="ramp", **options)(_first)
    for number in range(20):
        routed = ramp.rollout.route(number)
        ramp.rollout.record("click", 1.0, decision_id=routed.decision.id)
    ramp.rollout.record("purchase", 2.5, unit=3)
    ramp.rollout.promote(actor="contract", reason="a test")
    ramp.rollout.abort(actor="contract", reason="a test")
    broken = rollout(candidate=fails, strategy=ABTest(1.0), key="broken", breaker=Breaker(min_runs=2), **options)(_first)
    for number in range(5):
        broken(number)
    runtime.close(10.0)
    return runtime, after, before.events
