"""Outcomes: checking what is recorded, and attributing it by the decision's id or the unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from attrs import evolve

from rollout_sdk.assignment import UnitHash, bucket_of, canonical, pseudonym, pseudonyms
from rollout_sdk.assignment.ids import DecodedId, decode_id, read_token
from rollout_sdk.exceptions import DecisionIdError, OutcomeError, UnknownItemError
from rollout_sdk.formatting import brief
from rollout_sdk.judging.preferences import JUDGE_FAILED
from rollout_sdk.plan import JUDGE_PREFERENCE
from rollout_sdk.records import RecordedEvent

__all__ = ["by_decision", "by_token", "by_unit", "checked_value", "identified", "odd_time", "outcome_of"]

_LONGEST_METRIC = 128
_LATEST_S = 1e11
"""In seconds, the year 5138; in milliseconds, March 1973."""

_MOST_SKEW_S = 60.0
"""How far the clocks of two machines may be apart."""


def checked_value(metric: object, value: object) -> float:
    """The value as a float, when metric and value are valid.

    Raises:
        OutcomeError: The metric is not a printable text of up to 128 characters, or the value is not a finite number.
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
        OutcomeError: It is not a finite number.
    """
    number = _number(time_s)
    if number is None:
        raise OutcomeError(
            f"The time of metric {brief(metric)} is {brief(time_s)}. It is a number of seconds since 1970. "
            "Pass time.time() or datetime.timestamp(), or leave time_s= out."
        )
    if abs(number) > _LATEST_S:
        raise OutcomeError(
            f"The time of metric {brief(metric)} is {number:.0f}, which is not a time in seconds since 1970. "
            "It looks like milliseconds, or smaller. Divide it, or pass datetime.timestamp()."
        )
    return number


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
    _check_named(about, decision_id=decision_id, unit=unit, token=token, item=item, position=position, variant=variant)
    _check_preference(about, metric, value, source=source, variant=variant)
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


def _check_named(
    about: str, *, decision_id: object, unit: object, token: object, item: object, position: object, variant: object = None
) -> None:
    """Refuse an outcome that does not name exactly one decision, unit or token.

    Raises:
        OutcomeError: It does not.
    """
    named = [name for name, said in (("decision_id", decision_id), ("unit", unit), ("token", token)) if said is not None]
    if len(named) != 1 or (token is not None and (item is not None or position is not None)):
        raise OutcomeError(
            f"{about} names {' and '.join(named) or 'nothing'}{' and an item' if named == ['token'] else ''}. "
            "An outcome belongs to one decision, one unit or one token. Pass decision_id=, unit= or token=."
        )
    if variant is not None and (decision_id is None or not isinstance(variant, str) or not variant):
        raise OutcomeError(
            f"{about} names variant={brief(variant)} without a decision. It is the variant whose answer was judged: the "
            "one that answered, or a shadow. Pass decision_id=, too."
        )
    if position is not None and decision_id is None:
        raise OutcomeError(
            f"{about} names a position of no list. A position belongs to one interleaved answer. Pass decision_id=, too."
        )


def _check_preference(about: str, metric: object, value: object, *, source: object, variant: object) -> None:
    """Refuse an outcome of an unknown source, and a preference that is not a person's about a shadow's answer.

    Raises:
        OutcomeError: It is one of these.
    """
    if source not in ("", "human"):
        raise OutcomeError(
            f"{about} has source={brief(source)}. It says who judged: 'human', or nothing for the application itself."
        )
    if metric == JUDGE_FAILED:
        raise OutcomeError(f"{about} is recorded by the SDK itself. Choose another name.")
    if metric != JUDGE_PREFERENCE:
        return
    if source != "human" or variant is None:
        raise OutcomeError(
            f"{about} is what a judge of the SDK or a person says about a shadow's answer. Pass source='human', "
            "decision_id= and variant=, the name of the candidate; or choose another name."
        )
    number = _number(value)
    if number is None or not -1 <= number <= 1:
        raise OutcomeError(
            f"{about} has the value {brief(value)}. A preference is 1 if the candidate's answer is better, -1 if the "
            "control's is, 0 for a tie, or a number between."
        )


def odd_time(event: RecordedEvent, now_s: float) -> str | None:
    """What is strange about the time of an outcome, with the cure; None when nothing is."""
    if event.time_s > now_s + _MOST_SKEW_S:
        return (
            f"Outcomes of metric {event.metric!r} are dated more than a minute ahead of this machine's clock. They count. "
            "Look at the time zone of what time_s= is made of, and at the clocks."
        )
    if event.decided_s is not None and event.time_s < event.decided_s - _MOST_SKEW_S:
        return (
            f"Outcomes of metric {event.metric!r} are dated more than a minute before their decision. They count. "
            "Look at the time zone of what time_s= is made of, and at which decision_id= is passed."
        )
    return None


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


def _number(value: Any) -> float | None:
    """A finite number, or None; bytes and text are none, also when they look like one."""
    if isinstance(value, str | bytes | bytearray):
        return None
    # If the conversion of a foreign number raises anything, it does not count as a number.
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
            f"{what} {'was given with an item' if item is not None else 'is not a position'}. "
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
