"""Shadow runs and the control's runs of the same calls, put together from the lines of older journals."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import define, evolve, field

from rollout_sdk.records import ShadowedEvent

__all__ = ["ShadowPairs"]

_MOST_PAIRS = 50_000
"""Calls of shadow phases, and shadow runs, that wait for each other at most."""

_Run: TypeAlias = tuple[float | None, str | None, float | None]
_UNKNOWN: _Run = (None, None, None)


@define
class ShadowPairs:
    """Shadow runs of journals whose shadow lines do not say how the control's run of the same call went.

    Such a run is looked up in the line of the call, of which the last ones are kept: the two are written within seconds.
    """

    _runs: OrderedDict[str, _Run] = field(factory=OrderedDict)
    _waiting: OrderedDict[str, list[ShadowedEvent]] = field(factory=OrderedDict)
    _has_controls: bool = False

    def called(self, record: Mapping[str, Any], control: str) -> list[ShadowedEvent]:
        """Keep how the control's run of a call went; the shadow runs of it that came before."""
        if self._has_controls:
            return []
        runs = () if record.get("unmeasured") else record.get("runs", ())
        # The last run of a call that was closed early was cut off: it is not known how it would have ended.
        known = runs[:-1] if record.get("closed_early") else runs
        found = next((run for run in reversed(known) if run[0] == control), None)
        run = _UNKNOWN if found is None else (found[1], found[2], found[3])
        self._runs[record["id"]] = run
        if len(self._runs) > _MOST_PAIRS:
            self._runs.popitem(last=False)
        return [_with(event, run) for event in self._waiting.pop(record["id"], ())]

    def shadowed(self, event: ShadowedEvent) -> list[ShadowedEvent]:
        """The shadow run with the control's run of its call; nothing while that is not known yet."""
        if event.control_duration_s is not None or event.control_error is not None:
            # This journal's lines say it themselves, so that what one does not say is not known.
            self._has_controls = True
        if self._has_controls:
            return [event]
        run = self._runs.get(event.decision.id)
        if run is not None:
            return [_with(event, run)]
        self._waiting.setdefault(event.decision.id, []).append(event)
        return self._waiting.popitem(last=False)[1] if len(self._waiting) > _MOST_PAIRS else []

    def left(self) -> list[ShadowedEvent]:
        """The runs whose call is not in the journal: they count for completeness alone."""
        left = [event for events in self._waiting.values() for event in events]
        self._waiting.clear()
        return left


def _with(event: ShadowedEvent, run: _Run) -> ShadowedEvent:
    duration_s, error, first_item_s = run
    return evolve(event, control_duration_s=duration_s, control_error=error, control_first_item_s=first_item_s)
