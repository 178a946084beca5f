"""Findings about the rollouts in a journal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from rollout_sdk.analysis.checks import CODE_CURE
from rollout_sdk.analysis.operations import Operations
from rollout_sdk.analysis.report import RolloutReport
from rollout_sdk.doctor.diagnosis import Diagnosis, Finding, worst
from rollout_sdk.doctor.operated import Operated
from rollout_sdk.formatting import counts, duration, number, percent, plain, quoted, several
from rollout_sdk.stats import MOST_OF_ONE_UNIT

__all__ = ["SHADOW_CURES", "about"]

_LARGEST_EXPONENT = 200.0
_SOME = 0.01
_MANY = 0.1
_NO_UNIT = 0.05
_HEAVY_CALLS = 100
"""Calls of one unit below which its share is that of a small journal."""

SHADOW_CURES: Mapping[str, str] = {
    "error": "Look in the application's log or traces for what the candidate raises, and fix it.",
    "timeout": "Make the candidate faster, or raise timeout_s of ShadowLimits.",
    "cancelled": "Keep the event loop running until shadows have ended; a loop that closes takes them with it.",
    "abandoned": "Raise exit_deadline_s of the Runtime: processes ended before their shadows did.",
    "dropped_full": "Lower the rate of Shadow, or raise workers and cpu_share (for coroutines max_tasks) of ShadowLimits.",
    "dropped_too_large": "Lower the rate of Shadow, or raise max_bytes of ShadowLimits: what is copied is too large.",
    "dropped_stale": "Lower the rate of Shadow, or raise workers and cpu_share of ShadowLimits: runs wait too long.",
    "dropped_snapshot": "Pass isolate= with a function that copies arguments, or isolate='none' if no variant changes them.",
    "unmeasured": "Have the candidate return the answer itself, a coroutine, or a stream.",
    "dropped_start": "Raise the limit of threads (ulimit -u, pids.max), and call coroutine functions on an event loop.",
    "dropped_closed": "Nothing to do if processes end often; otherwise close the Runtime only at the end.",
    "dropped_open": "Fix the candidate: it fails so often that its circuit breaker is open.",
    "dropped_aborted": "Nothing to do: the rollout was aborted, or candidates were disabled.",
}
"""The cure for each way in which a shadow run can fail or be dropped."""


def about(seen: Diagnosis) -> Iterator[Finding]:
    """Yield the findings, or one that says that nothing is wrong."""
    if seen.journal is None or not seen.journal.operations:
        return
    found = []
    operated = seen.journal.operated(seen.now)
    for key, rollout in operated.items():
        found += [*_standing(key, rollout), *_calls(key, rollout), *_runs(key, rollout), *_breakers(key, rollout)]
        for arms in rollout.sets:
            found += [*_code(key, arms), *_units(key, arms), *_withheld(key, arms), *_shadows(key, arms, rollout.sums)]
    yield from found
    if worst(found) in ("ok", "note"):
        what = f"No candidate fails often, and shadows finish ({several(len(operated), 'rollout')})."
        yield Finding("ok", "rollouts.ok", what, "Nothing to do.")


def _standing(key: str, rollout: Operated) -> Iterator[Finding]:
    name = quoted(key)
    if len(rollout.places) > 1:
        places = [f"{plain(status, 20)} in {plain(phase, 30)}: {count}" for (status, phase), count in rollout.places.items()]
        yield Finding(
            "warning",
            "rollout.processes_differ",
            f"The processes of {name} are in different states ({'; '.join(places[:4])}): they do not share one.",
            "Give them one store (ROLLOUT_STORE) or control file (ROLLOUT_CONTROL), and restart those that lag behind.",
        )
    yield from _fingerprints(name, rollout)
    if rollout.status == "aborted":
        yield Finding(
            "note", "rollout.aborted", f"{name} is aborted: everybody gets the control.", "Remove the candidate from the code."
        )
    elif rollout.status == "paused":
        yield Finding(
            "note", "rollout.paused", f"{name} is paused: its shares stay as they are.", "Decide, and resume or abort it."
        )
    elif rollout.status == "promoted":
        yield Finding(
            "note",
            "rollout.promoted",
            f"{name} is promoted: everybody gets the candidate.",
            "Make the candidate the function itself, and remove the rollout.",
        )


def _fingerprints(name: str, rollout: Operated) -> Iterator[Finding]:
    living = rollout.fingerprints
    if len(living) < 2:
        return
    sets = {each.fingerprint: each for each in rollout.sets}
    said = [
        f"{plain(fingerprint, 20)}"
        f"{f' (version {plain(sets[fingerprint].version, 30)})' if sets[fingerprint].version else ''}: {number(processes)}"
        for fingerprint, processes in living.items()
    ]
    first, *rest = (sets[fingerprint].made_of for fingerprint in living)
    parts = [part for part in first if any(part in each and each[part] != first[part] for each in rest)]
    what = f" They differ in: {', '.join(plain(part, 30).replace('_', ' ') for part in parts[:6])}." if parts else ""
    yield Finding(
        "warning",
        "rollout.fingerprints",
        f"The processes of {name} have different fingerprints ({'; '.join(said[:4])}), so their calls are never pooled.{what}",
        "Wait for the deployment to end, or give all processes the same code, settings and ROLLOUT_KEY."
        + (CODE_CURE if "code" in parts else ""),
    )


def _calls(key: str, rollout: Operated) -> Iterator[Finding]:
    name, calls, excluded = quoted(key), rollout.sums.calls, rollout.excluded
    if failed := excluded["error"]:
        yield Finding(
            "warning",
            "rollout.strategy_failed",
            f"The strategy of {name} failed in {several(failed, 'call')}, answered by the control and not analysed.",
            "Fix the strategy or its plugin; the application's log says what it raises.",
        )
    without = excluded["no_unit"]
    if without and without / calls >= _NO_UNIT:
        yield Finding(
            "warning",
            "rollout.no_unit",
            f"{number(without)} of {several(calls, 'call')} of {name} have no unit: the control answers them.",
            "Pass a unit with these calls, or set missing_unit='random' if each call may be its own unit.",
        )
    elif without:
        yield Finding(
            "note",
            "rollout.no_unit",
            f"{number(without)} of {several(calls, 'call')} of {name} have no unit.",
            "Nothing to do as long as they stay few.",
        )
    if once := excluded["one_shot"]:
        yield Finding(
            "note",
            "rollout.one_shot",
            f"{number(once)} of {several(calls, 'call')} of {name} have an argument that can be read only once.",
            "The control answers these calls; to include them, pass a list instead of a generator or a file.",
        )


def _units(key: str, arms: RolloutReport) -> Iterator[Finding]:
    shares = arms.shares
    if shares.is_mismatch and shares.highest_log_e is not None:
        units = sum(sum(phase.units.values()) for phase in shares.phases)
        evidence = math.exp(min(shares.highest_log_e, _LARGEST_EXPONENT))
        yield Finding(
            "error",
            "rollout.shares",
            f"Sample ratio mismatch in {quoted(key)}{_of(arms)}: the arms do not have the configured "
            f"shares of {several(units, 'unit')} (evidence {evidence:.3g} of 1,000).",
            "Trust no comparison before you know the cause: units or calls of one arm are lost, or come more often.",
        )
    heavy = [
        (phase.phase, arm)
        for phase in arms.phases
        for arm in phase.variants
        if arm.heaviest > MOST_OF_ONE_UNIT and round(arm.heaviest * arm.calls) >= _HEAVY_CALLS
    ]
    for name in dict.fromkeys(arm.variant for _, arm in heavy):
        phase, arm = max((each for each in heavy if each[1].variant == name), key=lambda each: each[1].heaviest)
        yield Finding(
            "warning",
            "rollout.heavy_unit",
            f"The heaviest unit makes {percent(arm.heaviest)} of the {several(arm.calls, 'call')} of {quoted(name)} of "
            f"{quoted(key)} in phase {quoted(phase)}: its means are mostly those of that unit.",
            "Give anonymous calls and bots no unit, so that the control answers them and they are not analysed.",
        )


def _of(arms: RolloutReport) -> str:
    """Which of the sets of a rollout it is, where there are several."""
    return f" (fingerprint {plain(arms.fingerprint or 'unknown', 20)})" if arms.others else ""


def _runs(key: str, rollout: Operated) -> Iterator[Finding]:
    for name, ran in rollout.sums.ran.items():
        failed = ran.errors.total()
        if not failed:
            continue
        is_control = name == rollout.control
        share = failed / max(ran.runs, failed)
        yield Finding(
            "note" if is_control or share < _SOME else "warning",
            "rollout.control_fails" if is_control else "rollout.candidate_fails",
            f"{'The control' if is_control else 'Candidate'} {quoted(name)} of {quoted(key)} failed in {number(failed)} of "
            f"{several(ran.runs, 'run')} ({percent(share)}): {counts(ran.errors)}.",
            "Nothing to do for the rollout: callers got what the bare function gives."
            if is_control
            else "Fix the candidate, or abort the rollout: each failure costs its callers the time of both.",
        )


def _code(key: str, arms: RolloutReport) -> Iterator[Finding]:
    if arms.codes > 1:
        yield Finding(
            "note",
            "rollout.code",
            f"The calls of {several(arms.codes, 'form')} of the code of {quoted(key)}'s candidates are pooled{_of(arms)}: no "
            "version= tells them apart.",
            "Give each model that you try a version=; if they are one model, there is nothing to do.",
        )


def _withheld(key: str, arms: RolloutReport) -> Iterator[Finding]:
    for name in dict.fromkeys(arm.variant for phase in arms.phases for arm in phase.variants):
        withheld = sum(
            (Counter(arm.withheld) for phase in arms.phases for arm in phase.variants if arm.variant == name), Counter()
        )
        if withheld:
            yield Finding(
                "note",
                "rollout.withheld",
                f"{quoted(name)} of {quoted(key)}{_of(arms)} was assigned but not run in {several(withheld.total(), 'call')}: "
                f"{counts(withheld)}.",
                "Nothing to do for these calls: the control answered, and results count them for the candidate.",
            )


def _breakers(key: str, rollout: Operated) -> Iterator[Finding]:
    for name, breaker in rollout.sums.breakers.items():
        if not breaker.opened:
            continue
        whose = f"The circuit breaker of {quoted(name)} of {quoted(key)}"
        last = f"{number(breaker.failures)} of the last {number(breaker.runs)} runs failed"
        open_now, open_s = rollout.opened(breaker)
        if open_now and rollout.status in ("aborted", "rolled_back"):
            yield Finding(
                "note",
                "rollout.breaker_open",
                f"{whose} was open when the rollout was stopped: {last}.",
                "Nothing to do: without calls of the candidate, it stays open.",
            )
        elif open_now:
            yield Finding(
                "error",
                "rollout.breaker_open",
                f"{whose} is open in {several(open_now, 'process', 'processes')}: {last}, and it is not run.",
                "Fix the candidate, or abort the rollout; the breaker lets one run try again now and then.",
            )
        else:
            yield Finding(
                "warning",
                "rollout.breaker_opened",
                f"{whose} opened {several(breaker.opened, 'time')} and was open for {duration(open_s)}: {last}.",
                "Find out why the candidate failed before you raise its share.",
            )


def _shadows(key: str, arms: RolloutReport, sums: Operations) -> Iterator[Finding]:
    reports = [shadow for phase in arms.phases for shadow in phase.shadows]
    for name in dict.fromkeys(shadow.variant for shadow in reports):
        mine = [shadow for shadow in reports if shadow.variant == name]
        ends = sum((Counter(shadow.ends) for shadow in mine), Counter())
        errors = sum((Counter(shadow.errors) for shadow in mine), Counter())
        asked, planned = ends.total(), sum(shadow.planned for shadow in mine)
        bad = Counter({end: count for end, count in ends.items() if end != "ok"})
        if bad:
            ((most, _),) = bad.most_common(1)
            not_copied = sums.not_copied.get(name)
            why = f" ({counts(not_copied)})" if most == "dropped_snapshot" and not_copied else ""
            raised = f" ({counts(errors)})" if most in ("error", "dropped_open") and errors else ""
            lead = "most of them" if len(bad) > 1 else "all of them"
            # What an operator has stopped is missing on purpose.
            stopped = bad["dropped_aborted"]
            is_bad = bad.total() > stopped and bad.total() - stopped >= _MANY * (asked - stopped)
            yield Finding(
                "warning" if is_bad else "note",
                "rollout.shadows_incomplete",
                f"{number(bad.total())} of {several(asked, 'shadow run')} of {quoted(name)} "
                f"of {quoted(key)}{_of(arms)} did not succeed, {lead} {quoted(most)}{why}{raised}.",
                SHADOW_CURES.get(most, "Look at what this end means in the newest version of rollout_sdk."),
            )
        missing = planned - asked
        if missing > 0 and missing > _SOME * planned:
            yield Finding(
                "note",
                "rollout.shadows_unaccounted",
                f"No end is recorded of {several(missing, 'shadow run')} of {quoted(name)} of {quoted(key)}{_of(arms)}: "
                "they are still running, lost, or killed.",
                "Nothing to do, unless there are many: then look for processes that are killed.",
            )
