"""A sampler for the application's own tracer provider. Needs the OpenTelemetry SDK: the extra `[otel]`.

    TracerProvider(sampler=RolloutSampler(ParentBased(TraceIdRatioBased(0.1))))

or, where the SDK is set up by its environment: `OTEL_TRACES_SAMPLER=rollout_parentbased_traceidratio` and
`OTEL_TRACES_SAMPLER_ARG=0.1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.telemetry import names

try:
    from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
except ModuleNotFoundError as error:
    message = "rollout_sdk.otel needs the OpenTelemetry SDK, which is not installed. Run: pip install 'rollout-sdk[otel]'"
    raise ModuleNotFoundError(message, name=error.name) from error
from opentelemetry.trace import get_current_span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind
    from opentelemetry.trace.span import TraceState
    from opentelemetry.util.types import Attributes

__all__ = ["RolloutSampler", "parent_based_ratio"]


class RolloutSampler(Sampler):
    """Samples a shadow exactly if its call is sampled, and always samples transitions.

    A shadow has its own trace: a 10 % sampler would keep only 1 % of the pairs of a call and its shadow. Transitions are rare.
    The wrapped sampler decides about all other spans. Shadows and transitions are identified by `rollout.link.type` and
    `rollout.transition.action`, which must not be excluded.
    """

    def __init__(self, sampler: Sampler) -> None:
        """Wrap the sampler for all other spans, such as `ParentBased(TraceIdRatioBased(0.1))`."""
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Follow the call for a shadow, sample a transition, and ask the wrapped sampler otherwise."""
        for link in links or ():
            if link.attributes and link.attributes.get(names.LINK_TYPE) == names.SHADOW_OF:
                return _answer(link.context.trace_flags.sampled, parent_context, attributes)
        if attributes and names.TRANSITION_ACTION in attributes:
            return _answer(True, parent_context, attributes)
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Name the sampler, as its provider says it."""
        return f"RolloutSampler{{{self._sampler.get_description()}}}"


def parent_based_ratio(ratio: str | float | None = None) -> RolloutSampler:
    """The sampler of `OTEL_TRACES_SAMPLER=rollout_parentbased_traceidratio`.

    Args:
        ratio: Share of the traces to keep: a number, or its text in `OTEL_TRACES_SAMPLER_ARG`; None and "" for all.

    Raises:
        ConfigurationError: It is not a number from 0 to 1.
    """
    try:
        return RolloutSampler(ParentBased(TraceIdRatioBased(1.0 if ratio in (None, "") else float(ratio))))
    except ValueError as error:
        raise ConfigurationError(
            f"OTEL_TRACES_SAMPLER_ARG={ratio!r:.60} is not a share of the traces. It must be a number from 0 to 1, such as 0.1."
        ) from error


def _answer(sampled: bool, parent: Context | None, attributes: Attributes) -> SamplingResult:  # noqa: FBT001 - the only caller is here
    decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP
    state = get_current_span(parent).get_span_context().trace_state
    return SamplingResult(decision, attributes if sampled else None, state)
