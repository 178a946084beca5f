"""What must be looked into before a number is believed: shares, labels, mixed versions, lost facts, heavy units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rollout_sdk.analysis.judged import Judged
from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.analysis.segments import SegmentDifference
from rollout_sdk.analysis.verdict import Check, Difference
from rollout_sdk.formatting import number, percent, several
from rollout_sdk.judging.pairs import LEAST_COMPLETE, completeness, cure_of, most_missing
from rollout_sdk.records import INTERLEAVED
from rollout_sdk.stats import MIN_EFFECTIVE_UNITS

__all__ = ["CODE_CURE", "MOST_LOST", "candidates_of", "checks_of"]

_MOST_OVERLAP = 0.1
"""Share of a set's time in which another may run beside it, as in a deployment."""

_MOST_SEGMENTS = 3

MOST_LOST = 0.01
"""Share of lost facts above which numbers are not trusted."""

CODE_CURE = " If the candidate is the same, give it a version=: then its code does not count."
"""For sets of arms that differ in the candidates' code: values in a closure can differ, or the version of Python."""


def candidates_of(report: RolloutReport) -> tuple[str, ...]:
    """Names of the candidates that the calls tell of."""
    seen: dict[str, None] = {}
    for phase in report.phases:
        seen.update(dict.fromkeys(each.variant for each in phase.variants))
        seen.update(dict.fromkeys(each.variant for each in phase.shadows))
        seen.update(dict.fromkeys(each.candidate for each in phase.preferences))
    return tuple(name for name in seen if name not in (report.control, INTERLEAVED))


def checks_of(
    report: RolloutReport,
    found: Judged,
    compared: Sequence[Difference],
    segments: Sequence[SegmentDifference],
    lost_share: float,
) -> tuple[Check, ...]:
    """Everything that a person must look into, what voids the numbers first.

    Args:
        report: What was gathered of the rollout.
        found: What its judge found.
        compared: The differences.
        segments: Those by segment.
        lost_share: Share of the facts that the journal says were lost.
    """
    checks = (*_checks(report, found, compared, lost_share), *_of_segments(segments))
    return tuple(sorted(checks, key=lambda each: not each.is_fatal))


def _checks(report: RolloutReport, found: Judged, compared: Sequence[Difference], lost_share: float) -> Iterator[Check]:
    verdict, course = found.verdict, found.course
    alarm = next((each.alarm for each in course.phases.values() if each.alarm is not None), None)
    if report.shares.is_mismatch or (verdict is not None and not verdict.valid):
        shares = next((each for each in reversed(report.shares.phases)), None)
        seen = "" if shares is None else f": {_seen(shares.units, shares.configured)}"
        yield Check(
            name="shares",
            what=f"units are not in the arms in the configured shares{seen}",
            since_s=None if alarm is None else alarm.time_s,
            cure="Find which calls of one arm are lost or come more often: a redirect, a crash before the call, a bot filter.",
        )
    for each in compared:
        if each.outcome == "ERROR":
            is_label = each.numbers.get("labels") is not None
            yield Check(
                name="labels" if is_label else "metric",
                what=f"{each.metric}: {each.reason}",
                since_s=_since(found, each),
                cure="Find out why one arm gets fewer outcomes before you compare them." if is_label else "Fix what it names.",
                is_fatal=each.decides,
            )
    yield from _of_shadows(report, found)
    others = [other for other in report.others if other.at_once and other.differs]
    if others:
        yield Check(
            name="versions",
            what=f"{several(len(others) + 1, 'set')} of arms ran at the same time; they differ in "
            f"{', '.join(dict.fromkeys(part.replace('_', ' ') for other in others for part in other.differs))}",
            since_s=None,
            cure="Give all processes the same code, settings and ROLLOUT_KEY, or wait until the deployment has ended."
            + (CODE_CURE if any("code" in other.differs for other in others) else ""),
            # While a version is deployed, processes of two run for a while.
            is_fatal=any(other.overlap > _MOST_OVERLAP for other in others),
        )
    if lost_share > MOST_LOST:
        yield Check(
            name="lost",
            what=f"{percent(lost_share)} of the facts are lost",
            since_s=None,
            cure="Find out why: rollout doctor.",
        )
    if found.fault:
        yield Check(
            name="plan",
            what=found.fault,
            since_s=None,
            cure="Report with the version of rollout_sdk that wrote the journal.",
        )
    if found.refused:
        yield Check(
            name="refused",
            what=f"{several(found.refused, 'line')} cannot be counted, for a value beyond 1e50, a missing field, or a phase "
            "beyond those that are kept",
            since_s=None,
            cure="Look at what records them; --full has what was recorded.",
            is_fatal=False,
        )
    yield from _cautions(report, compared)


def _of_segments(segments: Sequence[SegmentDifference]) -> Iterator[Check]:
    worse = [each for each in segments if each.is_worse]
    if worse:
        named = ", ".join(f"{each.attribute}={each.segment} ({each.metric})" for each in worse[:_MOST_SEGMENTS])
        who = " or ".join(dict.fromkeys(each.candidate for each in worse))
        more = f" and {len(worse) - _MOST_SEGMENTS} more" if len(worse) > _MOST_SEGMENTS else ""
        yield Check(
            name="segment",
            what=f"{who} is significantly worse in {named}{more}, corrected over {len(segments)} differences",
            since_s=None,
            cure="Look at the segments before you decide for all of them.",
            is_fatal=False,
        )


def _seen(units: Mapping[str, int], configured: Mapping[str, float]) -> str:
    whole_, shares = sum(units.values()), math.fsum(configured.values())
    return ", ".join(
        f"{name} {percent(count / whole_ if whole_ else None)} (configured {percent(configured[name] / shares)})"
        for name, count in units.items()
    )


def _since(found: Judged, each: Difference) -> float | None:
    """Time of the first look that found it broken."""
    name = each.metric, each.candidate
    looks = [look for look in found.looks if any((one.name, one.candidate) == name and one.outcome == "ERROR"
             for one in (*look.findings, *look.others))]  # fmt: skip
    return looks[0].time_s if looks else None


def _of_shadows(report: RolloutReport, found: Judged) -> Iterator[Check]:
    phase = found.course.evidence.phases.get(found.course.current)
    if phase is None or not phase.is_shadow:
        return
    for name in candidates_of(report):
        share = completeness(phase, name)
        if share is not None and share < LEAST_COMPLETE:
            cure = cure_of(most_missing({end: many for (arm, end), many in phase.ends.items() if arm == name}))
            yield Check(
                name="completeness",
                what=f"{percent(share)} of the shadow runs of {name} ended, and the others are not missing at random",
                since_s=None,
                cure=f"{cure[0].upper()}{cure[1:]}.",
            )


def _cautions(report: RolloutReport, compared: Sequence[Difference]) -> Iterator[Check]:
    """What does not void the numbers, and explains them."""
    heavy = [
        each for phase in report.phases for each in phase.variants
        if each.effective_units < MIN_EFFECTIVE_UNITS <= each.units
    ]  # fmt: skip
    for each in heavy[:1]:
        yield Check(
            name="heavy",
            what=f"{number(each.units)} units of {each.variant} count for {each.effective_units:.3g}: the heaviest makes "
            f"{percent(each.heaviest)} of its calls",
            since_s=None,
            cure="Leave out bots and calls without a user, or set max_calls_per_unit.",
            is_fatal=False,
        )
    if report.codes > 1:
        yield Check(
            name="code",
            what=f"calls of {several(report.codes, 'form')} of the candidates' code are pooled: no version= tells them apart",
            since_s=None,
            cure="If they are different models, give each a version=.",
            is_fatal=False,
        )
    if report.crossed.in_phase:
        yield Check(
            name="crossed",
            what=f"{number(report.crossed.in_phase)} of {several(report.crossed.units, 'unit')} were in several arms at once",
            since_s=None,
            cure="Pass a unit= that one user has alone.",
            is_fatal=False,
        )
    judged = {each.metric for each in compared if each.decides}
    differing = [each for phase in report.phases for each in phase.labels if each.differs and each.metric not in judged]
    for label in differing[:1]:
        rates = ", ".join(f"{variant} {percent(rate)}" for variant, rate in label.rates.items())
        yield Check(
            name="labels",
            what=f"{label.metric} is recorded for more units of one arm than of another: {rates}",
            since_s=None,
            cure="Find out why before you compare its means per outcome (--full).",
            is_fatal=False,
        )
    for one in compared:
        if one.novelty is not None and one.novelty.is_fading and one.kind != "exploratory":
            yield Check(
                name="novelty",
                what=f"the effect on {one.metric} changes: {one.novelty.first:+.3g} first, {one.novelty.later:+.3g} later",
                since_s=one.novelty.until_s,
                cure="Decide by the later part, or wait.",
                is_fatal=False,
            )
