"""The sets of arms of one rollout, one for each fingerprint: how they differ, and which units were in several arms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from rollout_sdk.analysis.arms import Gathered
from rollout_sdk.analysis.report import CrossedReport, OtherSet

__all__ = ["began_s", "beside_of", "crossed", "differing", "others"]

_PSEUDONYM = 16
"""Length of a unit's pseudonym; what is longer is the id of a call that is its own unit, and is in one arm only."""


def began_s(gathered: Gathered) -> float:
    """Time of its first call; infinite without one."""
    return min((first for first, _ in gathered.spans.values()), default=math.inf)


def _ended_s(gathered: Gathered) -> float:
    return max((last for _, last in gathered.spans.values()), default=-math.inf)


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the parts in which two fingerprints differ; none where an earlier SDK did not write what they are made of."""
    if not one or not other:
        return ()
    different = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    # Where only one of them tells its code, that of the other is not known: an earlier SDK wrote it, or it has a version.
    return tuple(name for name in different if name != "code" or (name in one and name in other))


def _seen(gathered: Gathered) -> Iterable[tuple[str, str, Iterable[str]]]:
    """Phase, variant and units of every arm."""
    for (phase, variant), arm in gathered.arms.items():
        yield phase, variant, (unit for unit in arm.units if len(unit) <= _PSEUDONYM)


def _where(gathered: Gathered) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """The arms, and for each unit those that it was in: bit i is the arm at position i."""
    arms: list[tuple[str, str]] = []
    masks: dict[str, int] = {}
    for phase, variant, units in _seen(gathered):
        bit = 1 << len(arms)
        arms.append((phase, variant))
        for unit in units:
            masks[unit] = masks.get(unit, 0) | bit
    return arms, masks


def crossed(gathered: Gathered) -> CrossedReport:
    """The units of one set that were in several of its arms."""
    if gathered.crossing is not None:
        return gathered.crossing
    arms, masks = _where(gathered)
    units = in_phase = between = 0
    for mask, number in Counter(masks.values()).items():
        units += number
        were_in = [arm for index, arm in enumerate(arms) if mask >> index & 1]
        if max(Counter(phase for phase, _ in were_in).values()) > 1:
            in_phase += number
        elif len({variant for _, variant in were_in}) > 1:
            between += number
    return CrossedReport(units, in_phase, between)


def others(mine: str, sets: Mapping[str, Gathered]) -> tuple[OtherSet, ...]:
    """The sets of the same rollout that stand beside one: the one before it, and those that were there at the same time.

    Args:
        mine: Fingerprint of the set.
        sets: All sets of the rollout, by fingerprint.
    """
    here, beside = sets[mine], beside_of(mine, sets)
    variants = _variants(here) if beside and here.shared is None else {}
    return tuple(_other(name, sets[name], here, variants, at_once=at_once) for name, at_once in beside.items())


def beside_of(mine: str, sets: Mapping[str, Gathered]) -> dict[str, bool]:
    """The fingerprints of the sets of a rollout that stand beside one, and whether they were there at the same time."""
    here = sets[mine]
    order = sorted((name for name in sets if sets[name].spans), key=lambda name: began_s(sets[name]))
    if mine not in order:
        return {}
    before = order[: order.index(mine)][-1:]
    meeting = {name for name in order if name != mine and _meet(here, sets[name])}
    return {name: name in meeting for name in order if name in before or name in meeting}


def _meet(one: Gathered, other: Gathered) -> bool:
    return began_s(one) <= _ended_s(other) and began_s(other) <= _ended_s(one)


def _overlap(here: Gathered, there: Gathered) -> float:
    """Share of a set's time in which the other had calls, too."""
    lasted_s = _ended_s(here) - began_s(here)
    both_s = min(_ended_s(here), _ended_s(there)) - max(began_s(here), began_s(there))
    return min(1.0, max(0.0, both_s / lasted_s)) if lasted_s > 0 else 1.0


def _variants(gathered: Gathered) -> dict[str, frozenset[str]]:
    """Which variants every unit had."""
    arms, masks = _where(gathered)
    had: dict[int, frozenset[str]] = {}
    for mask in set(masks.values()):
        had[mask] = frozenset(variant for index, (_, variant) in enumerate(arms) if mask >> index & 1)
    return {unit: had[mask] for unit, mask in masks.items()}


def _hashed_by(gathered: Gathered) -> tuple[object, object]:
    """What pseudonyms of units depend on, beside the rollout: hash key, and layer."""
    layer = gathered.made_of.get("layer")
    return gathered.made_of.get("hash_key"), layer[0] if isinstance(layer, list) and layer else None


def _other(name: str, there: Gathered, here: Gathered, variants: Mapping[str, frozenset[str]], *, at_once: bool) -> OtherSet:
    differs = differing(here.made_of, there.made_of)
    matched = _hashed_by(here) == _hashed_by(there)
    if here.shared is not None:
        shared, switched = here.shared.get(name, (0, 0))
    else:
        theirs = _variants(there) if matched else {}
        both = [unit for unit in theirs if unit in variants]
        shared, switched = len(both), sum(len(variants[unit] | theirs[unit]) > 1 for unit in both)
    return OtherSet(
        fingerprint=name,
        version=there.version,
        differs=differs,
        at_once=at_once,
        overlap=_overlap(here, there) if at_once else 0.0,
        shared=shared if matched else None,
        switched=switched if matched else None,
    )
