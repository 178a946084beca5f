"""A journal that is read as it is written, and what it says so far: for a page that stays open during a rollout.

The judge's part is the same as in a report. What describes the arms beside it is counted without their units, so that memory
does not grow with traffic: latencies are those of the latest runs, and units are counted as the judge counts them.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from attrs import define, evolve, field

from rollout_sdk.analysis.bounded import Counts
from rollout_sdk.analysis.conclude import conclude
from rollout_sdk.analysis.facts import Read, in_order, stands_for
from rollout_sdk.analysis.judged import Judged, Judges
from rollout_sdk.analysis.live_preferences import preferences_of
from rollout_sdk.analysis.live_segments import LiveSegments, RecentCalls
from rollout_sdk.analysis.outcomes import OVER_THE_LIMIT
from rollout_sdk.analysis.phase_report import PhaseReport, VariantReport
from rollout_sdk.analysis.report import CrossedReport, PhaseShares, Report, RolloutReport, SharesReport
from rollout_sdk.analysis.shadow_arms import ShadowArm
from rollout_sdk.analysis.summary import latency_of, phase_order, shadow_of
from rollout_sdk.analysis.togo import Forecasts
from rollout_sdk.journal.following import Following
from rollout_sdk.judging.remembered import Remembered
from rollout_sdk.runtime.audits import Label, Pair, label_in

__all__ = ["Live"]

_LATEST = 2_000
_CLUSTERS = 1_024
_MOST_NAMES = 50
_MOST_LABELS = 100_000
_MOST_TRANSITIONS = 1_000
_Set = tuple[str, str]


def _latest() -> deque[float]:
    return deque(maxlen=_LATEST)


@define
class _Arm:
    """One variant in one phase."""

    calls: int = 0
    share: float | None = None
    errors: Counts = field(factory=Counts)
    withheld: Counts = field(factory=Counts)
    fallbacks: int = 0
    closed_early: int = 0
    latency_s: dict[str, deque[float]] = field(factory=dict)


@define
class _Rollout:
    """What describes one set of arms, beside what its judge found."""

    version: str = ""
    strategy: str = ""
    control: str = "control"
    status: tuple[int, float, str] = (-1, 0.0, "running")
    is_replaced: bool = False
    made_of: Mapping[str, Any] = field(factory=dict)
    codes: Counts = field(factory=Counts)
    arms: dict[_Set, _Arm] = field(factory=dict)
    shadows: dict[_Set, ShadowArm] = field(factory=dict)
    spans: dict[str, list[float]] = field(factory=dict)
    shares: dict[str, Mapping[str, float]] = field(factory=dict)
    transitions: list[Mapping[str, Any]] = field(factory=list)
    excluded: Counts = field(factory=Counts)

    def take(self, record: Mapping[str, Any]) -> None:
        handler = getattr(self, f"_{record['event']}", None)
        if handler is not None:
            handler(record)

    def _rollout(self, record: Mapping[str, Any]) -> None:
        self.version, self.strategy = record.get("version", ""), record["strategy"]
        self.control, self.made_of = record["control"], record.get("made_of", {})
        if isinstance(code := self.made_of.get("code"), str):
            self.codes.add(code)
        self.shares.setdefault(record["phase"], record.get("shares", {}))
        self.status = max(self.status, (record.get("revision", 0), record.get("t", 0.0), record.get("status", "running")))

    def _transition(self, record: Mapping[str, Any]) -> None:
        if len(self.transitions) < _MOST_TRANSITIONS:
            self.transitions.append(record)
        self.version = record.get("version", self.version)
        self.shares.setdefault(record["to_phase"], record.get("shares", {}))
        if "status" in record:
            self.status = max(self.status, (record.get("revision", 0), record.get("t", 0.0), record["status"]))

    def _decision(self, record: Mapping[str, Any]) -> None:
        many, phase, variant = stands_for(record), record["phase"], record["variant"]
        self.strategy = record["strategy"]
        if record.get("excluded"):
            self.excluded.add(record["reason"], many)
            return
        for name in record.get("shadows", ()):
            self._shadow_of(phase, name).planned += many
        time_s = record["seen_s"]
        span = self.spans.setdefault(phase, [time_s, time_s])
        span[0], span[1] = min(span[0], time_s), max(span[1], time_s)
        arm = self.arms.get((phase, variant)) or self.arms.setdefault((phase, variant), _Arm())
        arm.calls += many
        arm.share = record.get("share", arm.share)
        arm.closed_early += many * bool(record.get("closed_early"))
        blend = record.get("blend", ())
        arm.fallbacks += many * (record["served"] != variant and not blend)
        if record.get("withheld"):
            arm.withheld.add(record["withheld"], many)
        for ran, duration_s, error, *_ in record.get("runs", ()):
            if ran != variant and ran not in blend:
                continue
            if error is not None:
                arm.errors.add(error, many)
            if not record.get("closed_early") and not record.get("unmeasured") and len(arm.latency_s) < _MOST_NAMES:
                arm.latency_s.setdefault(ran, _latest()).append(duration_s)

    def _shadow_of(self, phase: str, variant: str) -> ShadowArm:
        return self.shadows.get((phase, variant)) or self.shadows.setdefault((phase, variant), ShadowArm())

    def _shadow(self, record: Mapping[str, Any]) -> None:
        if record.get("excluded"):
            return
        arm = self._shadow_of(record["phase"], record["variant"])
        # Intervals are by unit; many units together count as one, so that there are not more than so many.
        cluster = crc32((record.get("unit") or record["id"]).encode("utf-8", "surrogatepass")) % _CLUSTERS
        arm.ended({**record, "unit": str(cluster)}, stands_for(record))
        for durations in (arm.latency_s, arm.control_latency_s):
            if len(durations) > 2 * _LATEST:
                del durations[:-_LATEST]


class Live:
    """What a journal says so far. Not for several threads at once."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Find the journal.

        Raises:
            ConfigurationError: There is no such folder.
        """
        self._journal = Following(folder)
        self._judges = Judges()
        self._rollouts: dict[_Set, _Rollout] = {}
        self._before = Read()
        self._announced = Remembered()
        self._changed: set[_Set] = set()
        self._reports: dict[_Set, RolloutReport] = {}
        self._forecasts: dict[_Set, Forecasts] = {}
        self._recent = RecentCalls()
        self._segments: dict[_Set, LiveSegments] = {}
        self._left_out = 0
        self._labels: OrderedDict[Pair, Label] = OrderedDict()

    @property
    def labels(self) -> Mapping[Pair, Label]:
        """What people have said about pairs of answers, by the pair: the latest of it."""
        return self._labels

    def read(self, progress: Callable[[int, int], None] | None = None) -> bool:
        """Read what is new; whether anything was.

        Args:
            progress: Called with the bytes read so far, and with how many there are; of use in the first reading only.
        """
        before, has_more = self._journal.lines, False
        for record in in_order(self._journal, None, progress, self._before):
            has_more = True
            # The same change, announced by a process whose lines were read later.
            if record["event"] == "transition" and self._is_announced(record.get("id")):
                continue
            if (label := label_in(record)) is not None:
                self._labels[label.pair] = label
                if len(self._labels) > _MOST_LABELS:
                    self._labels.popitem(last=False)
            which = self._judges.take(record)
            if which is None:
                self._left_out += 1
                continue
            self._changed.add(which)
            if record["event"] == "decision":
                self._before.served.add(record["rollout"])
            one = self._rollouts.get(which) or self._rollouts.setdefault(which, _Rollout())
            if "replaced" in record and (former := self._rollouts.get((which[0], record["replaced"]))) is not None:
                former.is_replaced = True
                self._changed.add((which[0], record["replaced"]))
            one.take(record)
            if (found := self._judges.found[which]).segments:
                segments = self._segments.get(which) or self._segments.setdefault(which, LiveSegments(self._recent))
                segments.take(record, found)
        return has_more or self._journal.lines != before

    def _is_announced(self, change: str | None) -> bool:
        if change is None:
            return False
        is_known = change in self._announced
        self._announced.add(change)
        return is_known

    def report(self) -> Report:
        """The report so far; only what has changed since the last one is judged and summed up again."""
        journal = self._journal
        lost = journal.lost - journal.sampled
        lost_share = max(0, lost) / (journal.lines + journal.lost) if journal.lost else 0.0
        for which in self._changed:
            found, described = self._judges.found[which], self._rollouts[which]
            found.glance()
            report = _reported(which, described, found)
            forecasts = self._forecasts.get(which) or self._forecasts.setdefault(which, Forecasts())
            if (segments := self._segments.get(which)) is not None:
                segments.look(found)
            verdict = conclude(report, found, lost_share=lost_share, sums=segments, forecasts=forecasts)
            self._reports[which] = evolve(report, verdict=verdict)
        self._changed.clear()
        return Report(
            folder=str(journal.folder),
            files=len(journal.files),
            lines=journal.lines,
            skipped={**journal.skipped, **({OVER_THE_LIMIT: self._left_out} if self._left_out else {})},
            missing=journal.missing,
            repeated=journal.repeated,
            lost=journal.lost,
            sampled=journal.sampled,
            rollouts=tuple(self._reports.values()),
            cut=journal.cut,
        )


def _reported(which: _Set, one: _Rollout, found: Judged) -> RolloutReport:
    phases = sorted({phase for phase, _ in (*one.arms, *one.shadows)}, key=phase_order)
    return RolloutReport(
        rollout=which[0],
        version=one.version,
        fingerprint=which[1],
        made_of=one.made_of,
        others=(),
        crossed=CrossedReport(0, 0, 0),
        strategy=one.strategy,
        status="replaced" if one.is_replaced else one.status[2],
        control=one.control,
        shares=_shares(one, found),
        phases=tuple(_phase(phase, one, found) for phase in phases),
        transitions=tuple(one.transitions),
        excluded=dict(one.excluded),
        problems={},
        joined=0,
        codes=len(one.codes),
    )


def _shares(one: _Rollout, found: Judged) -> SharesReport:
    """As the judge checks them."""
    checks = [] if found.verdict is None else [each for each in found.verdict.findings if each.kind == "assignment"]
    numbers = checks[0].numbers if checks else {}
    units = {phase: _units(found, phase) for phase in one.spans}
    shown = tuple(
        PhaseShares(phase, counts, {name: one.shares[phase].get(name, 0.0) for name in counts})
        for phase, counts in units.items()
        if len(counts) > 1 and one.shares.get(phase)
    )
    log_e = numbers.get("log_e")
    return SharesReport(shown, log_e, log_e, numbers.get("log_e_needed", 0.0), bool(found.course.invalid))


def _units(found: Judged, phase: str) -> dict[str, int]:
    seen = found.course.evidence.phases.get(phase)
    return {} if seen is None else {name: sample.estimate for name, sample in seen.units.items()}


def _phase(phase: str, one: _Rollout, found: Judged) -> PhaseReport:
    arms = {variant: arm for (name, variant), arm in one.arms.items() if name == phase}
    units, span = _units(found, phase), one.spans.get(phase)
    calls, all_units = sum(arm.calls for arm in arms.values()), sum(units.get(name, 0) for name in arms)
    shares = one.shares.get(phase, {})
    order = sorted(arms, key=lambda variant: (variant != one.control, variant))
    return PhaseReport(
        phase=phase,
        first_s=None if span is None else span[0],
        last_s=None if span is None else span[1],
        variants=tuple(
            _variant(name, arms[name], shares.get(name, arms[name].share), calls, units.get(name, 0), all_units)
            for name in order
        ),
        labels=(),
        shadows=tuple(
            shadow_of(variant, each, one.shadows.get((phase, one.control)))
            for (name, variant), each in sorted(one.shadows.items())
            if name == phase and variant != one.control
        ),
        preferences=preferences_of(found, phase),
    )


def _variant(name: str, arm: _Arm, configured: float | None, calls: int, units: int, all_units: int) -> VariantReport:
    ran = arm.calls - arm.withheld.total()
    return VariantReport(
        variant=name,
        calls=arm.calls,
        kept=arm.calls,
        units=units,
        # Not known without units: what the judge says of each metric is.
        effective_units=float(units),
        heaviest=0.0,
        share_configured=configured,
        share_of_calls=arm.calls / calls,
        share_of_units=units / all_units if all_units else 0.0,
        errors=dict(arm.errors),
        error_rate=arm.errors.total() / ran if ran else None,
        fallbacks=arm.fallbacks,
        withheld=dict(arm.withheld),
        closed_early=arm.closed_early,
        latency={ran: latency_of(sorted(durations)) for ran, durations in arm.latency_s.items()},
        metrics=(),
    )
