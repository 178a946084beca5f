"""Outcomes: attributes what is recorded to a decision, a unit, or an item of a list."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from attrs import evolve

from rollout_sdk.assignment import UnitHash, bucket_of, canonical, pseudonym, pseudonyms
from rollout_sdk.assignment.ids import decode_id, read_token
from rollout_sdk.exceptions import DecisionIdError, OutcomeError
from rollout_sdk.formatting import brief
from rollout_sdk.recording.outcome_checks import check_item, check_named, check_preference, checked_time, checked_value
from rollout_sdk.records import RecordedEvent

__all__ = ["by_decision", "by_token", "by_unit", "identified", "outcome_of"]


def outcome_of(
    about: str,
    metric: str,
    value: float,
    *,
    key: bytes | None,
    time_s: float,
    decision_id: str | None,
    unit: Hashable,
    token: str | None,
    item: Hashable,
    position: int | None,
    event_id: Hashable,
    variant: str | None,
    source: str,
    rollout: str | None,
    hash_of: Callable[[], tuple[str, UnitHash]],
    item_hash: UnitHash | None = None,
    shown: Iterable[tuple[str, tuple[Any, ...]]] = (),
) -> RecordedEvent:
    """Check what `record()` was given, and attribute the outcome to a decision, a unit or a token.

    Args:
        about: The outcome, for errors.
        metric: Name of the metric.
        value: The measured value.
        key: Secret with which ids are signed, or None.
        time_s: Time of the measurement, in seconds since 1970.
        decision_id: See `RolloutController.record`, as for all arguments up to `source`.
        unit: The unit, or None.
        token: The token of an item, or None.
        item: Key of an item, or None.
        position: Position of an item, or None.
        event_id: Name of the event, or None.
        variant: The variant whose answer was judged, or None.
        source: Who judged.
        rollout: Key of the rollout that a decision or token must belong to; None for any.
        hash_of: Returns the rollout and the hash of its units; called for an outcome of a unit only.
        item_hash: Hash of the rollout's items and events; None for the one that follows from its key.
        shown: Recently shown lists by nonce.

    Raises:
        OutcomeError: Metric, value, time or unit are not valid, or not exactly one of decision, unit and token is named.
        DecisionIdError: The id or token cannot be read, is forged, or belongs to another rollout.
        UnknownItemError: The item was not shown, as far as this process remembers.
    """
    check_named(about, decision_id=decision_id, unit=unit, token=token, item=item, position=position, variant=variant)
    check_preference(about, metric, value, source=source, variant=variant)
    if unit is not None:
        owner, hash_ = hash_of()
        hidden = UnitHash(owner, key) if item_hash is None else item_hash
        event = by_unit(metric, value, unit, rollout=owner, hash_=hash_, time_s=time_s, item=item, item_hash=hidden)
    elif token is not None:
        event = by_token(metric, value, token, key=key, time_s=time_s, rollout=rollout)
    else:
        event = by_decision(
            metric,
            value,
            decision_id,
            key=key,
            time_s=time_s,
            rollout=rollout,
            item=item,
            position=position,
            item_hash=item_hash,
            shown=shown,
            variant=variant,
            source=source,
        )
    return identified(event, event_id, UnitHash(event.rollout, key) if item_hash is None else item_hash)


def identified(event: RecordedEvent, event_id: Hashable, hash_: UnitHash) -> RecordedEvent:
    """Return the outcome with the pseudonym of its event, if it has one.

    Raises:
        OutcomeError: The name is not valid.
    """
    if event_id is None:
        return event
    raw = canonical(event_id)
    if raw is None:
        raise OutcomeError(
            f"The event_id of the outcome is {brief(event_id)}. It names an event, as text or a number. "
            "Pass the number of the order, or the id of the message."
        )
    # Numbers of orders can tell of people.
    return evolve(event, event_id=pseudonym(hash_(b"event:" + raw)))


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
    variant: object = None,
    source: str = "",
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
    is_shadows = variant is not None and variant != decoded.variant
    if is_shadows and (item is not None or position is not None or decoded.variant == blended):
        raise OutcomeError(
            f"The outcome {brief(metric)} names variant {brief(variant)} of a list, or of an item in it. A shadow's answer is "
            "judged as a whole. Leave variant= out."
        )
    hidden = None
    if item is not None or position is not None:
        check_item(decoded, item, position, shown, blended)
    if item is not None:
        hidden = pseudonyms(UnitHash(decoded.rollout, key) if item_hash is None else item_hash, [item])[0]
    return RecordedEvent(
        rollout=decoded.rollout,
        metric=metric,
        value=number,
        time_s=when,
        decision_id=decision_id,  # type: ignore[arg-type]
        phase=decoded.phase,
        variant=decoded.variant if variant is None else str(variant),
        bucket=decoded.bucket,
        item=hidden,
        position=position,
        decided_s=decoded.time_s,
        excluded=decoded.excluded,
        fingerprint=decoded.fingerprint,
        rate=decoded.rate,
        call_rate=decoded.rate,
        shadow=is_shadows,
        source=source,
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
            "A unit is a non-empty text, a number, a UUID, a date, bytes or a tuple of these. "
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
