"""The headline of a rollout: what to do, why, and everything that must be looked into first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from rollout_sdk.analysis.bounded import shortened
from rollout_sdk.analysis.checks import candidates_of, checks_of
from rollout_sdk.analysis.differences import differences
from rollout_sdk.analysis.judged import Judged
from rollout_sdk.analysis.phrases import because, wants_labels
from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.analysis.segment_differences import segment_differences
from rollout_sdk.analysis.segment_sums import Summed
from rollout_sdk.analysis.togo import Forecasts, to_go, traffic_of, traffic_of_lists, whole
from rollout_sdk.analysis.verdict import Check, Difference, Headline, RolloutVerdict, ServingProcess
from rollout_sdk.judging import Finding, Verdict

__all__ = ["conclude", "headline_of"]

_DAY_S = 86_400.0
_PROCESS = re.compile(r"events-(.+-\d+)-[0-9a-f]+\Z")
"""What the names of a process's files begin with: host and process id, and when it began."""
_ANY = "gates=[Gate(...)] or guardrails=[Guardrail(...)]"
_DECLARED: Mapping[str, str] = {"shadow": "guardrails=[Guardrail(...)]", "interleave": "gates=[Gate(...)]"}
_STOPPED: Mapping[str, str] = {"rolled_back": "rolled back", "aborted": "aborted"}


def conclude(
    report: RolloutReport,
    found: Judged,
    *,
    lost_share: float = 0.0,
    sums: Summed | None = None,
    forecasts: Forecasts | None = None,
) -> RolloutVerdict:
    """What a journal says to do about one rollout, and why.

    Args:
        report: What was gathered of it.
        found: What its judge found.
        lost_share: Share of the facts that the journal says were lost.
        sums: Sums by segment; without them, nothing is said of segments.
        forecasts: Those of an earlier conclusion, which are used again where the traffic has hardly changed; None: none are.
    """
    verdict, course = found.verdict, found.course
    last = found.looks[-1] if found.looks else None
    compared = () if last is None else differences(found, last.findings, last.others)
    candidates = tuple(dict.fromkeys(each.candidate for each in compared)) or candidates_of(report)
    segments = () if sums is None or report.shares.is_mismatch else segment_differences(found, sums, candidates)
    checks = checks_of(report, found, compared, segments, lost_share)
    compared = tuple(_timed(found, each, forecasts) for each in compared)
    by_candidate = {name: headline_of(found, name, compared) for name in candidates}
    headline, about_one = _overall(report, by_candidate, checks)
    waits = whole(each.to_go for each in compared if each.decides and each.candidate in (about_one, *candidates))
    shares, step, steps = _standing(report, found)
    shown = {phase.phase: phase for phase in report.phases}
    last_phase = course.current or next(reversed(shown), "")
    reason = because(report, verdict, headline, about_one, compared, checks, waits, is_declared=found.is_declared)
    return RolloutVerdict(
        rollout=report.rollout,
        version=report.version,
        fingerprint=report.fingerprint,
        strategy=report.strategy,
        status=report.status,
        phase=last_phase,
        step=step,
        steps=steps,
        control=report.control,
        candidates=candidates,
        is_declared=found.is_declared,
        headline=headline,
        candidate=about_one,
        reason=reason,
        action=_action(report, found, headline, about_one, checks, compared),
        by_candidate=by_candidate,
        differences=compared,
        segments=segments,
        checks=checks,
        to_go=waits if headline == "WAIT" else None,
        units=_totals(report, "units"),
        calls=_totals(report, "calls"),
        shares=shares,
        realised={each.variant: each.share_of_units for each in shown[last_phase].variants} if last_phase in shown else {},
        srm_log_e=report.shares.highest_log_e,
        srm_needed=report.shares.needed,
        completeness={each.variant: each.completeness for each in _shadows(report) if each.completeness is not None},
        first_s=min((phase.first_s for phase in report.phases if phase.first_s is not None), default=None),
        last_s=max((phase.last_s for phase in report.phases if phase.last_s is not None), default=None),
        outcomes={}
        if verdict is None
        else {name: each for name, each in verdict.outcomes.items() if name != "counted" and each},
        undeclared=tuple(found.unnamed),
        alpha=course.criteria.alpha,
        processes=_processes(found),
    )


def _processes(found: Judged) -> tuple[ServingProcess, ...]:
    """Those seen last first."""
    known = sorted(found.processes.items(), key=lambda item: (-item[1][1], item[0]))
    return tuple(
        ServingProcess(name=shortened(_PROCESS.sub(r"\1", process)), first_s=span[0], last_s=span[1]) for process, span in known
    )


def _shadows(report: RolloutReport) -> Sequence[Any]:
    return report.phases[-1].shadows if report.phases else ()


def _totals(report: RolloutReport, name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for phase in report.phases:
        for each in phase.variants:
            found[each.variant] = found.get(each.variant, 0) + getattr(each, name)
    return found


def _standing(report: RolloutReport, found: Judged) -> tuple[dict[str, float], int | None, int]:
    """Configured shares of the last phase, and the canary's step."""
    exposure = dict(found.course.exposures.get(found.course.current, {}))
    steps = len(found.course.criteria.steps) if found.course.criteria.acts else 0
    situation = found.course.situation()
    step = None
    if steps and situation is not None and situation.step is not None:
        step = found.course.criteria.steps.index(situation.step) + 1
    shares = {each.variant: each.share_configured for each in (report.phases[-1].variants if report.phases else ())}
    known = {name: share for name, share in shares.items() if share is not None}
    return known or exposure, step, steps


# What to do --------------------------------------------------------------------------------------------------------------


def headline_of(found: Judged, candidate: str, compared: Sequence[Difference]) -> Headline:
    """The headline of one candidate, whatever else is broken."""
    verdict = found.verdict
    mine = [each for each in compared if each.candidate == candidate and each.decides]
    outcomes = {each.outcome for each in mine}
    if "FAIL" in outcomes or (found.is_declared and "FUTILE" in outcomes):
        return "DO NOT SHIP"
    if "ERROR" in outcomes or (verdict is not None and not verdict.valid):
        return "CHECK"
    if found.is_declared and verdict is not None and candidate in verdict.ready and _is_last(found):
        return "SHIP"
    return "WAIT"


def _is_last(found: Judged) -> bool:
    """Whether a pass means that the candidate may be shipped, and not that a canary takes another step."""
    situation = found.course.situation()
    return not found.course.criteria.acts or (situation is not None and situation.is_last and not situation.shadowing)


def _overall(
    report: RolloutReport, by_candidate: Mapping[str, Headline], checks: Sequence[Check]
) -> tuple[Headline, str | None]:
    """The headline, and the candidate that it is about; None for all of them."""
    only = next(iter(by_candidate)) if len(by_candidate) == 1 else None
    if report.status in _STOPPED:
        return "DO NOT SHIP", only
    if report.status == "promoted":
        return "SHIP", only
    found = set(by_candidate.values())
    if found == {"DO NOT SHIP"}:
        return "DO NOT SHIP", only
    if any(each.is_fatal for each in checks) or "CHECK" in found:
        return "CHECK", only
    shipped = [name for name, headline in by_candidate.items() if headline == "SHIP"]
    if shipped:
        return "SHIP", shipped[0] if len(shipped) == 1 else None
    return "WAIT", only


def _action(
    report: RolloutReport,
    found: Judged,
    headline: Headline,
    candidate: str | None,
    checks: Sequence[Check],
    compared: Sequence[Difference],
) -> str:
    """What to do next, in one sentence."""
    name = candidate or "the candidate"
    if headline == "CHECK":
        fatal = next((each for each in checks if each.is_fatal), None)
        return "Look into it before you decide." if fatal is None else fatal.cure
    if headline == "DO NOT SHIP":
        if report.status in _STOPPED:
            return "Every user has the control. Come back with another version=."
        acts = found.course.criteria.acts
        return (
            "It is rolled back by itself at the next look."
            if acts
            else f"Take {name} out, fix it, and come back with another version=."
        )
    if headline == "SHIP":
        if report.status == "promoted":
            return f"Make {name} the function, and remove the rollout."
        if report.strategy == "shadow":
            return "Go on with a canary or an A/B test: no user has seen it yet."
        if found.course.criteria.acts:
            return "It is promoted by itself at the next look."
        if candidate is None:
            return "Several candidates have passed: choose one by the differences below."
        return f"Make {name} the function, and remove the rollout."
    if report.status == "paused":
        return f"A person decides: rollout resume {report.rollout}, promote or abort."
    if not found.is_declared:
        return f"To conclude, declare {_DECLARED.get(report.strategy, _ANY)} with the strategy."
    if any(each.decides and wants_labels(each) for each in compared):
        return f"Label pairs: rollout audit {report.rollout}."
    return "Leave it running."


# How long ----------------------------------------------------------------------------------------------------------------


def _timed(found: Judged, each: Difference, forecasts: Forecasts | None) -> Difference:
    """With how long it still takes, where it has neither passed nor failed."""
    if not each.decides or each.outcome not in ("INCONCLUSIVE", "INSUFFICIENT_DATA"):
        return each
    course = found.course
    phase, seen = course.evidence.phases.get(course.current), course.phases.get(course.current)
    if phase is None or seen is None:
        return each
    days = (found.now_s - seen.began_s) / _DAY_S
    criteria = {one.label: one for one in course.criteria.all}
    finding = next(one for one in _findings(course.previous) if (one.name, one.candidate) == (each.metric, each.candidate))
    if criteria[each.metric].per == "list":
        traffic = traffic_of_lists(finding, days)
    else:
        sums = {label: course.evidence.sums(one) for label, one in criteria.items()}
        traffic = traffic_of(phase, course.current, days, criteria.values(), sums)
    if traffic is None:
        return each
    arms = phase.shares.get(course.control, 0.0), phase.shares.get(each.candidate, 0.0)
    if phase.is_shadow or criteria[each.metric].per == "list":
        # Every unit has both.
        arms = (1.0, 1.0)
    return evolve(each, to_go=to_go(criteria[each.metric], finding, traffic, arms, days, forecasts))


def _findings(verdict: Verdict | None) -> Sequence[Finding]:
    return () if verdict is None else verdict.findings
