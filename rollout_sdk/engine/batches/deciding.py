"""Decides the rows of a batch: by columns where the strategy only splits units, else one by one."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from rollout_sdk.assignment import Phase, canonical
from rollout_sdk.concurrency.forking import fresh_bits, fresh_random
from rollout_sdk.control.state import RolloutState
from rollout_sdk.engine.batches.decided_rows import DecidedRows
from rollout_sdk.engine.call import Call, Row
from rollout_sdk.engine.context import in_shadow
from rollout_sdk.engine.routing import Router
from rollout_sdk.records import Decision

__all__ = ["decide_by_columns", "decide_one_by_one"]


def _like(call: Call, row: Row) -> Call:
    """Return a row of a call, not yet decided."""
    made = Call.__new__(Call)
    vars(made).update(vars(call))
    made.row = row
    return made


def decide_one_by_one(
    call: Call, units: Sequence[Any], row: Row, decide: Callable[[Call, Any], Call], router: Router
) -> DecidedRows:
    """Decide each row as a call of its own.

    Args:
        call: The whole call.
        units: The unit of each row.
        row: Builds the arguments of a row.
        decide: Decides a call with a unit.
        router: The router.
    """
    numbers: dict[tuple[object, ...], int] = {}
    kinds: list[Call] = []
    kind, digests = array("I"), array("Q")
    points, decided, survey = array("d"), array("d"), None
    sequences = call.rollout.nonces.take(len(units))
    for index, unit in enumerate(units):
        each = _like(call, row)
        # All rows have the same arguments, so one survey is enough.
        each.sequence, each.index, each.survey = sequences[index], index, survey
        decide(each, unit)
        survey, each.survey = each.survey, None
        number = numbers.setdefault((id(each.decision), each.has_unit, each.observed), len(kinds))
        if number == len(kinds):
            # Kept here, and so is its decision: no other gets the same `id`.
            kinds.append(each)
        kind.append(number)
        digests.append(each.digest)
        points.append(each.point)
        if each.decided_s is not None:
            decided.append(each.decided_s)
    made = DecidedRows(kinds, kind, digests, sequences)
    made.points = points
    made.decided = decided if len(decided) == len(units) else None
    made.said_units = list(units) if router.keeps_unit else None
    return made


def decide_by_columns(call: Call, units: Sequence[Any], row: Row, router: Router, state: RolloutState) -> DecidedRows | None:
    """Decide all rows at once, and each distinct unit only once: as `decide_one_by_one`, in a fraction of the time.

    Returns:
        The rows; None if they have to be decided one by one, for instance because the strategy does more than split units.
    """
    phase, rollout = state.phase, call.rollout
    if not router.has_no_rules or router.shadow_share is None or rollout.clocked:
        return None
    if state.stopped or in_shadow.get() is not False:
        return None
    shadow, decisions, shadowed = router.shadow_share(phase), phase.split.decisions, phase.split.shadowed
    if not all(map(router.accepts, (*decisions, *shadowed))) or (shadow and router.effects != "read"):
        return None
    raws, codes = _distinct(units, router, call)
    known = [raw for raw in raws if raw is not None]
    is_missing = len(known) < len(raws)
    if is_missing and router.unit is not None and router.missing_unit == "raise":
        return None
    kinds, sequences = _Kinds(call, row, router, phase), rollout.nonces.take(len(units))
    bounds = [low << 32 for low in phase.split.bounds]
    digests = router.hash.each(known)
    if is_missing:
        found = iter(digests)
        digests = [0 if raw is None else next(found) for raw in raws]
    arms = [bisect_right(bounds, digest) for digest in digests]
    if not is_missing and not shadow:
        number_of = {arm: kinds.number(decisions[arm], has_unit=True) for arm in dict.fromkeys(arms)}
        numbers = list(map(number_of.__getitem__, arms))
        kind = array("I", numbers if codes is None else map(numbers.__getitem__, codes))
        return DecidedRows(kinds.kinds, kind, array("Q", digests), sequences, codes)
    no_unit = router.fixed("no_unit") if router.unit is not None and router.missing_unit == "control" else None
    kind, digest = array("I"), array("Q")
    for code in range(len(units)) if codes is None else codes:
        own, arm, has_unit = digests[code], arms[code], raws[code] is not None
        if not has_unit:
            # Each row without a unit is a unit of its own.
            own = fresh_bits()
            arm = bisect_right(bounds, own)
        chosen = decisions[arm]
        if not has_unit and no_unit is not None:
            chosen = no_unit
        elif shadow and fresh_random() < shadow:
            chosen = shadowed[arm]
        kind.append(kinds.number(chosen, has_unit=has_unit))
        digest.append(own)
    return DecidedRows(kinds.kinds, kind, digest, sequences)


def _distinct(units: Sequence[Any], router: Router, call: Call) -> tuple[list[bytes | None], list[int] | None]:
    """Return the canonical bytes of each distinct unit, and the position among them for each row; None if all rows differ."""
    places: defaultdict[Any, int] = defaultdict(count().__next__)
    codes = list(map(places.__getitem__, units))
    types = dict.fromkeys(map(type, places))
    if len(types) == 1 and (str in types or (int in types and set(map(type, units)) == {int})):
        raws = list(map(canonical, places))
    else:
        # Units that are equal need not be one: True is not 1, and NaN is missing.
        places = defaultdict(count().__next__)
        codes = list(map(places.__getitem__, map(canonical, units)))
        types, raws = dict.fromkeys(map(type, units)), list(places)
    for each in types:
        if each is not router.unit_type:
            unit = next((unit for unit in units if type(unit) is each and canonical(unit) is not None), None)
            if unit is not None:
                router.meet(unit, call.rollout.note)
    return raws, None if len(places) == len(units) else codes


class _Kinds:
    """The kinds of the rows of a batch, numbered in the order in which they come."""

    def __init__(self, call: Call, row: Row, router: Router, phase: Phase) -> None:
        self.kinds: list[Call] = []
        self._router = router
        self._numbers: dict[tuple[int, bool], int] = {}
        self._row = row
        self._like = _like(call, row)
        self._like.phase = phase

    def number(self, decision: Decision, *, has_unit: bool) -> int:
        """Return the number of the kind of rows with this decision, which lives as long as the phase."""
        number = self._numbers.get((id(decision), has_unit))
        if number is None:
            number = self._numbers[id(decision), has_unit] = len(self.kinds)
            made = _like(self._like, self._row)
            looks = self._router.looks_at(decision)
            made.decision = self._router.looked_at(self._like, decision) if looks else decision
            made.has_unit, made.survey = has_unit, None
            self.kinds.append(made)
        return number
