"""`Judge`: a function that says which of two answers is better, and what it may cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from rollout_sdk.assignment import Share, parse_share
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.formatting import brief

__all__ = ["Judge", "Judgement", "Money", "Preference", "as_preference", "cost_of"]

Preference: TypeAlias = Literal["a", "b", "tie"] | float
"""Which answer is better; or by how much the first is, from -1 (the second is, clearly) to 1."""

_WORDS = {"a": 1.0, "b": -1.0, "tie": 0.0}
_PERIODS = {"hour": 3_600.0, "day": 86_400.0, "week": 604_800.0}


@frozen
class Judgement:
    """What a judge may return in place of a bare preference, to say what it cost.

    Attributes:
        preference: "a", "b", "tie", or a number from -1 to 1.
        cost: What the judgement cost, in the currency of the judge's budget.
    """

    preference: Preference
    cost: float | None = None


@frozen
class Money:
    """An amount of money for a period: `Money(10, "USD", per="day")`.

    Attributes:
        amount: The amount.
        currency: The currency.
        per: The period, of UTC: "hour", "day" or "week".
    """

    amount: float
    currency: str = "USD"
    per: Literal["hour", "day", "week"] = field(default="day", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse invalid amounts and periods."""
        if not _number(self.amount) > 0:
            raise ConfigurationError(f"amount={brief(self.amount)} of Money is not an amount of money. Write Money(10, 'USD').")
        if self.per not in _PERIODS:
            raise ConfigurationError(f"per={brief(self.per)} of Money is not one of {', '.join(_PERIODS)}. Write per='day'.")

    @property
    def period_s(self) -> float:
        """The period in seconds."""
        return _PERIODS[self.per]


def _share(value: Share) -> float:
    return parse_share(value, "sample of Judge")


@frozen
class Judge:
    """Compares the control's answer with a shadow's, on a random sample of the shadowed calls, in threads of its own.

    The judge sees both answers as a and b, in an order drawn for every decision, and does not learn which is whose. Neither
    callers nor shadows wait for it. What it says is recorded as `judge.preference`: 1 if the candidate's answer is better, -1
    if the control's is, 0 for a tie. A `Guardrail` or `Gate` of that name decides with it, once people have labelled a random
    few of the same pairs: see docs/judging.md.

    Attributes:
        function: Called with the request and two answers, `(request, a, b)`, where `request.arguments` are the call's; returns
            "a", "b", "tie", a number from -1 to 1 by which a is better, or a `Judgement`. Plain or a coroutine function; all
            calls of a coroutine function run on one event loop.
        sample: Share of the compared pairs that it judges, drawn by the decision's id.
        concurrency: Judgements at once.
        timeout_s: Seconds for a judgement; the pair then counts as not judged.
        retries: Further attempts after an exception or a timeout, for each pair.
        budget: What all judgements together may cost: of all processes of a store, or else of this process. A judgement is paid
            for before it starts, with `price` or the largest cost so far, whichever is more. The budget is exceeded by one
            judgement at most, unless costs jump: all judgements that are under way may exceed it if they cost more than `price`
            (without it, more than twice the largest cost so far). Once it is spent, judging pauses until the next period.
        price: The most that a judgement costs; needed with a budget unless the judge returns its costs. What a judgement costs
            that raises or times out is unknown, and counts as reserved: if nothing is known yet and there is no price, judging
            pauses until the next period.
        queue: Pairs that wait; more are not judged.
        max_bytes: Bytes of copied arguments and of both answers that wait; pairs for which there is no room, or whose size
            cannot be known, are not judged.
        name: Name of the judge in records; by default, the function's.
    """

    function: Callable[..., Any]
    sample: float = field(default=0.1, kw_only=True, converter=_share)
    concurrency: int = field(default=4, kw_only=True)
    timeout_s: float = field(default=20.0, kw_only=True)
    retries: int = field(default=1, kw_only=True)
    budget: Money | None = field(default=None, kw_only=True)
    price: float | None = field(default=None, kw_only=True)
    queue: int = field(default=1_000, kw_only=True)
    max_bytes: int = field(default=64 << 20, kw_only=True)
    name: str = field(default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse options with which nothing could be judged."""
        if not callable(self.function):
            raise ConfigurationError(
                f"function={brief(self.function)} of Judge is not callable. A judge says which of two answers is better. Write "
                "Judge(lambda request, a, b: 'tie')."
            )
        for name, least in (("concurrency", 1), ("retries", 0), ("queue", 1), ("max_bytes", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigurationError(f"{name}={brief(value)} of Judge is not a whole number from {least} on.")
        if not _number(self.timeout_s) > 0:
            raise ConfigurationError(f"timeout_s={brief(self.timeout_s)} of Judge is not a number of seconds above 0.")
        if self.price is not None and not _number(self.price) > 0:
            raise ConfigurationError(f"price={brief(self.price)} of Judge is not an amount of money above 0.")
        if self.budget is not None and not isinstance(self.budget, Money):
            raise ConfigurationError(
                f"budget={brief(self.budget)} of Judge is not an amount of money. Write budget=Money(10, 'USD', per='day')."
            )
        if not self.name:
            object.__setattr__(self, "name", getattr(self.function, "__qualname__", type(self.function).__qualname__))


def _number(value: Any) -> float:
    """Return a finite number; NaN for anything else."""
    number = float(value) if issubclass(type(value), Real) and value is not True and value is not False else math.nan
    return number if math.isfinite(number) else math.nan


def as_preference(said: object) -> tuple[float, float | None]:
    """Return by how much a judge prefers the first answer, and what the judgement cost.

    Raises:
        ValueError: It said nothing that is a preference.
    """
    preference, cost = (said.preference, said.cost) if isinstance(said, Judgement) else (said, None)
    paid = cost_of(said)
    if cost is not None and paid is None:
        raise ValueError(f"the judge said cost={brief(cost)}, which is not an amount of money")
    value = _number(_WORDS.get(preference.strip().lower()) if isinstance(preference, str) else preference)
    if not -1 <= value <= 1:
        raise ValueError(f"the judge said {brief(preference)}, which is not 'a', 'b', 'tie', or a number from -1 to 1")
    return value, paid


def cost_of(said: object) -> float | None:
    """Return what a judgement cost, also if it is nonsense otherwise; None if it does not say so."""
    cost = _number(said.cost) if isinstance(said, Judgement) else math.nan
    return cost if cost >= 0 else None
