"""The strategies: each periodically computes shares from the rewards of all processes, and starts a phase with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from attrs import define, field, fields

from rollout_sdk import ConfigurationError, Decision, Phase, RecordedEvent, RoutedEvent, RouteRequest
from rollout_sdk.extending import Controller, controller_of, controllers_of, renew_after_fork
from rollout_sdk_bandit.allocation import Reward, best_chances, epsilon_greedy, with_floor
from rollout_sdk_bandit.best_arm import optimal_allocation, stopping_statistic, stopping_threshold
from rollout_sdk_bandit.learning import Learning
from rollout_sdk_bandit.rewards import ArmSums

__all__ = ["Bandit", "EpsilonGreedy", "ThompsonSampling", "TrackAndStop"]


def _positive(_: object, attribute: Any, value: object) -> None:
    if value is None and attribute.name == "window_s":
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigurationError(f"{attribute.name}={value!r:.60} of a bandit is not a positive number. Give one.")


def _share(_: object, attribute: Any, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigurationError(f"{attribute.name}={value!r:.60} of a bandit is not between 0 and 1. Write 0.05, say.")


@define(eq=False)
class Bandit:
    """The base class of the three strategies.

    A unit keeps its variant during a phase, and every decision has the share of its phase as its propensity. At most once in
    `batch_s`, one of the processes that share a store starts a phase with shares computed from the rewards of all of them: a
    transition by the actor "bandit". Nothing happens on a call's path: rewards are observed in the background.

    A rollout that is paused, invalid or over keeps its shares.

    Attributes:
        metric: Name of the outcome that is the reward; it is recorded with `decision_id=`.
        window_s: Seconds that a reward may take: a decision without one by then has the reward 0. None: decisions without one
            do not count, as for a rating that only some users give.
        floor: Minimum share of each arm, including the control. Below .05, estimates are wide.
        batch_s: Minimum of seconds between two changes of the shares.
    """

    name: ClassVar[str]
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("floor", "batch_s")

    metric: str
    window_s: float | None = field(default=None, kw_only=True, validator=_positive)
    floor: float = field(default=0.05, kw_only=True, validator=_share)
    batch_s: float = field(default=3600.0, kw_only=True, validator=_positive)
    _learning: WeakKeyDictionary[Controller, Learning] = field(init=False, factory=WeakKeyDictionary, repr=False)
    # The attribute makes it a ramp: its shares can be changed, and an operator can give one candidate everything.
    steps: ClassVar[tuple[()]] = ()

    def __attrs_post_init__(self) -> None:
        """Validate the metric's name."""
        if not isinstance(self.metric, str) or not self.metric:
            raise ConfigurationError(
                f"metric={self.metric!r:.60} of a bandit is not a name. Name the outcome, such as 'click'."
            )
        renew_after_fork(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments: sums of rewards are in the store."""
        return partial(type(self), **{each.name: getattr(self, each.name) for each in fields(type(self)) if each.init}), ()

    def renew(self) -> None:
        """Start without rewards in a forked child: the parent publishes its own."""
        self._learning = WeakKeyDictionary()

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Start with equal shares.

        Raises:
            ConfigurationError: The floor is too high for so many arms.
        """
        arms = (control, *candidates)
        with_floor(dict.fromkeys(arms, 1.0), self.floor)
        return [Phase("equal shares", dict.fromkeys(candidates, 1 / len(arms)), control)]

    def rollout_route(self, request: RouteRequest) -> Decision:
        """Decide by the shares of the phase."""
        return request.phase.split.decide(request.point)

    def rollout_routed(self, event: RoutedEvent) -> None:
        """Count a decision, and change the shares if it is time."""
        for learning in self._of(event.decision.rollout):
            learning.routed(event)

    def rollout_recorded(self, event: RecordedEvent) -> None:
        """Count a reward, and change the shares if it is time."""
        for learning in self._of(event.rollout):
            learning.recorded(event)

    def arms(self, rollout: object) -> Mapping[str, ArmSums]:
        """Return the rewards of each arm so far, from all processes that share the store.

        Args:
            rollout: The decorated function, or its controller.

        Raises:
            StoreError: The store does not answer.
        """
        return self._learning_of(controller_of(rollout)).gathered()

    def update(self, rollout: object) -> bool:
        """Update the shares now, without waiting for `batch_s`; return whether they have changed.

        For tests and for operators: the background does it by itself.

        Raises:
            StoreError: The store does not answer.
        """
        controller = controller_of(rollout)
        controller.runtime.flush()
        return self._learning_of(controller).update()

    def wanted(self, sums: Mapping[str, ArmSums]) -> tuple[Mapping[str, float], str]:
        """Return the shares for these rewards, before the floor is applied, and the reason."""
        raise NotImplementedError

    def stopped(self, sums: Mapping[str, ArmSums]) -> tuple[str, str] | None:
        """Return the arm that is significantly the best, and the reason; None if there is none, or the bandit does not stop."""
        del sums
        return None

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest reward. Without them, a sum of squares could exceed every number."""
        return -1e100, 1e100

    def promotes(self) -> bool:
        """Whether the best arm gets everything once it is known."""
        return False

    def _of(self, key: str) -> list[Learning]:
        return [self._learning_of(each) for each in controllers_of(key) if each.strategy is self]

    def _learning_of(self, controller: Controller) -> Learning:
        known = self._learning.get(controller)
        # Two threads may both create one; both get the first.
        return self._learning.setdefault(controller, Learning(self, controller)) if known is None else known


@define(eq=False)
class ThompsonSampling(Bandit):
    """Each arm's share is the posterior probability that it is the best: `ThompsonSampling("click", window_s=3600)`.

    Thompson, Biometrika 25 (1933); in batches, with the probabilities computed instead of sampled, so that they can be logged.

    Attributes:
        reward: "binary" (0 or 1), or "normal" (any number whose means are nearly normal).
    """

    name = "thompson"

    reward: Reward = field(default="binary", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Validate the kind of reward."""
        super().__attrs_post_init__()
        if self.reward not in ("binary", "normal"):
            raise ConfigurationError(f"reward={self.reward!r:.60} of ThompsonSampling is unknown. It is 'binary' or 'normal'.")

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest reward: 0 and 1, if rewards are binary."""
        return (0.0, 1.0) if self.reward == "binary" else super().limits

    def wanted(self, sums: Mapping[str, ArmSums]) -> tuple[Mapping[str, float], str]:
        """Return each arm's probability of being the best."""
        chances = best_chances(sums, reward=self.reward)
        best = max(chances, key=chances.__getitem__)
        return chances, f"{best} is the best with a probability of {chances[best]:.3g}"


@define(eq=False)
class EpsilonGreedy(Bandit):
    """The arm with the largest mean reward gets 1 - epsilon, and all share epsilon: `EpsilonGreedy("click", window_s=3600)`.

    Attributes:
        epsilon: Share of exploration.
    """

    name = "epsilon-greedy"
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("floor", "batch_s", "epsilon")

    epsilon: float = field(default=0.1, kw_only=True, validator=_share)

    def wanted(self, sums: Mapping[str, ArmSums]) -> tuple[Mapping[str, float], str]:
        """Return the largest share for the best arm."""
        shares = epsilon_greedy(sums, epsilon=self.epsilon)
        best = max(shares, key=shares.__getitem__)
        return shares, f"{best} has the largest mean: {sums[best].mean:.4g}"


@define(eq=False)
class TrackAndStop(Bandit):
    """Finds the best of many arms as soon as possible, and stops: `TrackAndStop("click", window_s=3600, delta=0.05)`.

    Rewards are 0 or 1. Shares are the optimal ones for the means so far (Garivier and Kaufmann, 2016). It stops when the
    generalised likelihood ratio of the best arm against every other exceeds log(2 t (K - 1) / delta): the selected arm is
    wrong with a probability of at most delta, if rewards of different decisions are independent. With few units that make
    many calls, they are not.

    Attributes:
        delta: Maximum probability of selecting a wrong arm.
        on_stop: "hold" keeps the shares, and a person decides; "promote" gives the best arm everything.
    """

    name = "track-and-stop"
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("floor", "batch_s", "delta", "on_stop")

    delta: float = field(default=0.05, kw_only=True, validator=_share)
    on_stop: Literal["hold", "promote"] = field(default="hold", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Validate `on_stop`."""
        super().__attrs_post_init__()
        if self.on_stop not in ("hold", "promote"):
            raise ConfigurationError(f"on_stop={self.on_stop!r:.60} of TrackAndStop is unknown. It is 'hold' or 'promote'.")

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest reward."""
        return 0.0, 1.0

    def wanted(self, sums: Mapping[str, ArmSums]) -> tuple[Mapping[str, float], str]:
        """Return the optimal allocation for the means so far."""
        if not all(each.count for each in sums.values()):
            return dict.fromkeys(sums, 1.0), "not every arm has a reward yet"
        best, statistic = stopping_statistic(sums)
        threshold = self._threshold(sums)
        weights = optimal_allocation([min(max(each.mean, 0.0), 1.0) for each in sums.values()])
        return dict(zip(sums, weights, strict=True)), f"{best} leads with {statistic:.4g} of {threshold:.4g}"

    def stopped(self, sums: Mapping[str, ArmSums]) -> tuple[str, str] | None:
        """Return the best arm once it is known, and the reason."""
        best, statistic = stopping_statistic(sums)
        threshold = self._threshold(sums)
        if statistic <= threshold:
            return None
        return (
            best,
            f"{best} is the best arm (wrong with a probability of at most {self.delta:g}): {statistic:.4g} > {threshold:.4g}",
        )

    def promotes(self) -> bool:
        """Whether `on_stop` is "promote"."""
        return self.on_stop == "promote"

    def _threshold(self, sums: Mapping[str, ArmSums]) -> float:
        return stopping_threshold(sum(each.count for each in sums.values()), len(sums), self.delta)
