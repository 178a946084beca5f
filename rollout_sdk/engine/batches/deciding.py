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
from rollout_sdk.engine.batches.decided_rows import MOST_IN_A_BYTE, DecidedRows
from rollout_sdk.engine.call import Call, Row
from rollout_sdk.engine.context import in_shadow
from rollout_sdk.engine.routing import Router
from rollout_sdk.records import Decision

__all__ = ["decide_by_columns", "decide_one_by_one"]

_SAMPLE = 256
"""Rows that say whether most units of a batch differ."""


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
    digests, codes = _distinct(units, router, call)
    is_missing = not isinstance(digests, array)
    if is_missing and router.unit is not None and router.missing_unit == "raise":
        return None
    kinds, sequences = _Kinds(call, row, router, phase), rollout.nonces.take(len(units))
    bounds = [low << 32 for low in phase.split.bounds]
    if isinstance(digests, array) and not shadow and len(decisions) <= MOST_IN_A_BYTE:
        # One comparison for each digest, where there is one bound: as `bisect_right`.
        ways = map(bounds[0].__le__, digests) if len(bounds) == 1 else (bisect_right(bounds, digest) for digest in digests)
        arms = bytes(ways)
        numbers = bytearray(MOST_IN_A_BYTE)
        # In the order of their first rows.
        for arm in sorted(filter(arms.__contains__, range(len(decisions))), key=arms.find):
            numbers[arm] = kinds.number(decisions[arm], has_unit=True)
        own_kinds = list(arms.translate(numbers))
        kind = bytearray(own_kinds if codes is None else bytes([own_kinds[code] for code in codes]))
        return DecidedRows(kinds.kinds, kind, digests, sequences, codes)
    no_unit = router.fixed("no_unit") if router.unit is not None and router.missing_unit == "control" else None
    each_kind, digest = array("I"), array("Q")
    for code in range(len(units)) if codes is None else codes:
        own = digests[code]
        has_unit = own is not None
        # Each row without a unit is a unit of its own.
        digest.append(fresh_bits() if own is None else own)
        arm = bisect_right(bounds, digest[-1])
        chosen = decisions[arm]
        if not has_unit and no_unit is not None:
            chosen = no_unit
        elif shadow and fresh_random() < shadow:
            chosen = shadowed[arm]
        each_kind.append(kinds.number(chosen, has_unit=has_unit))
    return DecidedRows(kinds.kinds, each_kind, digest, sequences)


def _distinct(units: Sequence[Any], router: Router, call: Call) -> tuple[Sequence[int | None], list[int] | None]:
    """Return the digest of each distinct unit, and the position among them for each row; None if all rows differ.

    The digests are an array unless one is None, which is that of rows without a unit.
    """
    distinct, codes = _numbered(units)
    types, found = dict.fromkeys(map(type, distinct)), None
    if len(types) == 1 and (str in types or (int in types and set(map(type, units)) == {int})):
        found = router.hash.each_text(distinct) if str in types else None
        raws = list(map(canonical, distinct)) if found is None else []
    else:
        # Units that are equal need not be one: True is not 1, and NaN is missing.
        raws, codes = _numbered(list(map(canonical, units)))
        types = dict.fromkeys(map(type, units))
    for each in types:
        if each is not router.unit_type:
            unit = next((unit for unit in units if type(unit) is each and canonical(unit) is not None), None)
            if unit is not None:
                router.meet(unit, call.rollout.note)
    if found is None:
        found = router.hash.each(raw for raw in raws if raw is not None)
        if len(found) < len(raws):
            digests = iter(found)
            return [None if raw is None else next(digests) for raw in raws], codes
    return found, codes


def _numbered(units: Sequence[Any]) -> tuple[list[Any], list[int] | None]:
    """Return the distinct units in the order of their first rows, and the position of each row's; None if all rows differ."""
    some = units[:_SAMPLE]
    if len(set(some)) == len(some):
        # Most of them seem to differ. Then it takes half the time to collect them first, and to count them only if need be.
        distinct = list(dict.fromkeys(units))
        if len(distinct) == len(units):
            return distinct, None
        known = dict(zip(distinct, range(len(distinct)), strict=True))
        return distinct, list(map(known.__getitem__, units))
    places: defaultdict[Any, int] = defaultdict(count().__next__)
    codes = list(map(places.__getitem__, units))
    return list(places), codes


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
