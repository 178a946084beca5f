"""An interleaved test from its journal: several kinds of events, late ones too, credited to every list that showed the item."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from attrs import Factory, define, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving import InterleavingAnalyzer, Preference
from rollout_sdk.interleaving.pages import item_of, page_of, shown_item
from rollout_sdk.journal import Journal, read_journal

__all__ = ["Interleavings", "analyze_interleaving"]

_WEEK_S = 7 * 86_400.0


@frozen
class Interleavings:
    """What a journal says about the interleaved lists of one rollout.

    Attributes:
        rollout: Key of the rollout.
        by_candidate: The preference for each candidate against the control.
        credited: Events that credited a list, by metric; one event may credit several lists.
        problems: Events that credited none, by why.
        fallbacks: Lists that another design made than the one asked for, by why.
    """

    rollout: str
    by_candidate: Mapping[str, Preference]
    credited: Mapping[str, int]
    problems: Mapping[str, int]
    fallbacks: Mapping[str, int] = Factory(dict)

    def __str__(self) -> str:
        """The results in a few lines each."""
        said = [f"{self.rollout}"] + [str(preference) for preference in self.by_candidate.values()]
        if self.problems:
            said.append("  not credited: " + ", ".join(f"{number:,} {why}" for why, number in sorted(self.problems.items())))
        said += [f"  {number:,} lists are of another design: {why}" for why, number in sorted(self.fallbacks.items())]
        return "\n".join(said)


Event = tuple[float, str, str | int]
"""Time, metric, and item or position."""


@define
class _Reading:
    """One reading of a journal."""

    weights: Mapping[str, float] | None
    window_s: float
    by_decision: dict[str, list[Event]] = Factory(lambda: defaultdict(list))
    by_item: dict[tuple[str, str | int], list[Event]] = Factory(lambda: defaultdict(list))
    credited: Counter[str] = Factory(Counter)
    problems: Counter[str] = Factory(Counter)
    fallbacks: Counter[str] = Factory(Counter)
    used: set[tuple[str, Event]] = Factory(set)

    def event(self, record: Mapping[str, Any]) -> None:
        """Remember an event on an item."""
        item, metric = item_of(record), record["metric"]
        if item is None or not record["value"] or (self.weights is not None and metric not in self.weights):
            return
        event = (float(record.get("t", 0.0)), metric, item)
        if isinstance(record.get("id"), str):
            self.by_decision[record["id"]].append(event)
        elif isinstance(record.get("unit"), str):
            self.by_item[record["unit"], item].append(event)

    def clicks(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Weights of the items of one list that had an event in its window: an event of a kind counts once for a list."""
        began, seen = float(record.get("t", 0.0)), set()
        own = self.by_decision.pop(record["id"], [])
        later = [event for item in record["items"] for event in self.by_item.get((record.get("unit", ""), item), ())]
        for event in own + later:
            time_s, metric, named = event
            item = shown_item(record["items"], named)
            if item not in record["items"]:
                self.problems["on an item that was not shown"] += 1
            elif not 0 <= time_s - began + 1e-6 <= self.window_s:
                # One of a unit may belong to an earlier or a later list.
                self.problems["out of the window"] += event in own
            else:
                seen.add((metric, item))
                self.used.add((record.get("unit", ""), event))
        clicks: dict[str, float] = defaultdict(float)
        for metric, item in seen:
            clicks[item] += 1.0 if self.weights is None else self.weights[metric]
            self.credited[metric] += 1
        return clicks

    def finish(self) -> None:
        """Count what no list took."""
        self.problems["of an unknown decision"] += sum(map(len, self.by_decision.values()))
        left = sum((unit, event) not in self.used for (unit, _), events in self.by_item.items() for event in events)
        self.problems["of a unit that was not shown the item in time"] += left


def analyze_interleaving(
    folder: str | os.PathLike[str],
    *,
    rollout: str | None = None,
    fingerprint: str | None = None,
    weights: Mapping[str, float] | None = None,
    window_s: float = _WEEK_S,
    **options: Any,
) -> Interleavings:
    """Analyse the interleaved lists of a journal.

    An event recorded with `decision_id=` credits that list; one recorded with `unit=` and `item=` credits every list that
    showed the item to the unit within the window before it. An event counts by its kind, whatever its value, unless that is 0.

    Args:
        folder: The journal.
        rollout: Key of the rollout; may be left out when only one was interleaved.
        fingerprint: Of the lists that are analysed; may be left out when all have the same. `rollout report --json` has them.
        weights: Weight of each kind of event that counts, such as {"click": 1, "booking": 20}; every kind counts 1 by default.
        window_s: How long after it was shown a list is credited, in seconds.
        **options: Those of `InterleavingAnalyzer`: `unit`, `alpha`, `mde`, `seed`.

    Raises:
        ConfigurationError: The journal has no interleaved list, or those of several rollouts or fingerprints and none was
            named.
    """
    journal = read_journal(folder)
    reading = _Reading(weights, window_s)
    names: dict[str, dict[str, None]] = {}
    versions: dict[str, str] = {}
    for record in journal:
        if record["event"] == "outcome" and not record.get("shadow") and rollout in (None, record["rollout"]):
            reading.event(record)
        elif record["event"] == "decision" and record.get("blend"):
            names.setdefault(record["rollout"], {})[record.get("fingerprint", "")] = None
        elif record["event"] == "rollout":
            versions[record.get("fingerprint", "")] = record.get("version", "")
    name = rollout or (next(iter(names)) if len(names) == 1 else None)
    if name is None or name not in names:
        raise ConfigurationError(
            f"The journal has interleaved lists of {', '.join(sorted(names)) or 'no rollout'}. "
            "One test is analysed at a time. Pass rollout= with one of them."
        )
    analyzers = _analyzers(journal, name, _one_of(name, names[name], fingerprint, versions), reading, options)
    reading.finish()
    return Interleavings(
        rollout=name,
        by_candidate={candidate: analyzer.result() for candidate, analyzer in analyzers.items()},
        credited=dict(reading.credited),
        problems={why: number for why, number in reading.problems.items() if number},
        fallbacks=dict(reading.fallbacks),
    )


def _one_of(name: str, found: Collection[str], fingerprint: str | None, versions: Mapping[str, str]) -> str:
    """The fingerprint that is meant: lists of two are never pooled.

    Raises:
        ConfigurationError: There are several, and none of them is named.
    """
    if fingerprint is None and len(found) == 1:
        return next(iter(found))
    if fingerprint is not None and fingerprint in found:
        return fingerprint
    listed = ", ".join(f"{each!r} (version {versions[each]})" if versions.get(each) else repr(each) for each in found)
    raise ConfigurationError(
        f"The journal has interleaved lists of {name!r} with {len(found)} fingerprints, and {fingerprint!r} was asked for. "
        f"Lists of two are never pooled: another version, unit or design made them. Pass fingerprint= one of: {listed}."
    )


def _analyzers(
    journal: Journal, name: str, fingerprint: str, reading: _Reading, options: Mapping[str, Any]
) -> dict[str, InterleavingAnalyzer]:
    analyzers: dict[str, InterleavingAnalyzer] = {}
    for record in journal:
        if record["event"] != "decision" or record["rollout"] != name or not record.get("blend"):
            continue
        if record.get("fingerprint", "") != fingerprint:
            # Its clicks are of other lists, and known.
            reading.by_decision.pop(record["id"], None)
            continue
        control, *candidates = record["blend"]
        page = None if record.get("excluded") else page_of(record)
        reading.problems["lists that cannot be read"] += page is None and not record.get("excluded")
        clicks = {} if page is None else reading.clicks(record)
        if page is not None and page.fallback:
            reading.fallbacks[str(page.fallback)] += 1
        for candidate in candidates:
            analyzer = analyzers.setdefault(candidate, InterleavingAnalyzer(**options))
            if page is None:
                analyzer.not_interleaved += 1
            else:
                analyzer.add(record.get("unit") or record["id"], page.between(control, candidate), clicks)
    return analyzers
