"""Reading a journal once for outcomes and once for everything else, into the arms of every rollout."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from typing import Any, TypeAlias

from rollout_sdk.analysis.arms import Arm, Gathered, add_to
from rollout_sdk.analysis.facts import recorded
from rollout_sdk.analysis.pages import item_of, page_of, shown_item
from rollout_sdk.analysis.sets import began_s
from rollout_sdk.journal import Journal

__all__ = ["gather"]

Outcome: TypeAlias = tuple[str, float, str | int | None, int]
"""Metric, value, the item or its position, and how many outcomes it stands for."""
Visit: TypeAlias = tuple[float, str, str, str, bool]
"""Time, fingerprint, phase, variant, and whether it is excluded."""
Set: TypeAlias = tuple[str, str]
"""Key of a rollout, and a fingerprint: what makes a set of arms that is pooled with no other."""


class _Gatherer:
    """One reading of a journal."""

    def __init__(self) -> None:
        self.sets: dict[Set, Gathered] = defaultdict(Gathered)
        self.lost = self.sampled = 0
        self._problems: dict[str, Counter[str]] = defaultdict(Counter)
        self._replaced: set[Set] = set()
        self._by_decision: dict[str, list[Outcome]] = defaultdict(list)
        self._by_unit: dict[tuple[str, str], list[tuple[float, str, float, int]]] = defaultdict(list)
        self._visits: dict[tuple[str, str], list[Visit]] = defaultdict(list)
        self._set_of: dict[str, Set] = {}
        self._seen: set[int] = set()
        self._changes: dict[tuple[Set, str], dict[str, Any]] = {}

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
            self.sets[self._set_of[decision_id]].problems["unknown decision"] += len(outcomes)
        self._place_problems()
        for (which, _), record in self._changes.items():
            self.sets[which].transitions.append(record)
        for which, gathered in self.sets.items():
            gathered.transitions.sort(key=lambda record: (record.get("t", 0.0), record.get("revision", 0)))
            gathered.status = "replaced" if which in self._replaced else _status(gathered)

    def _place_problems(self) -> None:
        """Tell what is of no known set with the one of the rollout that began last."""
        for rollout, problems in self._problems.items():
            known = [which for which in self.sets if which[0] == rollout] or [(rollout, "")]
            last = max(known, key=lambda which: began_s(self.sets[which]) if self.sets[which].spans else -math.inf)
            self.sets[last].problems.update(problems)

    def _outcome(self, record: dict[str, Any]) -> None:
        rollout, value = record["rollout"], float(record["value"])
        identity = recorded(record).identity
        if identity in self._seen:
            problems = self.sets[_set_of(record)].problems if "fingerprint" in record else self._problems[rollout]
            problems["duplicate"] += 1
            return
        self._seen.add(identity)
        many = _stands_for(record)
        if isinstance(record.get("id"), str):
            self._by_decision[record["id"]].append((record["metric"], value, item_of(record), many))
            self._set_of[record["id"]] = _set_of(record)
        elif isinstance(record.get("unit"), str):
            self._by_unit[rollout, record["unit"]].append((record.get("t", 0.0), record["metric"], value, many))
        else:
            self._problems[rollout]["no address"] += 1

    def _lost(self, record: dict[str, Any]) -> None:
        lost = max(0, record["count"])
        self.lost += lost
        self.sampled += min(max(0, record.get("sampled", 0)), lost)

    def _rollout(self, record: dict[str, Any]) -> None:
        gathered = self.sets[_set_of(record)]
        gathered.version = record.get("version", "")
        gathered.made_of = record.get("made_of", {})
        gathered.strategy = record["strategy"]
        gathered.control = record["control"]
        gathered.shares.setdefault(record["phase"], record.get("shares", {}))
        said = record.get("revision", 0), record.get("t", 0.0), record.get("status", "running")
        gathered.described = max(gathered.described, said)

    def _transition(self, record: dict[str, Any]) -> None:
        gathered = self.sets[_set_of(record)]
        self._change(record)
        gathered.version = record.get("version", gathered.version)
        if "replaced" in record:
            self._replaced.add((record["rollout"], record["replaced"]))
        gathered.shares.setdefault(record["to_phase"], record.get("shares", {}))

    def _change(self, record: dict[str, Any]) -> None:
        """Take a transition once: every process that follows it has written of it."""
        if "id" not in record:
            self.sets[_set_of(record)].transitions.append(record)
            return
        known = self._changes.setdefault((_set_of(record), record["id"]), record)
        # A process that stopped while its store was down did not know how many others had come first.
        if record.get("revision", 0) > known.get("revision", 0):
            self._changes[_set_of(record), record["id"]] = record

    def _decision(self, record: dict[str, Any]) -> None:
        fingerprint = record.get("fingerprint", "")
        gathered = self.sets[record["rollout"], fingerprint]
        gathered.strategy = record["strategy"]
        phase, variant, unit = record["phase"], record["variant"], record.get("unit")
        many = _stands_for(record)
        outcomes = self._by_decision.pop(record["id"], [])
        for shadowed in record.get("shadows", ()):
            if not record.get("excluded"):
                gathered.shadows[phase, shadowed].planned += many
        if unit is not None and (record["rollout"], unit) in self._by_unit:
            visit = (record.get("t", 0.0), fingerprint, phase, variant, bool(record.get("excluded")))
            self._visits[record["rollout"], unit].append(visit)
        if record.get("excluded"):
            gathered.excluded[record["reason"] if not record.get("blend") else "not interleaved"] += many
            gathered.problems["of excluded calls"] += len(outcomes)
            return
        cluster = unit or record["id"]
        arm = gathered.arms[phase, variant]
        arm.share = record.get("share", arm.share)
        arm.kept += 1
        arm.units[cluster] += many
        self._runs(arm, record, many)
        time_s = record.get("t", 0.0)
        gathered.arrivals.add(cluster, time_s, phase, variant)
        span = gathered.spans.setdefault(phase, [time_s, time_s])
        span[0], span[1] = min(span[0], time_s), max(span[1], time_s)
        if record.get("teams") or record.get("rule"):
            gathered.problems["unknown item"] += _credit(arm, record, cluster, outcomes, gathered.control)
        for metric, value, _, of_outcome in outcomes:
            # Both are there: where outcomes were kept at a lower rate than their calls, at that.
            arm.add_outcome(metric, cluster, value, max(many, of_outcome))

    @staticmethod
    def _runs(arm: Arm, record: dict[str, Any], many: int) -> None:
        blend = record.get("blend", ())
        closed = bool(record.get("closed_early"))
        arm.closed_early += many * closed
        if record.get("withheld"):
            arm.withheld[record["withheld"]] += many
        arm.fallbacks += many * (record["served"] != record["variant"] and not blend)
        for run in record.get("runs", ()):
            ran, duration_s, error = run[0], run[1], run[2]
            # A control that ran after a failure is no sample of the control's latency.
            if ran != record["variant"] and ran not in blend:
                continue
            if error is not None:
                arm.errors[error] += many
            # Of an answer that was not measured, it is the time until it was returned.
            if not closed and not record.get("unmeasured"):
                arm.latency_s[ran].extend([duration_s] * many)

    def _shadow(self, record: dict[str, Any]) -> None:
        if record.get("excluded"):
            return
        arm, many = self.sets[_set_of(record)].shadows[record["phase"], record["variant"]], _stands_for(record)
        arm.ends[record["end"]] += many
        if record.get("error") and record["end"] == "error":
            arm.errors[record["error"]] += many
        if record["end"] in ("ok", "error") and record.get("duration_s") is not None:
            arm.latency_s.extend([record["duration_s"]] * many)
        if record.get("match") is not None:
            cluster = record.get("unit") or record["id"]
            add_to(arm.matches, cluster, float(record["match"]), many)
            if record.get("difference_reason"):
                arm.reasons[record["difference_reason"]] += many
            if record.get("difference") is not None:
                add_to(arm.differences, cluster, float(record["difference"]), many)

    def _join_units(self) -> None:
        """Outcomes of units go to the unit's last call before them."""
        for (rollout, unit), outcomes in self._by_unit.items():
            visits = sorted(self._visits.get((rollout, unit), ()))
            times = [visit[0] for visit in visits]
            for time_s, metric, value, many in outcomes:
                index = bisect_right(times, time_s) - 1
                if index < 0:
                    self._problems[rollout]["unit without an earlier call"] += 1
                    continue
                _, fingerprint, phase, variant, excluded = visits[index]
                gathered = self.sets[rollout, fingerprint]
                if excluded:
                    gathered.problems["of excluded calls"] += 1
                else:
                    gathered.arms[phase, variant].add_outcome(metric, unit, value, many)
                    gathered.joined += 1


def _status(gathered: Gathered) -> str:
    """Where a rollout stands: by its last transition, or by its own line, where that tells of a later one."""
    revision, _, described = gathered.described
    if not gathered.transitions:
        return described
    last = gathered.transitions[-1]
    return described if revision > last.get("revision", revision) else last.get("status", described)


def _credit(arm: Arm, record: dict[str, Any], cluster: str, outcomes: list[Outcome], control: str) -> int:
    """Credit every candidate against the control for one list; returns how many outcomes named an item not in it."""
    page, unknown, many = page_of(record), 0, _stands_for(record)
    if page is None:
        return sum(item is not None for _, _, item, _ in outcomes)
    clicks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for metric, value, named, _ in outcomes:
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
        shown.add(cluster, 0.0, many)
        shown.is_fair &= two.is_won_fairly
        for metric, clicked in clicks.items():
            arm.credit[candidate, metric].add(cluster, two.preference(clicked), many)
    return unknown


def _stands_for(record: dict[str, Any]) -> int:
    """How many such lines there would be, had all been kept: rates are halves of halves, so that counts stay whole."""
    rate = record.get("rate")
    return 1 if rate is None else round(1 / rate)


def _set_of(record: dict[str, Any]) -> Set:
    return record["rollout"], record.get("fingerprint", "")


def gather(journal: Journal) -> tuple[dict[str, dict[str, Gathered]], int, int]:
    """The sums of every rollout in a journal, by key and fingerprint; how many facts its writers say were lost, and how many of
    these were of calls that were not drawn under overload.
    """
    gatherer = _Gatherer()
    gatherer.read(journal)
    found: dict[str, dict[str, Gathered]] = {}
    for (rollout, fingerprint), gathered in sorted(gatherer.sets.items()):
        found.setdefault(rollout, {})[fingerprint] = gathered
    return found, gatherer.lost, gatherer.sampled
