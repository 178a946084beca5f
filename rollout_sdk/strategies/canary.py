"""Canary: increase the candidate's share step by step, and roll back at once if it is worse."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from attrs import evolve, field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share, percent
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan import DEFAULT_GUARDRAILS, Criteria, Freeze, Gate, Guardrail, Step, as_steps, is_compared, load_criteria
from rollout_sdk.records import Decision
from rollout_sdk.strategies.phases import by_lanes, make_phase

__all__ = ["Canary", "planned_phases", "rollout_strategies"]


_IN_A_FILE = ("steps", "guardrails", "gates", "alpha", "freeze", "max_calls_per_unit", "horizon")


def _shadow_share(share: Share) -> float:
    return parse_share(share, "shadow share of Canary")


@frozen
class Canary:
    """Increases the candidate's share step by step, and rolls it back if it is worse: `Canary(["1%", "5%", "25%", "50%"])`.

    A unit that has the candidate keeps it while the share grows. A step ends by itself when every guardrail is significantly
    good enough and every gate has passed; a guardrail that significantly fails rolls back. After the last step, all units get
    the candidate. `promote()`, `pause()`, `abort()` and `set_share()` of the controller do so by hand; with `guardrails=[]` and
    no gates, only they do.

    Attributes:
        steps: Steps, or plain shares, none smaller than the previous one and no two equal; for several candidates, a share
            each by name. A last "100%" may be written or left out.
        guardrails: Metrics that must not get worse; by default, the error rate.
        gates: Metrics that must get better before the next step.
        shadow: Share of the control's calls on which the candidates also run in the background, in every step without a value
            of its own.
        alpha: Maximum probability, over the whole rollout and however often it is looked at, that a candidate which is not
            worse is rolled back; and likewise that one which is worse than its margins passes.
        freeze: Windows in which no step is taken.
        approve: Called before every further step with the verdict; the step waits until it returns True.
        max_calls_per_unit: Calls per unit that count in a step, so that a bot cannot decide; None: all count.
        horizon: Planned end of every gate without one of its own: units of both arms together (an int), or time since
            the rollout started ("14d"). See `Gate`.
    """

    name = "canary"
    # The plan may change while the rollout runs; its effect on a call is recorded as the call's phase.
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
        """Build the criteria, which validates them."""
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
        compared = next((each.metric for each in criteria.guardrails if is_compared(each.metric)), None)
        if compared is not None and not any(step.only_shadows for step in criteria.steps):
            raise ConfigurationError(
                f"Guardrail({compared!r}) of Canary would never have data: answers are compared in steps that only shadow. "
                "Begin with one: Step('0%', shadow='100%')."
            )
        object.__setattr__(self, "criteria", criteria)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Canary:
        """Create a canary from a plan in a TOML file; see `rollout_sdk.plan.table` and docs/canary.md.

        Args:
            path: The file.
            options: Options that a file cannot contain: `approve`.

        Raises:
            ConfigurationError: The file cannot be read, or contains an invalid setting.
        """
        read = load_criteria(path)
        options_read = {name: getattr(read, name) for name in _IN_A_FILE}
        return cls(**options_read, **options)

    @property
    def shadows(self) -> bool:
        """Whether it may shadow, which requires effects="read"."""
        return any(step.shadow for step in self.criteria.steps)

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Return a phase for every step.

        Raises:
            ConfigurationError: There is no step, or one is smaller than the previous one or equal to it.
        """
        return planned_phases(self.criteria, control, candidates)

    @by_lanes(lambda _strategy, phase: phase.shadow)
    def rollout_route(self, request: RouteRequest) -> Decision:
        """Return the variant whose lane contains the unit."""
        phase = request.phase
        if phase.shadow and request.draw < phase.shadow:
            return phase.split.decide_shadowed(request.point)
        return phase.split.decide(request.point)


def planned_phases(criteria: Criteria, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
    """Return a phase for every step.

    Raises:
        ConfigurationError: There is no step, or one is smaller than the previous one or equal to it.
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
    """Return the strategy of this module, by name."""
    return {"canary": Canary}
