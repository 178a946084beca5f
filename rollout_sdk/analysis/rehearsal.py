"""A plan rehearsed: simulated users through the public API, with a candidate that is worse, the same, or better.

What is counted is what the SDK's own judge says of decorated functions, not what a formula promises.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from rollout_sdk.analysis.verdict import Headline
from rollout_sdk.concurrency.clocks import time_ns
from rollout_sdk.decorator import rollout
from rollout_sdk.engine.rollout import ShadowLimits
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan import Gate, Guardrail, Step
from rollout_sdk.records import INTERLEAVED
from rollout_sdk.runtime import Runtime
from rollout_sdk.strategies.ab import ABTest
from rollout_sdk.strategies.canary import Canary
from rollout_sdk.strategies.interleave import Interleave
from rollout_sdk.strategies.shadow import Shadow
from rollout_sdk.telemetry import Telemetry

__all__ = ["METRIC", "Rehearsal", "Users", "rehearse", "strategies_for"]

METRIC = "success"
"""The metric that simulated users have."""

_LOOKS_A_DAY = 4
_ITEMS = 4
_SHADOWS = 200
_DAY_NS = 86_400 * 10**9
_STOPPED: Mapping[str, Headline] = {"FAIL": "DO NOT SHIP", "FUTILE": "DO NOT SHIP"}


@frozen(kw_only=True)
class Users:
    """The users of a rehearsal: new ones every day, who call once.

    Attributes:
        per_day: How many come in a day.
        days: For how long the test may run.
        rate: Share of the control's users who have a success.
        effect: How much larger that share is with the candidate, in the test that has an effect.
        error_rate: Share of the calls that fail, of both variants.
    """

    per_day: int
    days: int = 14
    rate: float = 0.1
    effect: float = 0.02
    error_rate: float = 0.005

    def __attrs_post_init__(self) -> None:
        """Reject users that cannot be."""
        if self.per_day < _LOOKS_A_DAY or self.days < 1:
            raise ConfigurationError(
                f"{self.per_day} users a day for {self.days} days cannot be rehearsed. There is at least one day, with "
                f"{_LOOKS_A_DAY} users."
            )
        if not (0 < self.effect < self.rate < 1 - self.effect and 0 <= self.error_rate < 1):
            raise ConfigurationError(
                f"A rate of {self.rate:g} with an effect of {self.effect:g} and {self.error_rate:g} errors is impossible. "
                "Shares lie between 0 and 1, with the effect and without it."
            )


@frozen(kw_only=True)
class Ends:
    """How simulated tests of one kind of candidate ended.

    Attributes:
        runs: How many there were.
        ships: How many ended with SHIP.
        stops: How many ended with DO NOT SHIP; the others still waited at the end.
        days: Days until a test ended, in the median.
        exposed: Users who had the candidate's answer by then, in the median.
    """

    runs: int
    ships: int
    stops: int
    days: float
    exposed: int


@frozen(kw_only=True)
class Rehearsal:
    """What came of the simulated tests of one strategy.

    Attributes:
        strategy: Its name.
        worse: With a candidate whose users have fewer successes, by the effect.
        same: With one that is as good as the control (A/A).
        better: With one whose users have more successes.
    """

    strategy: str
    worse: Ends
    same: Ends
    better: Ends

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible values."""
        return asdict(self)


def strategies_for(users: Users) -> dict[str, Any]:
    """Every strategy with the plan that fits these users: the effect worth having at gates, and accepted at guardrails.

    A shadow cannot see successes, and a canary asks that they are not fewer: both find what fails, not what is better.
    """
    errors = Guardrail("error_rate", floor=max(0.01, users.error_rate))
    # Of a list, half of the items are the candidate's, and a preference is half of won minus lost.
    preference = Gate(METRIC, mde=users.effect / 4)
    return {
        "shadow": Shadow(1.0, guardrails=[errors]),
        "canary": Canary(
            [Step(share, min_time=0) for share in ("5%", "25%", "50%")],
            guardrails=[errors, Guardrail(METRIC, margin=users.effect)],
        ),
        "ab": ABTest(0.5, gates=[Gate(METRIC, mde=users.effect)], guardrails=[errors]),
        "interleave": Interleave(gates=[preference]),
    }


def rehearse(
    strategy: Any, users: Users, *, runs: int = 10, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Rehearsal:
    """Run a strategy with its plan on simulated users, judged four times a day.

    Args:
        strategy: The strategy, whose plan is about errors and `METRIC`.
        users: The users.
        runs: How often, for each kind of candidate.
        seed: The same seed gives the same users.
        progress: Called with the tests done so far, and with how many there are.
    """
    found: dict[int, list[tuple[Headline, float, int]]] = {-1: [], 0: [], 1: []}
    for run in range(runs):
        for sign, ended in found.items():
            ended.append(_test(strategy, users, sign * users.effect, f"{seed} {strategy.name} {run} {sign}"))
            if progress is not None:
                progress(3 * run + sign + 2, 3 * runs)
    return Rehearsal(strategy=strategy.name, worse=_ends(found[-1]), same=_ends(found[0]), better=_ends(found[1]))


def _ends(found: Sequence[tuple[Headline, float, int]]) -> Ends:
    return Ends(
        runs=len(found),
        ships=sum(headline == "SHIP" for headline, _, _ in found),
        stops=sum(headline == "DO NOT SHIP" for headline, _, _ in found),
        days=statistics.median(days for _, days, _ in found),
        exposed=statistics.median_low(exposed for _, _, exposed in found),
    )


class _SimulatedError(Exception):
    """A simulated failure."""


def _test(strategy: Any, users: Users, effect: float, seed: str) -> tuple[Headline, float, int]:
    """One test: its headline, the days until then, and how many users had the candidate's answer."""
    clock_ns, rng = time_ns(), random.Random(seed)

    def model(name: str) -> Callable[[int], list[str]]:
        # Of its own, because a shadow fails on another thread.
        fails = random.Random(f"{seed} {name}")

        def answer(user: int) -> list[str]:  # noqa: ARG001  # the unit
            if fails.random() < users.error_rate:
                raise _SimulatedError
            return [f"{name} {number}" for number in range(_ITEMS)]

        return answer

    # Nothing else runs here that shadows could disturb.
    limits = ShadowLimits(cpu_share=64.0, max_jobs=_SHADOWS)
    runtime = Runtime(time_ns=lambda: clock_ns, telemetry=Telemetry(logs=False, spans="off"), shadows=limits)
    try:
        tested = rollout(
            candidate=model("new"),
            strategy=strategy,
            unit="user",
            key="rehearsal",
            runtime=runtime,
            breaker=None,
            effects="read",
        )(model("old"))
        exposed = user = 0
        # A plan without the metric would refuse its outcomes, and there is no journal.
        counts = any(each.metric == METRIC for each in strategy.criteria.all)
        for look in range(1, users.days * _LOOKS_A_DAY + 1):
            for _ in range(users.per_day // _LOOKS_A_DAY):
                clock_ns += _DAY_NS // users.per_day
                user += 1
                exposed += _call(tested, rng.getrandbits(60), users, effect, rng, counts=counts)
                if strategy.name == "shadow" and user % _SHADOWS == 0:
                    # Real shadows have a moment each; more of these would be dropped, as under overload.
                    runtime.flush(60.0)
            runtime.flush(60.0)
            headline = _headline(tested, strategy)
            if headline != "WAIT":
                return headline, look / _LOOKS_A_DAY, exposed
        return "WAIT", float(users.days), exposed
    finally:
        runtime.close(10.0)


def _call(tested: Any, user: int, users: Users, effect: float, rng: random.Random, *, counts: bool) -> int:
    """One user: calls, and has a success or not; whether the candidate's answer, or some of it, was among what they got."""
    try:
        routed = tested.rollout.route(user)
    except _SimulatedError:
        return 0
    decision, is_new = routed.decision, [item.startswith("new") for item in routed.value]
    if decision.variant == INTERLEAVED:
        for item, new in zip(routed.value, is_new, strict=True):
            # Each item has its part of what a whole answer of its variant would have.
            if rng.random() < (users.rate + effect * new) / len(is_new) and counts:
                tested.rollout.record(METRIC, 1.0, decision_id=decision.id, item=item)
    elif rng.random() < users.rate + effect * all(is_new) and counts:
        tested.rollout.record(METRIC, 1.0, decision_id=decision.id)
    return int(any(is_new))


def _headline(tested: Any, strategy: Any) -> Headline:
    verdict = tested.rollout.judge()
    status = tested.rollout.status().status
    if status == "promoted":
        return "SHIP"
    if status in ("rolled_back", "aborted"):
        return "DO NOT SHIP"
    if verdict is None:
        return "WAIT"
    if verdict.outcome == "PASS" and not strategy.criteria.acts:
        return "SHIP"
    return _STOPPED.get(verdict.outcome, "WAIT")
