"""What outcomes add to the evidence: clicks, purchases and labels, attributed to the phase and arm of their decision.

An outcome may come from any process, days late, twice, or with a forged id. So each is checked, counted by what became of it,
and remembered, within bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rollout_sdk.judging.lists import Lists
from rollout_sdk.judging.minutes import MINUTE_S
from rollout_sdk.judging.paired_labels import CONTROL, PairedLabels, add_labels
from rollout_sdk.judging.phase_evidence import PhaseEvidence, Sums, is_by_minute, number_of, slice_of
from rollout_sdk.judging.preferences import JUDGE_FAILED, UNJUDGED, add_preference
from rollout_sdk.judging.remembered import Remembered
from rollout_sdk.plan import JUDGE_PREFERENCE, Criterion, is_judged
from rollout_sdk.records import RecordedEvent

__all__ = ["OutcomeEvidence"]

_NO_DETAILS: Mapping[str, Any] = {}
_MOST_WITHOUT_CALLS = 100
"""Maximum of arms with outcomes but no calls here. Without a key, decision ids, and so arm names, can be forged."""
_LONGEST_AHEAD_S = 60.0
"""Seconds by which a decision's clock may be ahead of its outcome's; longer for metrics with a longer window."""


class OutcomeEvidence:
    """The part of the evidence that outcomes add to; see `Evidence`.

    Attributes:
        phases: Evidence by phase.
        outcomes: Number of recorded outcomes of judged metrics by treatment: "counted", "late" (after the metric's window),
            "duplicate" (the same outcome again, or a second one of a decision if the metric is per outcome) or "unknown"
            (without a decision, or for an older version or another fingerprint); "by unit": recorded for a unit, whose last
            decision only the journal knows; and "capped": calls, and outcomes of calls, beyond the unit's
            `max_calls_per_unit`.
        changed: Phases that changed since the evidence was last published.
        lists: Interleaved lists whose clicks may still come.
    """

    _recorded: dict[str, Criterion]

    def __init__(self, *, since: int, fingerprint: str) -> None:
        """Start without evidence.

        Args:
            since: Number of the first phase that counts.
            fingerprint: Fingerprint of the calls; empty: outcomes of any count.
        """
        self.phases: dict[str, PhaseEvidence] = {}
        self.outcomes: Counter[str] = Counter()
        self.changed: set[str] = set()
        self.lists = Lists()
        self._since = since
        self._fingerprint = fingerprint
        # Decisions beyond the cap, identities of outcomes, and decisions with an outcome of a metric.
        self._capped, self._seen, self._met = Remembered(), Remembered(), Remembered()
        self._without_calls: set[tuple[str, str]] = set()
        self._labels = PairedLabels()

    def phase(self, name: str) -> PhaseEvidence:
        """Return a phase's evidence for changing."""
        self.changed.add(name)
        phase = self.phases.get(name)
        if phase is None:
            phase = self.phases[name] = PhaseEvidence()
        return phase

    def _is_past(self, phase_name: str) -> bool:
        """Whether a phase belongs to an older version, with another candidate."""
        return number_of(phase_name) < self._since

    @staticmethod
    def _sums(phase: PhaseEvidence, label: str, slice_s: float = 0.0) -> Sums:
        sums = phase.sums.get(label)
        if sums is None:
            sums = phase.sums[label] = Sums(slice_s)
        return sums

    def judges(self, metric: str) -> bool:
        """Whether a metric's outcomes can count."""
        return metric in self._recorded

    def name_of(self, event: RecordedEvent) -> str | None:
        """What is the same for the same outcome in every process; None for one that does not count in any case."""
        criterion, decision, phase, decided_s = (
            self._recorded.get(event.metric),
            event.decision_id,
            event.phase,
            event.decided_s,
        )
        if criterion is None or event.measured or event.excluded or decision is None or phase is None or decided_s is None:
            return None
        if self._refusal(criterion, decision, phase, decided_s, event.time_s, event.fingerprint):
            return None
        return event.label if criterion.per == "outcome" else event.name

    def _refusal(
        self, criterion: Criterion, decision: str, phase_name: str, decided_s: float, time_s: float, fingerprint: str
    ) -> str | None:
        """What an outcome is called that does not count whether it is the first of its kind or not; None for one that may."""
        if self._is_past(phase_name) or (fingerprint and self._fingerprint not in ("", fingerprint)):
            return "unknown"
        if criterion.window and time_s - decided_s > criterion.window:
            return "late"
        return "capped" if decision in self._capped else None

    def add_outcome(
        self,
        metric: str,
        value: float,
        *,
        decision: str | None,
        phase_name: str | None,
        arm: str | None,
        bucket: int | None,
        decided_s: float | None,
        time_s: float,
        fingerprint: str = "",
        identity: int | None = None,
        factor: float = 1.0,
        shadow: bool = False,
        item: str | int | None = None,
        source: str = "",
        details: Mapping[str, Any] = _NO_DETAILS,
        unit: str | None = None,
    ) -> None:
        """Add a recorded outcome; outcomes of metrics that are not judged are ignored.

        Args:
            metric: The metric.
            value: The value.
            decision: Identifies the decision; None if the outcome names none.
            phase_name: Phase of the decision.
            arm: Variant of the decision.
            bucket: Bucket of the decision.
            decided_s: Time of the decision.
            time_s: Time of the outcome.
            fingerprint: Fingerprint in the decision's id; empty in ids of earlier SDKs.
            identity: Equal for repeats of one outcome, `RecordedEvent.identity`; None if a decision has one outcome per metric.
            factor: Number of outcomes it stands for, if outcomes were kept at a lower rate than their calls.
            shadow: Whether it is about the answer of a shadow, that of `arm`.
            item: Item of an interleaved list: its pseudonym, or its position.
            source: "judge", "human", or empty.
            details: What the source says besides.
            unit: The unit, if it names one instead of a decision.
        """
        criterion = self._recorded.get(JUDGE_PREFERENCE if metric == JUDGE_FAILED else metric)
        if criterion is None:
            return
        if decision is None or phase_name is None or arm is None or bucket is None or decided_s is None:
            self.outcomes["unknown" if unit is None else "by unit"] += 1
            return
        if why := self._refusal(criterion, decision, phase_name, decided_s, time_s, fingerprint):
            self.outcomes[why] += 1
            return
        about = (metric, f"{decision} {arm} {source}" if shadow else decision)
        is_second = about in self._met
        if identity is None:
            identity = hash(about)
        # A decision has one label, but any number of purchases.
        if identity in self._seen or (is_second and criterion.per == "outcome"):
            self.outcomes["duplicate"] += 1
            return
        if not self._is_possible(phase_name, arm, decided_s - time_s, criterion.window):
            self.outcomes["unknown"] += 1
            return
        if is_judged(criterion.metric):
            self._prefer(
                criterion, metric, value, decision, arm if shadow else None, phase_name, bucket, decided_s, source, details
            )
            self._met.add(about)
            return
        if criterion.per == "list":
            self._click(criterion, decision, item, value, identity)
            return
        value = _clipped(criterion, value)
        weight = 1.0 if criterion.per == "outcome" else 0.0
        phase = self.phase(phase_name)
        if phase.is_shadow or not phase.shares:
            # A process that only records outcomes does not know whether the phase shadows.
            add_labels(
                self._labels,
                phase,
                phase_name,
                criterion.label,
                (metric, decision, arm if shadow else CONTROL, value),
                bucket=bucket,
                decided_s=decided_s,
                slice_s=slice_of(criterion.window),
            )
        elif shadow:
            self.outcomes["unknown"] += 1
            return
        if shadow:
            self.outcomes["counted"] += 1
            self._seen.add(identity)
            return
        sums, at_s = self._sums_at(phase, criterion, arm, decided_s)
        # Added first, because it refuses values that would spoil all sums.
        sums.add(phase_name, arm, bucket, value * factor, weight * factor, at_s)
        # The call's value is now a sum, no longer 0 or 1.
        sums.others += is_second
        self.outcomes["counted"] += 1
        self._seen.add(identity)
        self._met.add(about)

    def _sums_at(self, phase: PhaseEvidence, criterion: Criterion, arm: str, decided_s: float) -> tuple[Sums, float | None]:
        """Return a metric's sums, and the time of a decision if they still separate it from others."""
        if not is_by_minute(criterion):
            return self._sums(phase, criterion.label, slice_of(criterion.window)), decided_s
        minutes = phase.minutes.get(arm)
        # A minute that can be part of an outage is kept. A process that did not serve the call knows of none.
        is_kept = minutes is not None and int(decided_s // MINUTE_S) in minutes.kept
        return self._sums(phase, criterion.label, MINUTE_S), decided_s if is_kept else None

    def _prefer(
        self,
        criterion: Criterion,
        metric: str,
        value: float,
        decision: str,
        candidate: str | None,
        phase_name: str,
        bucket: int,
        decided_s: float,
        source: str,
        details: Mapping[str, Any],
    ) -> None:
        """Add what a judge or a person says about both answers to a call."""
        phase = self.phase(phase_name)
        counts = candidate is not None
        if candidate is not None and metric == JUDGE_FAILED:
            phase.ends[candidate, UNJUDGED + str(details.get("end", "error"))] += 1
        elif candidate is not None:
            counts = add_preference(
                phase,
                phase_name,
                candidate,
                min(max(value, -1.0), 1.0),
                decision=decision,
                audit=criterion.audit,
                source=source,
                details=details,
                bucket=bucket,
                time_s=decided_s,
            )
        self.outcomes["counted" if counts else "unknown"] += 1

    def _click(self, criterion: Criterion, decision: str, item: str | int | None, value: float, identity: int) -> None:
        """Credit a click on an item of a list."""
        changes = self.lists.clicked(decision, criterion.metric, item, value)
        if changes is None:
            self.outcomes["unknown"] += 1
            return
        for phase_name, candidate, bucket, change, time_s in changes:
            self._sums(self.phase(phase_name), criterion.label).add(phase_name, candidate, bucket, change, 0.0, time_s)
        self.outcomes["counted"] += 1
        self._seen.add(identity)

    def _is_possible(self, phase_name: str, arm: str, ahead_s: float, window: float) -> bool:
        """Whether the decision may exist: not far ahead of its outcome, and in a known arm.

        A process that only records outcomes has not seen the calls, so a limited number of arms is accepted without calls.
        """
        if window and ahead_s > max(window, _LONGEST_AHEAD_S):
            return False
        phase = self.phases.get(phase_name)
        if (phase is not None and arm in phase.calls) or (phase_name, arm) in self._without_calls:
            return True
        if len(self._without_calls) >= _MOST_WITHOUT_CALLS:
            return False
        self._without_calls.add((phase_name, arm))
        return True


def _clipped(criterion: Criterion, value: float) -> float:
    return value if criterion.clip is None else min(max(value, criterion.clip[0]), criterion.clip[1])
