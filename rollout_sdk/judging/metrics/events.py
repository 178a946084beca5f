"""Events of calls (errors, slow calls): the units with a first event in each phase, and the exact bets on them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import frozen

from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging.look import Look
from rollout_sdk.judging.minutes import MINUTE_S
from rollout_sdk.judging.phase_evidence import PhaseEvidence, Sums
from rollout_sdk.judging.unit_sample import UNTIMED_MINUTE, FirstUnits, UnitSample
from rollout_sdk.plan import Guardrail
from rollout_sdk.stats import StratifiedBuckets, cluster_bets_log_e

__all__ = ["Group", "Strata", "add_calls", "add_event", "bets", "burst_s", "strata_of"]

_ZEROS = array("d", bytes(8 * BUCKETS))

_SMALL_SHARE, _BURST_S = 0.1, 60.0

Group: TypeAlias = tuple[float, float, int]
"""Units of the candidate and of the control that together count as at most one event, and the index of their phase."""


def add_event(phase: PhaseEvidence, label: str, name: str, arm: str, cell: int, bucket: int, time_s: float) -> None:
    """Add one call's event to the sums, and its unit to the units with an event."""
    sums = phase.sums.get(label)
    if sums is None:
        # Sliced by minute, so that outages can be excluded.
        sums = phase.sums[label] = Sums(MINUTE_S)
    sums.add(name, arm, bucket, 1.0, 0.0, time_s)
    units = phase.events.get((label, arm))
    if units is None:
        units = phase.events[label, arm] = UnitSample()
    units.add(cell, int(time_s // MINUTE_S) if time_s > 0 else UNTIMED_MINUTE)


def add_calls(
    whole: StratifiedBuckets,
    name: str,
    phase: PhaseEvidence,
    unknown: Mapping[str, Sequence[int]] | None = None,
    look: Look | None = None,
) -> None:
    """Add a phase's calls as weights, except those with an unknown value and those of outages.

    The buckets of an outage's calls are not stored, so every bucket is reduced by the same fraction.
    """
    for arm, calls in phase.calls.items():
        left_out = None if unknown is None else unknown.get(arm)
        known = calls if left_out is None else [all_ - out for all_, out in zip(calls, left_out, strict=True)]
        part = 1.0 if look is None else look.calls_left(phase, arm)
        weights = array("d", known) if part == 1 else array("d", [part * each for each in known])
        whole.add_sums(name, arm, _ZEROS, weights)


@frozen
class Strata:
    """Units with an event, each once in the rollout, in the phase of its first event.

    Attributes:
        counts: For each phase with both arms: the candidate's units, the control's, and the candidate's share, each arm at its
            own sampling level.
        firsts: For each of these phases, the fraction of the candidate's events that are the first of their unit.
        groups: Number of groups of each composition; a group counts as at most one event.
    """

    counts: list[list[float]]
    firsts: list[float]
    groups: Counter[Group]

    @property
    def shares(self) -> list[float]:
        """The candidate's share in each phase."""
        return [share for _, _, share in self.counts]

    @property
    def charged(self) -> list[float]:
        """Shares reduced by `firsts`, which charges every event to the candidate and none to the control."""
        return [share * first / (share * first + 1 - share) for share, first in zip(self.shares, self.firsts, strict=True)]

    def at_shares(self, shares: Sequence[float]) -> list[tuple[float, float, float]]:
        """Return each phase's events at other shares, each group counting as one.

        The product over fractions of a group's single event never exceeds the bet on the group, so the evidence stays valid.
        """
        counts = [[0.0, 0.0] for _ in shares]
        for (mine, other, index), number in self.groups.items():
            counts[index][0] += number * mine / (mine + other)
            counts[index][1] += number * other / (mine + other)
        return [(mine, other, share) for (mine, other), share in zip(counts, shares, strict=True)]

    @property
    def candidate_groups(self) -> float:
        """Number of groups with a unit of the candidate."""
        return sum(number for (mine, _, _), number in self.groups.items() if mine)


def strata_of(look: Look, criterion: Guardrail, sums: StratifiedBuckets, candidate: str) -> Strata:
    """Return the units by the phase of their first event, without outages.

    Args:
        look: The look.
        criterion: The guardrail on these events.
        sums: All events and calls.
        candidate: The candidate.
    """
    found = Strata([], [], Counter())
    for (name, phase), first in zip(look.phases, look.firsts(criterion.label), strict=True):
        share = look.share(phase, candidate)
        if share is None:
            continue
        left_out = look.outages(phase)
        mine, other = (_outside(first.get(arm), left_out) for arm in (candidate, look.situation.control))
        ours, theirs = share / 2**mine.level, (1 - share) / 2**other.level
        events, _ = sums.totals(name, candidate)
        found.groups.update(_grouped(mine, other, len(found.counts), burst_s(criterion, share)))
        found.counts.append([len(mine.minutes), len(other.minutes), ours / (ours + theirs)])
        found.firsts.append(min(1.0, mine.estimate / events) if events else 1.0)
    return found


def burst_s(criterion: Guardrail, share: float) -> float:
    """Return the seconds within which a phase's events count once, given the candidate's share."""
    if criterion.burst is not None:
        return criterion.burst
    # Never in shadow phases, where the share is 0.5.
    return _BURST_S if share < _SMALL_SHARE else 0.0


def _outside(units: FirstUnits | None, left_out: frozenset[int]) -> FirstUnits:
    """Return the units whose first event was in none of these minutes."""
    if units is None:
        return FirstUnits({}, 0)
    if not left_out:
        return units
    return FirstUnits({cell: minute for cell, minute in units.minutes.items() if minute not in left_out}, units.level)


def _grouped(mine: FirstUnits, other: FirstUnits, index: int, within_s: float) -> Counter[Group]:
    """Group the units of both arms: units of one burst together, others alone; a group counts as at most one event."""
    groups: Counter[Group] = Counter()
    bursts: dict[int, list[int]] = {}
    length = max(1, round(within_s / MINUTE_S))
    for arm, units in enumerate((mine, other)):
        for minute in units.minutes.values():
            if within_s and minute != UNTIMED_MINUTE:
                bursts.setdefault(minute // length, [0, 0])[arm] += 1
            else:
                groups[float(1 - arm), float(arm), index] += 1
    groups.update((float(ours), float(theirs), index) for ours, theirs in bursts.values())
    return groups


def bets(
    groups: Mapping[Group, float], shares: Sequence[float], *, ratio: float, direction: Literal["above", "below"]
) -> float:
    """Return the exact evidence that the ratio of rates is above, or below, `ratio`."""
    clusters = [[(mine, other, shares[index])] for mine, other, index in groups]
    return cluster_bets_log_e(clusters, counts=list(groups.values()), ratio=ratio, direction=direction)
