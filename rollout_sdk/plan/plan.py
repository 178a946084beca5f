"""The plan of a rollout: its steps, criteria, and freeze windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import Factory, evolve, field, frozen

from rollout_sdk.assignment import Share, parse_share, percent
from rollout_sdk.concurrency.synchronous import must_answer_at_once
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan.checks import Duration, as_horizon, as_segments, parse_duration
from rollout_sdk.plan.criteria import ERROR_RATE, Criterion, Gate, Guardrail, is_compared, is_judged
from rollout_sdk.plan.freeze import Freeze

__all__ = ["DEFAULT_GUARDRAILS", "Criteria", "Step", "as_steps"]

DEFAULT_GUARDRAILS = (Guardrail(ERROR_RATE),)

_MIN_UNITS = 100
_MIN_TIME_S = 600.0


def _as_time(value: Duration) -> float:
    return parse_duration(value, "min_time of a Step")


def _as_deadline(value: Duration | None) -> float | None:
    return None if value is None else parse_duration(value, "max_time of a Step")


def _as_shadow(value: Share) -> float:
    return parse_share(value, "shadow share of a Step")


def _as_share(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: parse_share(each, f"share of {name!r}") for name, each in value.items()}
    return parse_share(value, "share of a Step")


@frozen
class Step:
    """A period of constant shares, and the minimum it must have seen before the next step.

    Attributes:
        share: Share of the candidate; for several, a share per name.
        min_units: Minimum number of units in every arm in this step.
        min_time: Minimum duration: "30m", or seconds.
        max_time: Maximum wait for a verdict; after that the rollout is paused for a person to decide. Never counts as success.
        shadow: Share of the control's calls on which the candidates also run in the background; with share 0, no candidate
            serves yet.
    """

    share: float | Mapping[str, float] = field(converter=_as_share)
    min_units: int = field(default=_MIN_UNITS, kw_only=True)
    min_time: float = field(default=_MIN_TIME_S, kw_only=True, converter=_as_time)
    max_time: float | None = field(default=None, kw_only=True, converter=_as_deadline)
    shadow: float = field(default=0.0, kw_only=True, converter=_as_shadow)

    def __attrs_post_init__(self) -> None:
        """Reject a step that can never end."""
        if isinstance(self.min_units, bool) or not isinstance(self.min_units, int) or self.min_units < 0:
            raise ConfigurationError(
                f"min_units={self.min_units!r:.40} of Step({self.label}) is not a whole number from 0 on. Write min_units=1000."
            )
        if self.max_time is not None and self.max_time <= self.min_time:
            raise ConfigurationError(
                f"Step({self.label}) lasts at least {self.min_time:g} s and at most {self.max_time:g} s. It can never pass. "
                "Make max_time longer than min_time."
            )

    @property
    def serves_everybody(self) -> bool:
        """Whether a candidate serves all units."""
        return max(self.share.values(), default=0.0) >= 1 if isinstance(self.share, Mapping) else self.share >= 1

    @property
    def only_shadows(self) -> bool:
        """Whether no candidate serves, and some run in the background."""
        shares = self.share.values() if isinstance(self.share, Mapping) else (self.share,)
        return self.shadow > 0 and not any(shares)

    @property
    def label(self) -> str:
        """The share as text."""
        if isinstance(self.share, Mapping):
            return ",".join(f"{name}={percent(share)}" for name, share in self.share.items())
        return percent(self.share)


def as_steps(steps: Any) -> tuple[Step, ...]:
    """Convert steps and plain shares to steps.

    Raises:
        ConfigurationError: The value is not a list, or one element is neither.
    """
    if isinstance(steps, str | Mapping | Step) or not isinstance(steps, Iterable):
        raise ConfigurationError(
            f"The steps of Canary are {steps!r:.60}. A canary has a list of shares. Write Canary([{steps!r:.60}])."
        )
    return tuple(step if isinstance(step, Step) else Step(step) for step in steps)


def _listed(kind: type, values: Any) -> tuple[Any, ...]:
    listed = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    wrong = [value for value in listed if not isinstance(value, kind)]
    if wrong:
        raise ConfigurationError(
            f"{wrong[0]!r:.60} is not a {kind.__name__}. Pass a list of them. Write [{kind.__name__}(...)]."
        )
    return listed


def _guardrails(values: Any) -> tuple[Guardrail, ...]:
    return _listed(Guardrail, values)


def _gates(values: Any) -> tuple[Gate, ...]:
    return _listed(Gate, values)


def _freeze(values: Any) -> tuple[Freeze, ...]:
    return _listed(Freeze, values)


@frozen(kw_only=True)
class Criteria:
    """The criteria of a rollout.

    Attributes:
        steps: Requirements of each step, by index.
        guardrails: Metrics that must not get worse.
        gates: Metrics that must get better.
        alpha: Maximum probability of rolling back a candidate that is not worse, or of passing one that is: over the whole
            rollout, however often it is looked at.
        freeze: Windows in which no step is taken.
        approve: Called before every further step with the verdict; the step waits until it returns True.
        max_calls_per_unit: Calls per unit that count in a phase; further ones are served but not judged. None: all count.
        horizon: Planned end of every gate without one of its own; see `Gate`.
        segments: Values by which the report also splits each attribute of a call; see `ABTest`.
        acts: Whether verdicts change the rollout, as a canary's do; False: they are only returned and reported.
    """

    steps: tuple[Step, ...] = field(default=(), converter=as_steps)
    guardrails: tuple[Guardrail, ...] = field(default=DEFAULT_GUARDRAILS, converter=_guardrails)
    gates: tuple[Gate, ...] = field(default=(), converter=_gates)
    alpha: float = 0.05
    freeze: tuple[Freeze, ...] = field(default=(), converter=_freeze)
    approve: Callable[[Any], bool] | None = None
    max_calls_per_unit: int | None = None
    horizon: int | float | None = field(default=None, converter=as_horizon)
    segments: Mapping[str, Sequence[Any]] = field(default=None, converter=as_segments)
    acts: bool = True
    decides: bool = field(init=False, default=Factory(lambda self: bool(self.guardrails or self.gates), takes_self=True))

    def __attrs_post_init__(self) -> None:
        """Reject contradictory criteria."""
        *before, last = self.steps or (None,)
        if before and last is not None and last.serves_everybody:
            # It leaves no control to compare with: it is the promotion, not a step.
            object.__setattr__(self, "steps", tuple(before))
        if self.horizon is not None:
            gates = (
                evolve(gate, horizon=self.horizon) if gate.horizon is None and not is_judged(gate.metric) else gate
                for gate in self.gates
            )
            object.__setattr__(self, "gates", tuple(gates))
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, float) or not 0 < self.alpha < 0.5:
            raise ConfigurationError(
                f"alpha={self.alpha!r:.40} is not an error probability. It lies between 0 and .5. Write alpha=0.05."
            )
        labels = [each.label for each in self.all]
        twice = [label for label in labels if labels.count(label) > 1]
        if twice:
            raise ConfigurationError(
                f"{twice[0]!r:.60} is judged twice. A metric is one guardrail or one gate, so that its verdict has one name. "
                "Leave one of them out."
            )
        most = self.max_calls_per_unit
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ConfigurationError(
                f"max_calls_per_unit={most!r:.40} is not a number of calls. It is a whole number from 1 on, or None. "
                "Write max_calls_per_unit=100."
            )
        if self.approve is not None and not callable(self.approve):
            raise ConfigurationError(f"approve={self.approve!r:.60} of Canary cannot be called. Pass a function of a verdict.")
        must_answer_at_once(
            "approve= of Canary",
            self.approve,
            "Pass a plain function of a verdict. It runs in its own thread, and may wait there, such as by asyncio.run().",
        )

    @classmethod
    def of_test(
        cls,
        guardrails: Sequence[Guardrail] = (),
        gates: Sequence[Gate] = (),
        *,
        alpha: float = 0.05,
        horizon: Any = None,
        segments: Mapping[str, Sequence[Any]] | None = None,
    ) -> Criteria:
        """Return the criteria of a test with constant shares (A/B, shadow, interleaved), whose verdict changes nothing."""
        # One step, so that it passes as a canary's does, at any time. Interleaved lists have no arms that could lack units.
        blends = any(isinstance(each, Gate) and each.per == "list" for each in _listed(Gate, gates))
        step = Step(0.0, min_units=0 if blends else _MIN_UNITS, min_time=0.0)
        return cls(
            steps=(step,),
            guardrails=guardrails,
            gates=gates,
            alpha=alpha,
            horizon=horizon,
            segments=segments,
            acts=False,
        )

    @property
    def all(self) -> tuple[Criterion, ...]:
        """The guardrails and the gates."""
        return (*self.guardrails, *self.gates)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about combinations of options that are probably unintended."""
        found = [
            f"{each.label}: harm={each.harm:g} is less than a tenth of margin={each.margin:g}: a candidate that you would "
            "accept is rolled back once there is enough data."
            for each in self.guardrails
            if each.margin is not None and each.harm is not None and each.harm < each.margin / 10
        ]
        shadowing = next((step.label for step in self.steps if step.only_shadows), None)
        if shadowing is not None and not any(is_compared(each.metric) for each in self.guardrails):
            found.append(
                f"step {shadowing} only shadows, and no guardrail judges the answers: a candidate whose every answer differs "
                "passes it. Add Guardrail('shadow.mismatch', margin=0.02)."
            )
        return tuple(found)

    def step(self, index: int) -> Step | None:
        """Return the step of this index; None before the first."""
        return self.steps[index] if 0 <= index < len(self.steps) else None

    def frozen_by(self, now_s: float) -> Freeze | None:
        """Return the freeze window that is open at this time, if any."""
        return next((freeze for freeze in self.freeze if freeze.holds(now_s)), None)
