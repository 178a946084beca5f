"""Canary: a few users, then more, and back at once when it hurts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import evolve, field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share, percent
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan import DEFAULT_GUARDRAILS, Criteria, Freeze, Gate, Guardrail, Step, as_steps, load_criteria
from rollout_sdk.records import Decision
from rollout_sdk.strategies.shares import make_phase

__all__ = ["Canary", "planned_phases", "rollout_strategies"]


_IN_A_FILE = ("steps", "guardrails", "gates", "alpha", "freeze", "max_calls_per_unit", "horizon")


def _shadow_share(share: Share) -> float:
    return parse_share(share, "shadow share of Canary")


@frozen
class Canary:
    """The candidate's share grows step by step, and goes back to nothing when it hurts: `Canary(["1%", "5%", "25%", "50%"])`.

    A unit that has the candidate keeps it while the share grows. A step ends by itself when every guardrail is surely good
    enough and every gate has passed; one that surely fails rolls back. After the last step everybody gets the candidate.
    `promote()`, `pause()`, `abort()` and `set_share()` of the controller do it by hand; with `guardrails=[]` and no gates,
    nothing else does.

    Attributes:
        steps: Steps, or plain shares, none smaller than the one before and no two alike; for several candidates, a share for
            each by name. A last "100%" may be written or left out.
        guardrails: What must not get worse; by default, the error rate.
        gates: What must be better before it goes on.
        shadow: Share of the control's calls on which the candidates also run in the background, in every step that says
            nothing else.
        alpha: How likely it may be, over the whole rollout and however often it is looked at, that a candidate which is not
            worse is rolled back; and the same for one being passed that is worse than its margins.
        freeze: Windows in which no step is taken.
        approve: Asked before every further step, with the verdict; the step waits until it returns True.
        max_calls_per_unit: Calls of one unit that count in a step, so that a bot does not decide; None: all count.
        horizon: A planned end for every gate that has none of its own: units of both arms together (an int), or time since
            the rollout began ("14d"). See `Gate`.
    """

    name = "canary"
    # The plan may change while the rollout runs: what it changes for a call, its phase tells.
    not_fingerprinted = (*_IN_A_FILE, "shadow", "approve")

    steps: tuple[Step, ...] = field(default=("1%", "5%", "25%", "50%"), converter=as_steps)
    guardrails: Sequence[Guardrail] = field(default=DEFAULT_GUARDRAILS, kw_only=True)
    gates: Sequence[Gate] = field(default=(), kw_only=True)
    shadow: float = field(default=0.0, kw_only=True, converter=_shadow_share)
    alpha: float = field(default=0.05, kw_only=True)
    freeze: Sequence[Freeze] = field(default=(), kw_only=True)
    approve: Callable[[Any], bool] | None = field(default=None, kw_only=True)
    max_calls_per_unit: int | None = field(default=None, kw_only=True)
    horizon: int | float | str | None = field(default=None, kw_only=True)
    criteria: Criteria = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Put the criteria together, which refuses what cannot be judged."""
        criteria = Criteria(
            steps=[step if step.shadow else evolve(step, shadow=self.shadow) for step in self.steps],
            guardrails=self.guardrails,
            gates=self.gates,
            alpha=self.alpha,
            freeze=self.freeze,
            approve=self.approve,
            max_calls_per_unit=self.max_calls_per_unit,
            horizon=self.horizon,
        )
        object.__setattr__(self, "criteria", criteria)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Canary:
        """A canary whose plan is in a TOML file; see `rollout_sdk.plan.table` and docs/canary.md.

        Args:
            path: The file.
            options: What a file cannot say: `approve`.

        Raises:
            ConfigurationError: It cannot be read, or says something that cannot work.
        """
        read = load_criteria(path)
        options_read = {name: getattr(read, name) for name in _IN_A_FILE}
        return cls(**options_read, **options)

    @property
    def shadows(self) -> bool:
        """Whether it may shadow, which asks for a function declared with effects="read"."""
        return any(step.shadow for step in self.criteria.steps)

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """A phase for every step.

        Raises:
            ConfigurationError: There is no step, or one is smaller than the one before or the same.
        """
        return planned_phases(self.criteria, control, candidates)

    def rollout_route(self, request: RouteRequest) -> Decision:
        """The variant in whose lane the unit lies."""
        phase = request.phase
        if phase.shadow and request.draw < phase.shadow:
            return phase.split.decide_shadowed(request.point)
        return phase.split.decide(request.point)


def planned_phases(criteria: Criteria, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
    """A phase for every step.

    Raises:
        ConfigurationError: There is no step, or one is smaller than the one before or the same.
    """
    phases = [
        evolve(make_phase(step.share, control, candidates, f"step {number} of Canary"), shadow=step.shadow)
        for number, step in enumerate(criteria.steps, 1)
    ]
    if not phases:
        raise ConfigurationError("Canary has no steps. A canary starts with a first share. Write Canary(['1%', '10%', '50%']).")
    for before, after in pairwise(phases):
        if after.shares == before.shares:
            raise ConfigurationError(
                f"Canary has the step {after.name} twice in a row. A step gives a candidate more. Leave one of them out."
            )
        for candidate in candidates:
            if after.shares[candidate] < before.shares[candidate]:
                raise ConfigurationError(
                    f"Canary goes from {percent(before.shares[candidate])} back to {percent(after.shares[candidate])} "
                    f"for {candidate!r}. Steps must not shrink. To go back at run time, use set_share() or abort()."
                )
    return phases


def rollout_strategies() -> Mapping[str, type]:
    """The strategy of this module, by its name."""
    return {"canary": Canary}
