"""How many bytes the answers keep alive that wait for a judge."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from sys import getsizeof
from typing import Any

from rollout_sdk.engine.copies.containers import Fields, own_attributes
from rollout_sdk.engine.copies.kinds import PLAIN, Kind
from rollout_sdk.engine.copies.survey import MOST_PARTS
from rollout_sdk.engine.copies.types import kind_of_type
from rollout_sdk.resilience.interruptions import is_fault

__all__ = ["bytes_of"]

_COLLECTIONS = (list, tuple, set, frozenset, deque)


def bytes_of(values: Iterable[Any], most: int) -> int:
    """Return the bytes of values and of their parts, as far as their types tell; `most` + 1 if there are more, or unknown.

    Unknown is the size of values with more than 20,000 containers and objects in them, and of those that cannot be read.
    """
    try:
        return _counted(values, most)
    except BaseException as error:
        if not is_fault(error):
            raise
        return most + 1


def _counted(values: Iterable[Any], most: int) -> int:
    size, waiting, seen = 0, list(values), set[int]()
    while waiting:
        value = waiting.pop()
        if type(value) in PLAIN:
            size += getsizeof(value)
        elif id(value) not in seen:
            seen.add(id(value))
            kind = kind_of_type(type(value))
            size += kind.weight(value)[1] or getsizeof(value, 64)
            parts = _parts(value, kind)
            if PLAIN.issuperset(map(type, parts)):
                size += sum(map(getsizeof, parts))
            else:
                waiting.extend(parts)
        if size > most or len(seen) > MOST_PARTS:
            return most + 1
    return size


def _parts(value: Any, kind: Kind) -> Collection[Any]:
    """Return the parts of a value, the immutable ones included."""
    # By the type alone, so that lazy objects stay unevaluated.
    if issubclass(type(value), dict):
        return (*dict.keys(value), *dict.values(value), *own_attributes(value).values())
    if issubclass(type(value), _COLLECTIONS):
        return (*value, *own_attributes(value).values())
    # Clients and sessions belong to the process, and do not wait for the judge.
    return () if isinstance(kind, Fields) and kind.is_service(value) else tuple(kind.children(value))
