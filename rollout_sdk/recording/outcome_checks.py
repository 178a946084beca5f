"""What an outcome must be: its metric, value and time, what it names, and what it says of a preference."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any

from rollout_sdk.assignment.ids import DecodedId
from rollout_sdk.exceptions import OutcomeError, UnknownItemError
from rollout_sdk.formatting import brief
from rollout_sdk.judging.preferences import JUDGE_FAILED
from rollout_sdk.plan import JUDGE_PREFERENCE
from rollout_sdk.records import RecordedEvent

__all__ = ["check_item", "check_named", "check_preference", "checked_time", "checked_value", "odd_time"]

_LONGEST_METRIC = 128
_LATEST_S = 1e11
"""In seconds, the year 5138; in milliseconds, March 1973."""

_MOST_SKEW_S = 60.0
"""How far the clocks of two machines may be apart."""


def checked_value(metric: object, value: object) -> float:
    """Return the value as a float, if metric and value are valid.

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
    """Return the time as a float, if it is one.

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


def check_named(
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


def check_preference(about: str, metric: object, value: object, *, source: object, variant: object) -> None:
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


def check_item(
    decoded: DecodedId, item: Hashable, position: int | None, shown: Iterable[tuple[str, tuple[Any, ...]]], blended: str
) -> None:
    """Refuse an item that the decision did not show.

    Raises:
        UnknownItemError: It is not an item or position of an interleaved answer, or was not shown, as far as is remembered.
    """
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


def odd_time(event: RecordedEvent, now_s: float) -> str | None:
    """Return what is strange about the time of an outcome, with the cure; None if nothing is."""
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


def _number(value: Any) -> float | None:
    """Return a finite number, or None; bytes and text are not numbers, even if they look like one."""
    if isinstance(value, str | bytes | bytearray):
        return None
    # If the conversion of a foreign number raises anything, it does not count as a number.
    try:
        number = float(value)
    except Exception:
        return None
    return number if math.isfinite(number) else None
