"""Reading a journal once for outcomes and once for everything else, into sums by unit.

Memory grows with units and with recorded outcomes, not with calls (but for eight bytes a call for the latencies).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import Factory, define

from rollout_sdk.analysis.pages import item_of, page_of, shown_item
from rollout_sdk.analysis.shares import Arrivals
from rollout_sdk.journal import Journal

__all__ = ["Arm", "Credit", "Gathered", "ShadowArm", "Sums", "gather", "page_of"]

Sums: TypeAlias = dict[str, list[float]]
"""For every unit, [sum of values, count]."""


def _sums() -> Sums:
    return defaultdict(lambda: [0.0, 0.0])


@define
class Credit:
    """Who won the interleaved lists of one metric, by unit: [wins minus losses of the candidate, lists].

    Attributes:
        is_fair: Whether lists won can be counted in this design (`Interleaved.is_won_fairly`).
    """

    wins: int = 0
    losses: int = 0
    ties: int = 0
    by_unit: Sums = Factory(_sums)
    is_fair: bool = True

    def add(self, unit: str, preferred: float) -> None:
        """Count one list that prefers the candidate (1), the control (-1) or neither, or, where chance has a part, something
        between.
        """
        self.wins += preferred > 0
        self.losses += preferred < 0
        self.ties += preferred == 0
        sums = self.by_unit[unit]
        sums[0] += preferred
        sums[1] += 1


@define
class Arm:
    """The analysed calls of one variant in one phase.

    Attributes:
        share: Configured share.
        units: Calls of every unit; a call that is its own unit counts as one.
        latency_s: Durations of runs, by the variant that ran.
        errors: Failed calls, by type of the assigned variant's exception.
        fallbacks: Calls that the control answered instead.
        withheld: Calls in which the variant was not run at all, by why.
        closed_early: Streams that the caller left before their end.
        outcomes: For every metric and unit, the sum and number of its outcomes.
        ranges: For every metric, the least and the greatest value.
        credit: For blended answers, by (candidate, metric).
    """

    share: float | None = None
    units: Counter[str] = Factory(Counter)
    latency_s: dict[str, array[float]] = Factory(lambda: defaultdict(lambda: array("d")))
    errors: Counter[str] = Factory(Counter)
    fallbacks: int = 0
    withheld: Counter[str] = Factory(Counter)
    closed_early: int = 0
    outcomes: dict[str, Sums] = Factory(lambda: defaultdict(_sums))
    ranges: dict[str, tuple[float, float]] = Factory(dict)
    credit: dict[tuple[str, str], Credit] = Factory(lambda: defaultdict(Credit))

    def add_outcome(self, metric: str, unit: str, value: float) -> None:
        """Add a recorded value of a unit."""
        _add(self.outcomes[metric], unit, value)
        low, high = self.ranges.get(metric, (value, value))
        self.ranges[metric] = (min(low, value), max(high, value))


@define
class ShadowArm:
    """The shadow runs of one candidate in one phase."""

    planned: int = 0
    ends: Counter[str] = Factory(Counter)
    errors: Counter[str] = Factory(Counter)
    reasons: Counter[str] = Factory(Counter)
    latency_s: array[float] = Factory(lambda: array("d"))
    matches: Sums = Factory(_sums)
    differences: Sums = Factory(_sums)


@define
class Gathered:
    """Everything of one rollout.

    Attributes:
        strategy: Name of the strategy, as last seen.
        control: Name of the control.
        status: Status, as last seen.
        shares: Configured shares by phase.
        arrivals: Where every unit was first seen.
        arms: By (phase, variant).
        shadows: By (phase, variant).
        excluded: Calls left out, by reason.
        transitions: The records, in order of time.
        spans: First and last time of a call, by phase.
        problems: Outcomes that could not be used, by why.
    """

    strategy: str = ""
    control: str = "control"
    status: str = "running"
    shares: dict[str, Mapping[str, float]] = Factory(dict)
    arrivals: Arrivals = Factory(Arrivals)
    arms: dict[tuple[str, str], Arm] = Factory(lambda: defaultdict(Arm))
    shadows: dict[tuple[str, str], ShadowArm] = Factory(lambda: defaultdict(ShadowArm))
    excluded: Counter[str] = Factory(Counter)
    transitions: list[dict[str, Any]] = Factory(list)
    spans: dict[str, list[float]] = Factory(dict)
    problems: Counter[str] = Factory(Counter)


Outcome: TypeAlias = tuple[str, float, str | int | None]
"""Metric, value, and the item or its position."""
Visit: TypeAlias = tuple[float, str, str, bool]


class _Gatherer:
    """One reading of a journal."""

    def __init__(self) -> None:
        self.rollouts: dict[str, Gathered] = defaultdict(Gathered)
        self.lost = 0
        self._by_decision: dict[str, list[Outcome]] = defaultdict(list)
        self._by_unit: dict[tuple[str, str], list[tuple[float, str, float]]] = defaultdict(list)
        self._visits: dict[tuple[str, str], list[Visit]] = defaultdict(list)
        self._rollout_of: dict[str, str] = {}

    def read(self, journal: Journal) -> None:
        for record in journal:
            if record["event"] == "outcome":
                self._outcome(record)
        for record in journal:
            handler = getattr(self, f"_{record['event']}", None)
            if handler is not None and record["event"] != "outcome":
                handler(record)
        self._join_units()
        for decision_id, outcomes in self._by_decision.items():
            self.rollouts[self._rollout_of[decision_id]].problems["unknown decision"] += len(outcomes)
        for gathered in self.rollouts.values():
            gathered.transitions.sort(key=lambda record: record.get("t", 0.0))
            if gathered.transitions:
                gathered.status = gathered.transitions[-1].get("status", gathered.status)

    def _outcome(self, record: dict[str, Any]) -> None:
        rollout, value = record["rollout"], float(record["value"])
        if isinstance(record.get("id"), str):
            self._by_decision[record["id"]].append((record["metric"], value, item_of(record)))
            self._rollout_of[record["id"]] = rollout
        elif isinstance(record.get("unit"), str):
            self._by_unit[rollout, record["unit"]].append((record.get("t", 0.0), record["metric"], value))
        else:
            self.rollouts[rollout].problems["no address"] += 1

    def _lost(self, record: dict[str, Any]) -> None:
        self.lost += record["count"]

    def _rollout(self, record: dict[str, Any]) -> None:
        gathered = self.rollouts[record["rollout"]]
        gathered.strategy = record["strategy"]
        gathered.control = record["control"]
        gathered.shares.setdefault(record["phase"], record["shares"])

    def _transition(self, record: dict[str, Any]) -> None:
        gathered = self.rollouts[record["rollout"]]
        gathered.transitions.append(record)
        gathered.shares.setdefault(record["to_phase"], record["shares"])

    def _decision(self, record: dict[str, Any]) -> None:
        gathered = self.rollouts[record["rollout"]]
        gathered.strategy = record["strategy"]
        phase, variant, unit = record["phase"], record["variant"], record.get("unit")
        outcomes = self._by_decision.pop(record["id"], [])
        for shadowed in record.get("shadows", ()):
            if not record.get("excluded"):
                gathered.shadows[phase, shadowed].planned += 1
        if unit is not None and (record["rollout"], unit) in self._by_unit:
            visit = (record.get("t", 0.0), phase, variant, bool(record.get("excluded")))
            self._visits[record["rollout"], unit].append(visit)
        if record.get("excluded"):
            gathered.excluded[record["reason"] if not record.get("blend") else "not interleaved"] += 1
            gathered.problems["of excluded calls"] += len(outcomes)
            return
        cluster = unit or record["id"]
        arm = gathered.arms[phase, variant]
        arm.share = record.get("share", arm.share)
        arm.units[cluster] += 1
        self._runs(arm, record)
        time_s = record.get("t", 0.0)
        gathered.arrivals.add(cluster, time_s, phase, variant)
        span = gathered.spans.setdefault(phase, [time_s, time_s])
        span[0], span[1] = min(span[0], time_s), max(span[1], time_s)
        if record.get("teams") or record.get("rule"):
            gathered.problems["unknown item"] += _credit(arm, record, cluster, outcomes, gathered.control)
        for metric, value, _ in outcomes:
            arm.add_outcome(metric, cluster, value)

    @staticmethod
    def _runs(arm: Arm, record: dict[str, Any]) -> None:
        blend = record.get("blend", ())
        closed = bool(record.get("closed_early"))
        arm.closed_early += closed
        if record.get("withheld"):
            arm.withheld[record["withheld"]] += 1
        arm.fallbacks += record["served"] != record["variant"] and not blend
        for run in record.get("runs", ()):
            ran, duration_s, error = run[0], run[1], run[2]
            # A control that ran after a failure is no sample of the control's latency.
            if ran != record["variant"] and ran not in blend:
                continue
            if error is not None:
                arm.errors[error] += 1
            if not closed:
                arm.latency_s[ran].append(duration_s)

    def _shadow(self, record: dict[str, Any]) -> None:
        if record.get("excluded"):
            return
        arm = self.rollouts[record["rollout"]].shadows[record["phase"], record["variant"]]
        arm.ends[record["end"]] += 1
        if record.get("error") and record["end"] == "error":
            arm.errors[record["error"]] += 1
        if record["end"] in ("ok", "error") and record.get("duration_s") is not None:
            arm.latency_s.append(record["duration_s"])
        if record.get("match") is not None:
            cluster = record.get("unit") or record["id"]
            _add(arm.matches, cluster, float(record["match"]))
            if record.get("difference_reason"):
                arm.reasons[record["difference_reason"]] += 1
            if record.get("difference") is not None:
                _add(arm.differences, cluster, float(record["difference"]))

    def _join_units(self) -> None:
        """Outcomes of units go to the unit's last call before them."""
        for (rollout, unit), outcomes in self._by_unit.items():
            gathered = self.rollouts[rollout]
            visits = sorted(self._visits.get((rollout, unit), ()))
            times = [visit[0] for visit in visits]
            for time_s, metric, value in outcomes:
                index = bisect_right(times, time_s) - 1
                if index < 0:
                    gathered.problems["unit without an earlier call"] += 1
                    continue
                _, phase, variant, excluded = visits[index]
                if excluded:
                    gathered.problems["of excluded calls"] += 1
                else:
                    gathered.arms[phase, variant].add_outcome(metric, unit, value)


def _add(sums: Sums, unit: str, value: float) -> None:
    pair = sums[unit]
    pair[0] += value
    pair[1] += 1


def _credit(arm: Arm, record: dict[str, Any], cluster: str, outcomes: list[Outcome], control: str) -> int:
    """Credit every candidate against the control for one list; returns how many outcomes named an item not in it."""
    page, unknown = page_of(record), 0
    if page is None:
        return sum(item is not None for _, _, item in outcomes)
    clicks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for metric, value, named in outcomes:
        item = shown_item(page.keys, named)
        if item is not None and item in page.keys:
            clicks[metric][item] += value
        else:
            unknown += named is not None
    for candidate in record.get("blend", ()):
        if candidate == control:
            continue
        # A list without a click is a tie: it is counted under "", and given to every metric that some list has.
        two, shown = page.between(control, candidate), arm.credit[candidate, ""]
        shown.add(cluster, 0.0)
        shown.is_fair &= two.is_won_fairly
        for metric, clicked in clicks.items():
            arm.credit[candidate, metric].add(cluster, two.preference(clicked))
    return unknown


def gather(journal: Journal) -> tuple[dict[str, Gathered], int]:
    """The sums of every rollout in a journal, by key, and how many facts its writers say were lost."""
    gatherer = _Gatherer()
    gatherer.read(journal)
    return dict(sorted(gatherer.rollouts.items())), gatherer.lost
