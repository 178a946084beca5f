"""The sums that the analysis makes of a journal: one arm for every phase and variant, by unit.

Memory grows with units and with recorded outcomes, not with calls (but for eight bytes a call for the latencies).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import Factory, define

from rollout_sdk.analysis.bounded import Counts
from rollout_sdk.analysis.facts import stands_for
from rollout_sdk.analysis.report import CrossedReport
from rollout_sdk.analysis.sample import Sample
from rollout_sdk.analysis.segment_sums import SegmentSums
from rollout_sdk.analysis.shadow_arms import ShadowArm, Sums, add_to, sums
from rollout_sdk.analysis.shares import Arrivals
from rollout_sdk.analysis.unit_sums import UnitSums, metric_sums
from rollout_sdk.interleaving.pages import page_of, shown_item

__all__ = ["Arm", "Credit", "Gathered", "Sample", "ShadowArm", "Sums", "add_to", "credit"]


@define
class Credit:
    """Who won the interleaved lists of one metric, by unit: [wins minus losses of the candidate, lists].

    Attributes:
        is_fair: Whether lists won can be counted in this design (`Interleaved.is_won_fairly`).
    """

    wins: int = 0
    losses: int = 0
    ties: int = 0
    by_unit: Sums = Factory(sums)
    is_fair: bool = True

    def add(self, unit: str, preferred: float, stands_for: int = 1) -> None:
        """Count a list that prefers the candidate (1), the control (-1) or neither, or, where chance has a part, something
        between; as so many.
        """
        self.wins += stands_for * (preferred > 0)
        self.losses += stands_for * (preferred < 0)
        self.ties += stands_for * (preferred == 0)
        add_to(self.by_unit, unit, preferred, stands_for)


@define
class Arm:
    """The analysed calls of one variant in one phase; of calls that were drawn under overload, each stands for many.

    Attributes:
        share: Configured share.
        kept: Calls that are in the journal.
        units: Calls of every unit; a call that is its own unit counts as one.
        latency_s: Durations of runs, by the variant that ran.
        errors: Failed calls, by type of the assigned variant's exception.
        fallbacks: Calls that the control answered instead.
        withheld: Calls in which the variant was not run at all, by why.
        closed_early: Streams that the caller left before their end.
        outcomes: For every metric and unit, the sum and number of its outcomes.
        ranges: For every metric, the least and the greatest value.
        values: For every metric, its values; where none of a journal is other than 0 or 1, perhaps not.
        credit: For blended answers, by (candidate, metric).
        summed: The sums over units, where a database made them: then `units` and `outcomes` are empty.
    """

    share: float | None = None
    kept: int = 0
    units: Counter[str] = Factory(Counter)
    latency_s: dict[str, Sample] = Factory(lambda: defaultdict(Sample))
    errors: Counts = Factory(Counts)
    fallbacks: int = 0
    withheld: Counts = Factory(Counts)
    closed_early: int = 0
    outcomes: dict[str, Sums] = Factory(lambda: defaultdict(sums))
    ranges: dict[str, tuple[float, float]] = Factory(dict)
    values: dict[str, Sample] = Factory(lambda: defaultdict(Sample))
    credit: dict[tuple[str, str], Credit] = Factory(lambda: defaultdict(Credit))
    summed: UnitSums | None = None

    def by_unit(self) -> UnitSums:
        """The sums over the units, when everything was added."""
        if self.summed is None:
            metrics = {metric: metric_sums(self.units, pairs) for metric, pairs in self.outcomes.items()}
            self.summed = UnitSums(dict(Counter(self.units.values()).items()), metrics)
        return self.summed

    def decided(self, record: Mapping[str, Any], many: int) -> None:
        """Add what happened in a call, as in so many."""
        blend = record.get("blend", ())
        closed = bool(record.get("closed_early"))
        self.closed_early += many * closed
        if record.get("withheld"):
            self.withheld.add(record["withheld"], many)
        self.fallbacks += many * (record["served"] != record["variant"] and not blend)
        for run in record.get("runs", ()):
            ran, duration_s, error = run[0], run[1], run[2]
            # A control that ran after a failure does not represent the control's latency.
            if ran != record["variant"] and ran not in blend:
                continue
            if error is not None:
                self.errors.add(error, many)
            # Of an answer that was not measured, it is the time until it was returned.
            if not closed and not record.get("unmeasured"):
                self.latency_s[ran].add(duration_s, record["bucket"], many)

    def add_outcome(self, metric: str, unit: str, bucket: int, value: float, stands_for: int = 1) -> None:
        """Add a recorded value of a unit, which is in a bucket, as that of so many outcomes."""
        add_to(self.outcomes[metric], unit, value, stands_for)
        self.values[metric].add(value, bucket, stands_for)
        self.extend_range(metric, value, value)

    def extend_range(self, metric: str, least: float, greatest: float) -> None:
        """See values of a metric that are within these two."""
        low, high = self.ranges.get(metric, (least, greatest))
        self.ranges[metric] = min(low, least), max(high, greatest)


def credit(
    arm: Arm,
    record: Mapping[str, Any],
    cluster: str,
    outcomes: Sequence[tuple[str, float, str | int | None, int, float]],
    control: str,
) -> int:
    """Credit every candidate against the control for one list; returns how many outcomes named an item not in it."""
    page, unknown, many = page_of(record), 0, stands_for(record)
    if page is None:
        return sum(item is not None for _, _, item, *_ in outcomes)
    clicks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for metric, value, named, *_ in outcomes:
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


@define
class Gathered:
    """Everything of one rollout with one fingerprint: a set of arms.

    Attributes:
        version: Version of the candidates.
        made_of: What the fingerprint is made of; nothing where an earlier SDK wrote it.
        codes: How often processes reported each form of the candidates' code.
        strategy: Name of the strategy, as last seen.
        control: Name of the control.
        status: Status, as last seen.
        shares: Configured shares by phase.
        arrivals: Where every unit was first seen.
        arms: By (phase, variant).
        shadows: By (phase, variant).
        excluded: Calls left out, by reason.
        described: Revision, time and status of the rollout's own line with the highest revision.
        transitions: The records, in order of time; one for each transition, however many processes wrote of it.
        spans: First and last time of a call, by phase.
        problems: Outcomes that could not be used, by why.
        segments: Sums by segment.
        joined: Outcomes of units that went to the unit's last call before them.
        crossing: The units that were in several arms, where a database counted them.
        shared: By fingerprint of another set of the rollout, how many units are in both, and how many of these had different
            variants, where a database counted them.
    """

    version: str = ""
    made_of: Mapping[str, Any] = Factory(dict)
    codes: Counts = Factory(Counts)
    strategy: str = ""
    control: str = "control"
    status: str = "running"
    shares: dict[str, Mapping[str, float]] = Factory(dict)
    arrivals: Arrivals = Factory(Arrivals)
    arms: dict[tuple[str, str], Arm] = Factory(lambda: defaultdict(Arm))
    shadows: dict[tuple[str, str], ShadowArm] = Factory(lambda: defaultdict(ShadowArm))
    excluded: Counts = Factory(Counts)
    described: tuple[int, float, str] = (-1, 0.0, "running")
    transitions: list[dict[str, Any]] = Factory(list)
    spans: dict[str, list[float]] = Factory(dict)
    problems: Counter[str] = Factory(Counter)
    segments: SegmentSums = Factory(SegmentSums)
    joined: int = 0
    crossing: CrossedReport | None = None
    shared: dict[str, tuple[int, int]] | None = None
