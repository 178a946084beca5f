"""Shadow test: the candidate runs on live traffic, and its output is never served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from rollout_sdk.assignment import Phase, RouteRequest, Share, parse_share
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan import Criteria, Gate, Guardrail
from rollout_sdk.records import Decision
from rollout_sdk.strategies.phases import by_lanes

__all__ = ["Shadow", "rollout_strategies"]


def _rate(share: Share) -> float:
    return parse_share(share, "rate of Shadow")


@frozen
class Shadow:
    """The control answers every call; on a share of the calls, every candidate also runs in the background.

    With guardrails and gates, `judge()` and `rollout report` say whether the candidate is good enough for users to see it. They
    compare the two runs of the same calls. A verdict changes nothing by itself.

    Attributes:
        rate: Share of the calls that are shadowed, drawn per call.
        where: "thread" (the default), or "process": candidates run in worker processes, so that a crash, a memory leak or C
            code that holds the interpreter's lock stays there. For plain functions at the top of a module, whose arguments
            and answers can be pickled.
        guardrails: Metrics that must not get worse: those that the SDK measures, those of `measure=`, the preference of a
            judge, and metrics recorded for both answers.
        gates: Metrics of these that must get better.
        alpha: Maximum probability, however often it is looked at, that a candidate which is not worse fails, and likewise
            that one which is worse than its margins passes.
    """

    name = "shadow"
    # What a shadow is judged by may be declared while it runs.
    not_fingerprinted = ("guardrails", "gates", "alpha")

    rate: float = field(default=0.1, converter=_rate)
    where: Literal["thread", "process"] = field(default="thread", kw_only=True)
    guardrails: Sequence[Guardrail] = field(default=(), kw_only=True)
    gates: Sequence[Gate] = field(default=(), kw_only=True)
    alpha: float = field(default=0.05, kw_only=True)
    criteria: Criteria = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Build the criteria, which validates them.

        Raises:
            ConfigurationError: `where` is unknown, or a criterion cannot be judged.
        """
        if self.where not in ("thread", "process"):
            raise ConfigurationError(f"where={self.where!r:.40} of Shadow is unknown. It must be 'thread' or 'process'.")
        object.__setattr__(self, "criteria", Criteria.of_test(self.guardrails, self.gates, alpha=self.alpha))

    @property
    def shadows(self) -> bool:
        """Whether it may shadow, which requires effects="read"."""
        return self.rate > 0

    def rollout_phases(self, control: str, candidates: tuple[str, ...]) -> Sequence[Phase]:
        """Return one phase in which no candidate serves."""
        return [Phase("shadow", dict.fromkeys(candidates, 0.0), control, shadow=self.rate)]

    @by_lanes(lambda strategy, _phase: strategy.rate)
    def rollout_route(self, request: RouteRequest) -> Decision:
        """Return the control, with shadows on a share of the calls."""
        if request.draw < self.rate:
            return request.phase.split.decide_shadowed(request.point)
        return request.phase.split.decide(request.point)


def rollout_strategies() -> Mapping[str, type]:
    """Return the strategy of this module, by name."""
    return {"shadow": Shadow}
