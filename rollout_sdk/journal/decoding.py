"""How a line of a journal is decoded and checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rollout_sdk.journal.schema import FIELDS, MOST, SCHEMA

__all__ = ["decisions_of", "decoded", "why_skipped"]


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


_decoder = json.JSONDecoder(parse_constant=_refused)
_scan = _decoder.scan_once  # type: ignore[attr-defined]  # documented nowhere, and there since Python 2.6
_REQUIRED = {event: frozenset(name for name, field in fields.items() if field.required) for event, fields in FIELDS.items()}
_Checks = tuple[tuple[str, Callable[[Any], bool]], ...]
_Shape = tuple[tuple[str, ...], _Checks, tuple[str, ...], bool] | None
_MOST_SHAPES, _LONGEST_SHAPE = 1_000, 1_000
_shapes: dict[str, dict[tuple[tuple[str, ...], tuple[type, ...]], _Shape]] = {event: {} for event in FIELDS}
"""How the fields of a line are checked, by their names and the classes of their values: almost all lines of an event have
one of a few sets of them, and most values need no check besides that of their class.

A shape holds the names of those that are numbers, the checks of the others, the fields that are null, and whether none of these
is required; it is None where a required field is missing.
"""


def decoded(line: bytes) -> Any:
    """The value of a line; None where it is not JSON."""
    try:
        text = line.decode()
        # As the SDK writes them: what decode() adds for the others costs a tenth of the reading.
        if text[:1] == "{" and text[-2:] == "}\n":
            value, end = _scan(text, 0)
            if end == len(text) - 1:
                return value
        return _decoder.decode(text)
    except (StopIteration, ValueError, RecursionError):
        return None


def why_skipped(record: Any) -> str | None:
    """Why a line is passed over, or None; takes out fields that are null."""
    if record.__class__ is not dict:
        return "damaged"
    version, event = record.get("v", SCHEMA), record.get("event")
    if not isinstance(version, int):
        return "damaged"
    if version > SCHEMA:
        return "schema"
    if event.__class__ is not str:
        return "damaged"
    shapes = _shapes.get(event)
    return "unknown event" if shapes is None else _fault_in_fields(record, event, shapes)


def _fault_in_fields(
    record: dict[str, Any], event: str, shapes: dict[tuple[tuple[str, ...], tuple[type, ...]], _Shape]
) -> str | None:
    which = tuple(record), tuple(map(type, record.values()))
    try:
        shape = shapes[which]
    except KeyError:
        shape = _shape_of(event, *which)
        if len(shapes) < _MOST_SHAPES and sum(map(len, which[0])) <= _LONGEST_SHAPE:
            shapes[which] = shape
    if shape is None:
        return "damaged"
    numbers, checks, nulls, is_complete = shape
    for name in numbers:
        if not -MOST <= record[name] <= MOST:
            return "damaged"
    for name, holds in checks:
        if not holds(record[name]):
            return "damaged"
    # Null means the same as a missing field; readers need to know only one of the two.
    for name in nulls:
        del record[name]
    return None if is_complete else "damaged"


def _shape_of(event: str, names: tuple[str, ...], classes: tuple[type, ...]) -> _Shape:
    if not _REQUIRED[event] <= set(names):
        return None
    fields = FIELDS[event]
    # Fields that the schema does not know are as they are.
    known = [(name, fields[name], kind) for name, kind in zip(names, classes, strict=True) if name in fields]
    nulls = tuple(name for name, _, kind in known if kind is type(None))
    numbers = tuple(name for name, field, kind in known if kind in field.numbers)
    checks = tuple(
        (name, field.holds) for name, field, kind in known if name not in (*nulls, *numbers) and kind is not field.plain
    )
    return numbers, checks, nulls, _REQUIRED[event].isdisjoint(nulls)


def decisions_of(record: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The decisions that a line of rows stands for; None when it is damaged."""
    like, kinds, ids, buckets = record["like"], record["kind"], record["ids"], record["buckets"]
    count = len(kinds)
    units, covs = record.get("units", [None] * count), record.get("covs", [None] * count)
    if not len(ids) == len(buckets) == len(units) == len(covs) == count or not all(map(_is_decision, like)):
        return None
    if count and not (min(kinds) >= 0 and max(kinds) < len(like)):
        return None
    for each in like:
        each.pop("unit", None)
        each.pop("cov", None)
    rows = []
    for kind, id_, bucket, unit, cov in zip(kinds, ids, buckets, units, covs, strict=True):
        row = {**like[kind], "id": id_, "bucket": bucket}
        if unit is not None:
            row["unit"] = unit
        if cov is not None:
            row["cov"] = cov
        rows.append(row)
    return rows


def _is_decision(record: Any) -> bool:
    return why_skipped(record) is None and record["event"] == "decision"
