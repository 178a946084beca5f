"""Outcomes: checking what is recorded, and attributing it by the decision's id or the unit."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any

from attrs import evolve

from rollout_sdk.assignment import UnitHash, bucket_of, canonical, pseudonym, pseudonyms
from rollout_sdk.exceptions import DecisionIdError, OutcomeError, UnknownItemError
from rollout_sdk.identity import DecodedId, decode_id, read_token
from rollout_sdk.plain import brief
from rollout_sdk.records import RecordedEvent

__all__ = ["by_decision", "by_token", "by_unit", "checked_value"]

_LONGEST_METRIC = 128


def checked_value(metric: object, value: object) -> float:
    """The value as a float, when metric and value are valid.

    Raises:
        OutcomeError: The metric is no printable text of up to 128 characters, or the value is no finite number.
    """
    if not (isinstance(metric, str) and 0 < len(metric) <= _LONGEST_METRIC and metric.isprintable()):
        raise OutcomeError(
            f"The metric is {brief(metric)}. A metric is a printable text of 1 to {_LONGEST_METRIC} characters. Write 'click'."
        )
    number = _number(value)
    if number is None:
        raise OutcomeError(
            f"The value of metric {brief(metric)} is {brief(value)}. An outcome is a finite number. "
            "Leave out what was not measured."
        )
    return number


def checked_time(metric: str, time_s: object) -> float:
    """The time as a float, when it is one.

    Raises:
        OutcomeError: It is no finite number.
    """
    number = _number(time_s)
    if number is None:
        raise OutcomeError(
            f"The time of metric {brief(metric)} is {brief(time_s)}. It is a number of seconds since 1970. "
            "Pass time.time() or datetime.timestamp(), or leave time_s= out."
        )
    return number


def _number(value: Any) -> float | None:
    """A finite number, or None; bytes and text are none, also when they look like one."""
    if isinstance(value, str | bytes | bytearray):
        return None
    # Whatever a foreign number's own conversion raises, it is no number for us.
    try:
        number = float(value)
    except Exception:
        return None
    return number if math.isfinite(number) else None


def _check_item(
    decoded: DecodedId, item: Hashable, position: int | None, shown: Iterable[tuple[str, tuple[Any, ...]]], blended: str
) -> None:
    what = f"item={brief(item)}" if position is None else f"position={brief(position)}"
    if position is not None and (item is not None or type(position) is not int or position < 0):
        raise UnknownItemError(
            f"{what} {'was given with an item' if item is not None else 'is no position'}. "
            "A shown item is named by its key, or by its place in the list, from 0. Pass item= or position=."
        )
    if decoded.variant != blended:
        raise UnknownItemError(
            f"{what} was given for a call that variant {decoded.variant!r} answered alone. "
            "Items are credited in interleaved answers only. Leave it out."
        )
    for nonce, items in list(shown):
        if nonce == decoded.nonce and (item not in items if position is None else position >= len(items)):
            raise UnknownItemError(
                f"{what} was not shown in the decision that the outcome names: it showed {len(items)} items. "
                "An outcome's item is the key of a shown item. Pass what the strategy's key= gives for it."
            )


def by_decision(
    metric: str,
    value: object,
    decision_id: object,
    *,
    key: bytes | None,
    time_s: float,
    rollout: str | None = None,
    item: Hashable = None,
    position: int | None = None,
    item_hash: UnitHash | None = None,
    shown: Iterable[tuple[str, tuple[Any, ...]]] = (),
    blended: str = "interleaved",
) -> RecordedEvent:
    """The outcome of a decision.

    Raises:
        OutcomeError: Metric, value or time are not valid.
        DecisionIdError: The id cannot be read, is forged, or belongs to another rollout than `rollout`.
        UnknownItemError: The item was not shown, as far as this process remembers.
    """
    number, when = checked_value(metric, value), checked_time(metric, time_s)
    decoded = decode_id(decision_id, key)
    if rollout is not None and decoded.rollout != rollout:
        raise DecisionIdError(
            f"The decision id belongs to rollout {decoded.rollout!r}, not to {rollout!r}. "
            "An outcome belongs to the rollout that decided. Record it there, or with rollout_sdk.record()."
        )
    hidden = None
    if item is not None or position is not None:
        _check_item(decoded, item, position, shown, blended)
    if item is not None:
        hidden = pseudonyms(UnitHash(decoded.rollout, key) if item_hash is None else item_hash, [item])[0]
    return RecordedEvent(
        rollout=decoded.rollout,
        metric=metric,
        value=number,
        time_s=when,
        decision_id=decision_id,  # type: ignore[arg-type]
        phase=decoded.phase,
        variant=decoded.variant,
        bucket=decoded.bucket,
        item=hidden,
        position=position,
        decided_s=decoded.time_s,
        excluded=decoded.excluded,
        fingerprint=decoded.fingerprint,
    )


def by_token(
    metric: str, value: object, token: object, *, key: bytes | None, time_s: float, rollout: str | None = None
) -> RecordedEvent:
    """The outcome of an item in an interleaved list, by the item's token.

    Raises:
        OutcomeError: Metric, value or time are not valid.
        DecisionIdError: The token cannot be read, is forged, or belongs to another rollout than `rollout`.
    """
    read = read_token(token, key)
    return evolve(by_decision(metric, value, read.decision_id, key=key, time_s=time_s, rollout=rollout), item=read.item)


def by_unit(
    metric: str,
    value: object,
    unit: object,
    *,
    rollout: str,
    hash_: UnitHash,
    time_s: float,
    item: Hashable = None,
    item_hash: UnitHash | None = None,
) -> RecordedEvent:
    """The outcome of a unit, to be joined with its last decision before it; with an item, with every list that showed it.

    Raises:
        OutcomeError: Metric, value, time or unit are not valid.
    """
    number, when = checked_value(metric, value), checked_time(metric, time_s)
    raw = canonical(unit)
    if raw is None:
        raise OutcomeError(
            f"The unit of the outcome is {brief(unit)}. "
            "A unit is a non-empty text, a number, bytes, a UUID or a tuple of these. "
            "Pass what the rollout's unit= finds in a call."
        )
    digest = hash_(raw)
    return RecordedEvent(
        rollout=rollout,
        metric=metric,
        value=number,
        time_s=when,
        bucket=bucket_of(digest),
        unit=pseudonym(digest),
        item=None if item is None or item_hash is None else pseudonyms(item_hash, [item])[0],
    )
