"""Findings about the rollouts in a journal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rollout_sdk.doctor.diagnosis import Diagnosis, completeness
from rollout_sdk.doctor.findings import Finding, worst
from rollout_sdk.doctor.sums import RolloutSums, VariantSums
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
    "error": "Look in the application's log or traces for what the candidate raises, and mend it.",
    "timeout": "Make the candidate faster, or raise timeout_s of ShadowLimits.",
    "cancelled": "Keep the event loop running until shadows have ended; a loop that closes takes them with it.",
    "abandoned": "Raise exit_deadline_s of the Runtime: processes ended before their shadows did.",
    "dropped_full": "Lower the rate of Shadow, or raise workers and cpu_share (for coroutines max_tasks) of ShadowLimits.",
    "dropped_too_large": "Lower the rate of Shadow, or raise max_bytes of ShadowLimits: what is copied is too large.",
    "dropped_stale": "Lower the rate of Shadow, or raise workers and cpu_share of ShadowLimits: runs wait too long.",
    "dropped_snapshot": "Pass isolate= with a function that copies arguments, or isolate='none' if no variant changes them.",
    "unmeasured": "Have the candidate return the answer itself, a coroutine, or a stream.",
    "dropped_start": "Raise the limit of threads (ulimit -u, pids.max), and call coroutine functions on an event loop.",
    "dropped_closed": "Nothing to do when processes end often; else close the Runtime only at the end.",
    "dropped_open": "Mend the candidate: it fails so often that its circuit breaker is open.",
    "dropped_aborted": "Nothing to do: somebody aborted the rollout, or switched candidates off.",
}
"""What to do about each way in which a shadow run does not come back well."""


def about(seen: Diagnosis) -> Iterator[Finding]:
    """The findings; one that all is well where nothing is wrong."""
    if seen.journal is None or not seen.journal.rollouts:
        return
    found = []
    for key, rollout in seen.journal.rollouts.items():
        found += [*_standing(key, rollout), *_calls(key, rollout), *_units(key, rollout)]
        for name, variant in rollout.variants.items():
            found += [
                *_failures(key, rollout, name, variant),
                *_breaker(key, rollout, name, variant),
                *_shadows(key, name, variant),
            ]
    yield from found
    if worst(found) in ("ok", "note"):
        count = len(seen.journal.rollouts)
        what = f"No candidate fails often, and shadows come back ({several(count, 'rollout')})."
        yield Finding("ok", "rollouts.ok", what, "Nothing to do.")


def _standing(key: str, rollout: RolloutSums) -> Iterator[Finding]:
    name = quoted(key)
    if len(rollout.standings) > 1:
        places = [f"{plain(status, 20)} in {plain(phase, 30)}: {count}" for (status, phase), count in rollout.standings.items()]
        yield Finding(
            "warning",
            "rollout.processes_differ",
            f"The processes of {name} stand in different places ({'; '.join(places[:4])}): each has a state of its own.",
            "Steer them all by one control file, ROLLOUT_CONTROL, and start again those that lag behind.",
        )
    yield from _fingerprints(name, rollout)
    if rollout.status == "aborted":
        yield Finding(
            "note", "rollout.aborted", f"{name} is aborted: everybody gets the control.", "Remove the candidate from the code."
        )
    elif rollout.status == "paused":
        yield Finding(
            "note", "rollout.paused", f"{name} is paused: its shares stay as they are.", "Resume it, or abort it, when decided."
        )
    elif rollout.status == "promoted":
        yield Finding(
            "note",
            "rollout.promoted",
            f"{name} is promoted: everybody gets the candidate.",
            "Make the candidate the function itself, and remove the rollout.",
        )


def _fingerprints(name: str, rollout: RolloutSums) -> Iterator[Finding]:
    living = {fingerprint: sums for fingerprint, sums in rollout.fingerprints.items() if sums.processes}
    if len(living) < 2:
        return
    said = [
        f"{plain(fingerprint, 20)}{f' (version {plain(sums.version, 30)})' if sums.version else ''}: {number(sums.processes)}"
        for fingerprint, sums in living.items()
    ]
    first, *rest = (sums.made_of for sums in living.values())
    parts = [part for part in first if any(part in each and each[part] != first[part] for each in rest)]
    what = f" They differ in: {', '.join(plain(part, 30).replace('_', ' ') for part in parts[:6])}." if parts else ""
    yield Finding(
        "warning",
        "rollout.fingerprints",
        f"The processes of {name} have different fingerprints ({'; '.join(said[:4])}), so that their calls are never pooled."
        f"{what}",
        "Wait for a deployment to end; else give all processes the same code, settings and ROLLOUT_KEY.",
    )


def _calls(key: str, rollout: RolloutSums) -> Iterator[Finding]:
    name = quoted(key)
    if failed := rollout.excluded.get("error", 0):
        yield Finding(
            "warning",
            "rollout.strategy_failed",
            f"The strategy of {name} failed in {several(failed, 'call')}, answered by the control and not analysed.",
            "Mend the strategy or its plugin; the application's log says what it raises.",
        )
    without = rollout.excluded.get("no_unit", 0)
    if without and without / rollout.calls >= _NO_UNIT:
        yield Finding(
            "warning",
            "rollout.no_unit",
            f"{number(without)} of {several(rollout.calls, 'call')} of {name} have no unit: the control answers them.",
            "Pass a unit with these calls, or say missing_unit='random' if each call may be a unit of its own.",
        )
    elif without:
        yield Finding(
            "note",
            "rollout.no_unit",
            f"{number(without)} of {several(rollout.calls, 'call')} of {name} have no unit.",
            "Nothing to do as long as they stay few.",
        )
    if once := rollout.excluded.get("one_shot", 0):
        yield Finding(
            "note",
            "rollout.one_shot",
            f"{number(once)} of {several(rollout.calls, 'call')} of {name} have an argument that can be read only once.",
            "The control answers these calls; pass a list instead of a generator or a file where they should take part.",
        )


def _units(key: str, rollout: RolloutSums) -> Iterator[Finding]:
    arrived = rollout.arrived()
    if arrived.is_mismatch and arrived.log_e is not None:
        yield Finding(
            "error",
            "rollout.shares",
            f"Sample ratio mismatch in {quoted(key)}: {several(arrived.units, 'unit')} are not in the arms in the configured "
            f"shares (evidence {math.exp(min(arrived.log_e, _LARGEST_EXPONENT)):.3g} of 1,000).",
            "Compare nothing before the cause is found: units or calls of one arm that are lost, or that come more often.",
        )
    for name in rollout.variants:
        most, calls = rollout.units.heaviest(name)
        if most >= _HEAVY_CALLS and most > MOST_OF_ONE_UNIT * calls:
            yield Finding(
                "warning",
                "rollout.heavy_unit",
                f"The heaviest unit makes {percent(most / calls)} of the {several(calls, 'call')} of {quoted(name)} of "
                f"{quoted(key)}: its means are mostly those of that unit.",
                "Give anonymous calls and bots no unit, so that the control answers them and they are not analysed.",
            )


def _failures(key: str, rollout: RolloutSums, name: str, variant: VariantSums) -> Iterator[Finding]:
    failed = sum(variant.errors.values())
    if failed:
        is_control = name == rollout.control
        share = failed / max(variant.runs, failed)
        yield Finding(
            "note" if is_control or share < _SOME else "warning",
            "rollout.control_fails" if is_control else "rollout.candidate_fails",
            f"{'The control' if is_control else 'Candidate'} {quoted(name)} of {quoted(key)} failed in {number(failed)} of "
            f"{several(variant.runs, 'run')} ({percent(share)}): {counts(variant.errors)}.",
            "That is the application's own matter: callers got what the bare function gives."
            if is_control
            else "Mend the candidate, or abort the rollout: each failure costs its callers the time of both.",
        )
    if variant.withheld:
        count = sum(variant.withheld.values())
        yield Finding(
            "note",
            "rollout.withheld",
            f"{quoted(name)} of {quoted(key)} was assigned, not run, in {several(count, 'call')}: {counts(variant.withheld)}.",
            "Nothing to do for these calls: the control answered, and results count them for the candidate.",
        )


def _breaker(key: str, rollout: RolloutSums, name: str, variant: VariantSums) -> Iterator[Finding]:
    breaker = variant.breaker
    if breaker is None or not breaker.opened:
        return
    whose = f"The circuit breaker of {quoted(name)} of {quoted(key)}"
    last = f"{number(breaker.failures)} of the last {number(breaker.runs)} runs failed"
    if breaker.open_now and rollout.status in ("aborted", "rolled_back"):
        yield Finding(
            "note",
            "rollout.breaker_open",
            f"{whose} was open when the rollout was stopped: {last}.",
            "Nothing to do: without calls of the candidate, it stays open.",
        )
    elif breaker.open_now:
        yield Finding(
            "error",
            "rollout.breaker_open",
            f"{whose} is open in {several(breaker.open_now, 'process', 'processes')}: {last}, and it is not run.",
            "Mend the candidate, or abort the rollout; the breaker lets one run try again now and then.",
        )
    else:
        yield Finding(
            "warning",
            "rollout.breaker_opened",
            f"{whose} opened {several(breaker.opened, 'time')} and was open for {duration(breaker.open_s)}: {last}.",
            "Find out what the candidate could not cope with then, before its share is raised.",
        )


def _shadows(key: str, name: str, variant: VariantSums) -> Iterator[Finding]:
    complete = completeness(variant)
    if complete is not None and complete < 1:
        ends = {end: count for end, count in variant.ends.items() if end != "ok"}
        most = max(ends, key=lambda end: ends[end])
        why = f" ({counts(variant.not_copied)})" if most == "dropped_snapshot" and variant.not_copied else ""
        errors = f" ({counts(variant.shadow_errors)})" if most in ("error", "dropped_open") and variant.shadow_errors else ""
        lead = "most of them" if len(ends) > 1 else "all of them"
        # What an operator has stopped is missing on purpose.
        stopped = ends.get("dropped_aborted", 0)
        bad, asked = sum(ends.values()) - stopped, sum(variant.ends.values()) - stopped
        yield Finding(
            "warning" if bad and bad >= _MANY * asked else "note",
            "rollout.shadows_incomplete",
            f"{number(sum(ends.values()))} of {several(sum(variant.ends.values()), 'shadow run')} of {quoted(name)} "
            f"of {quoted(key)} did not end well, {lead} {quoted(most)}{why}{errors}.",
            SHADOW_CURES.get(most, "Look at what this end means in the newest version of rollout_sdk."),
        )
    missing = variant.planned - sum(variant.ends.values())
    if missing > 0 and missing > _SOME * variant.planned:
        yield Finding(
            "note",
            "rollout.shadows_unaccounted",
            f"Of {several(missing, 'shadow run')} of {quoted(name)} of {quoted(key)} no end is known: under way, lost, killed.",
            "Nothing to do, unless they stay many: then look for processes that are killed instead of ended.",
        )
