"""What makes the numbers of a report doubtful, in sentences of 80 columns: broken shares, one heavy unit, missing labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from rollout_sdk.analysis.phase_report import PhaseReport, ShadowReport, VariantReport
from rollout_sdk.analysis.report import CrossedReport, OtherSet, SharesReport
from rollout_sdk.formatting import number, percent, plain, several
from rollout_sdk.judging.pairs import UNDER_LOAD, cure_of
from rollout_sdk.stats import MIN_EFFECTIVE_UNITS, MOST_OF_ONE_UNIT

__all__ = [
    "about_completeness",
    "about_crossed",
    "about_kept",
    "about_labels",
    "about_missing",
    "about_others",
    "about_repeated",
    "about_sampled",
    "about_shares",
    "about_units",
]

_WIDTH = 80
_LARGEST_EXPONENT = 200.0
_NAME = 30
_MOST_NAMED = 3
_COMPLETE = 0.95


def _lines(text: str, indent: int) -> list[str]:
    return wrap(
        text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_on_hyphens=False
    )  # fmt: skip


def about_missing(missing: Sequence[str]) -> Iterator[str]:
    """Numbered parts of a process that are missing."""
    if missing:
        some = ", ".join(plain(name, _WIDTH) for name in missing[:_MOST_NAMED])
        more = f" and {number(len(missing) - _MOST_NAMED)} more" if len(missing) > _MOST_NAMED else ""
        text = (
            f"missing: {several(len(missing), 'part')} of the journal, moved away or deleted: {some}{more}. Results are of the "
            "other parts only. Put them back, as they were or compressed (.jsonl.gz)."
        )
        yield from _lines(text, 2)


def about_repeated(repeated: int) -> Iterator[str]:
    """Lines that are there twice."""
    if repeated:
        yield from _lines(f"there twice, and counted once: {several(repeated, 'line')}, of files that were copied", 2)


def about_sampled(lost: int, sampled: int) -> Iterator[str]:
    """Facts that were not kept, but have others that stand for them."""
    if sampled:
        text = (
            f"{number(sampled)} of them were of calls that were not drawn under overload: whole calls, by a hash of their ids, "
            f"in every arm alike. Those that were drawn stand for them; nothing stands for the other {number(lost - sampled)}."
        )
        yield from _lines(text, 4)


def about_kept(phase: PhaseReport) -> Iterator[str]:
    """Arms some of whose calls stand for others."""
    some = [variant for variant in phase.variants if variant.kept != variant.calls]
    if some:
        kept = ", ".join(f"{plain(each.variant, _NAME)} {number(each.kept)} for {number(each.calls)}" for each in some)
        text = f"calls drawn under overload: {kept}; counts of calls, runs and outcomes are estimates, units are those seen"
        yield from _lines(text, 4)


def about_shares(shares: SharesReport) -> Iterator[str]:
    """Whether units are in the arms as configured."""
    if shares.log_e is None or shares.highest_log_e is None:
        yield "  shares: not checked, because no two variants have a configured share"
        return
    log_e = shares.highest_log_e if shares.is_mismatch else shares.log_e
    evidence = f"evidence {math.exp(min(log_e, _LARGEST_EXPONENT)):.3g} of {math.exp(shares.needed):,.0f}"
    if shares.is_mismatch:
        text = (
            f"shares: sample ratio mismatch ({evidence}): units are not in the arms in the configured shares. The arms cannot "
            "be compared, and no intervals are given, until the cause is found: units or calls of one arm that are lost, or "
            "that come more often."
        )
        yield from _lines(text, 2)
    else:
        yield from _lines(f"shares: as configured, as far as the units can tell ({evidence})", 2)
    for phase in shares.phases:
        units, whole = sum(phase.units.values()), math.fsum(phase.configured.values())
        arms = ", ".join(
            f"{plain(variant, _NAME)} {number(count)} ({percent(count / units if units else None)}, configured "
            f"{percent(phase.configured[variant] / whole)})"
            for variant, count in phase.units.items()
        )
        yield from _lines(f"{plain(phase.phase, _NAME)}: units first seen: {arms}", 4)


def about_others(others: Iterable[OtherSet]) -> Iterator[str]:
    """Calls with other fingerprints, how they differ, and which units were in both."""
    for other in others:
        version = f"version {plain(other.version, _NAME)}, " if other.version else ""
        name = f"{version}fingerprint {plain(other.fingerprint or 'unknown', _NAME)}"
        what = ", ".join(plain(part, _NAME).replace("_", " ") for part in other.differs)
        differs = f"another {what.replace(', ', ', another ')}" if what else "an earlier SDK wrote one of the two"
        when = "at the same time" if other.at_once else "before it"
        yield from _lines(f"never pooled with {name} ({when}; {differs})", 2)
        if other.shared is None:
            text = (
                "which units were in both cannot be known: with another hash key or layer, each has another pseudonym, and "
                "another arm by chance. Give every process the same ROLLOUT_KEY."
            )
            yield from _lines(text, 4)
        elif other.shared:
            switched = f"{number(other.switched or 0)} of them with another variant"
            yield from _lines(f"{several(other.shared, 'unit')} were in both, {switched}", 4)


def about_crossed(crossed: CrossedReport) -> Iterator[str]:
    """Units in several arms."""
    if crossed.in_phase:
        text = (
            f"units in several arms: {number(crossed.in_phase)} of {several(crossed.units, 'unit')} had more than one variant "
            "in one phase, and count in each of these arms, which hides a difference. The strategy does not keep a unit's "
            "variant, or several users share an id."
        )
        yield from _lines(text, 2)
    if crossed.between_phases:
        moved = f"{number(crossed.between_phases)} of {several(crossed.units, 'unit')}"
        yield from _lines(f"{moved} had more than one variant, in different phases: their shares changed", 2)


def _is_narrow(variant: VariantReport) -> bool:
    return variant.effective_units < MIN_EFFECTIVE_UNITS or variant.heaviest > MOST_OF_ONE_UNIT


def about_units(phase: PhaseReport) -> Iterator[str]:
    """Arms whose calls are those of few units, or mostly of one."""
    for variant in filter(_is_narrow, phase.variants):
        name = plain(variant.variant, _NAME)
        weigh = f"its {several(variant.units, 'unit')} count for {variant.effective_units:.3g}"
        heavy = (
            f"the heaviest unit makes {percent(variant.heaviest)} of the calls, and {weigh}"
            if variant.heaviest > MOST_OF_ONE_UNIT
            else weigh
        )
        yield from _lines(f"few units in {name}: {heavy}; intervals want {MIN_EFFECTIVE_UNITS}", 4)


def about_completeness(shadow: ShadowReport) -> Iterator[str]:
    """Shadows of which too many are missing to speak for all calls."""
    if shadow.completeness is not None and shadow.completeness < _COMPLETE:
        lost = {end: number for end, number in shadow.ends.items() if end not in ("ok", "error")}
        end = max(lost, key=lambda each: lost[each], default=None)
        of = "quiet moments" if end in UNDER_LOAD else "the others only"
        most = "" if end is None else f", most of the others ended as {plain(end, _NAME)!r}"
        text = (
            f"less than {_COMPLETE * 100:.0f} % of the shadows of {plain(shadow.variant, _NAME)} came back{most}, so that "
            f"agreement and latency speak of {of}: {cure_of(end)}."
        )
        yield from _lines(text, 4)


def about_labels(phase: PhaseReport) -> Iterator[str]:
    """How often metrics are recorded, and where that differs."""
    for label in phase.labels:
        name = plain(label.metric, _NAME)
        rates = ", ".join(f"{plain(variant, _NAME)} {percent(rate)}" for variant, rate in label.rates.items())
        yield from _lines(f"units with {name}: {rates}", 4)
        if label.differs:
            text = (
                f"labels missing: {name} is surely recorded more often in one arm than in another, so that its means per "
                "outcome are of units that were selected differently. Find out why before you compare them."
            )
            yield from _lines(text, 4)
