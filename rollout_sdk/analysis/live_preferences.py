"""Which ranker users prefer, in a journal that is read as it is written: by the judge's sums, in which users are by bucket."""

from __future__ import annotations

from collections.abc import Iterable

from rollout_sdk.analysis.judged import Judged
from rollout_sdk.analysis.metrics import voided
from rollout_sdk.analysis.phase_report import Preference
from rollout_sdk.judging.lists import LISTS
from rollout_sdk.judging.phase_evidence import Sums
from rollout_sdk.stats import ratio_of_sums

__all__ = ["preferences_of"]


def preferences_of(found: Judged, phase: str) -> tuple[Preference, ...]:
    """The preference for each candidate in a phase, by every metric of which there was a click.

    A report has the unit as the cluster of its intervals, and this the bucket of units, so that memory does not grow with them.

    Args:
        found: What the judge saw.
        phase: Name of the phase.
    """
    course = found.course
    seen = course.evidence.phases.get(phase)
    shown = None if seen is None else seen.sums.get(LISTS)
    if seen is None or shown is None:
        return ()
    labels = {each.metric: each.label for each in (*course.criteria.all, *course.also) if each.per == "list"}
    won, is_void = course.evidence.lists.won, bool(course.invalid)
    preferences = []
    for candidate in sorted(course.blended):
        _, lists = _by_bucket(shown, phase, candidate)
        for metric, label in sorted(labels.items()):
            clicked = seen.sums.get(label)
            if clicked is None:
                continue
            values, _ = _by_bucket(clicked, phase, candidate)
            by_bucket = ((value, count) for value, count in zip(values, lists, strict=True) if count)
            preferred, many = ratio_of_sums(by_bucket, within=(-0.5, 0.5)), round(sum(lists))
            wins, losses = (won[phase, metric, candidate, sign] for sign in (1, -1))
            preferences.append(
                Preference(
                    candidate=candidate,
                    metric=metric,
                    lists=many,
                    wins=wins,
                    losses=losses,
                    ties=many - wins - losses,
                    preference=voided(preferred) if is_void else preferred,
                    is_fair=(phase, candidate) not in course.evidence.lists.unfair,
                )
            )
    return tuple(preferences)


def _by_bucket(sums: Sums, phase: str, arm: str) -> tuple[list[float], list[float]]:
    """Values and weights of an arm, whenever they came."""
    cells = [each.cell(phase, arm) for each in sums.slices.values()]
    return _added(values for values, _ in cells), _added(weights for _, weights in cells)


def _added(columns: Iterable[Iterable[float]]) -> list[float]:
    return [sum(row) for row in zip(*columns, strict=True)]
