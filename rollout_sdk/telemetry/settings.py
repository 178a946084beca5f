"""Settings: which telemetry is emitted, and what it may disclose."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import field, frozen, validators

from rollout_sdk.concurrency.synchronous import must_answer_at_once
from rollout_sdk.exceptions import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from rollout_sdk.assignment import RouteRequest

__all__ = ["Captured", "Telemetry"]

Captured: TypeAlias = str | int | float | bool
"""The type of a captured value."""


def _names(names: Collection[str]) -> frozenset[str]:
    if isinstance(names, str):
        raise ConfigurationError(
            f"exclude_attributes={names!r:.60} of Telemetry is a text. It lists names of attributes. Write [{names!r:.60}]."
        )
    return frozenset(names)


def _choice(*choices: str) -> Any:
    return field(default=choices[0], validator=validators.in_(choices))


@frozen(kw_only=True)
class Telemetry:
    """Which signals a runtime emits. Without an OpenTelemetry SDK, nothing is emitted or printed.

    Unit ids, payloads and exception messages are in no signal unless these settings enable them.

    Attributes:
        spans: "all": `route`, `invoke`, `shadow` and `transition` spans. "route": `invoke` is folded into `route`, for very hot
            functions. "off": none.
        shadow_spans: "link": a shadow has its own trace with a link to the call, because as a child it would make the call look
            slow. "child": it is a child, for backends that can only show trees.
        flag_events: Where events go. "span": on their spans. "log": through the Logs API, with their spans' traces, which is
            the future of OpenTelemetry; also with spans="off", and on the spans while the application has no logger provider.
            "off": on the spans, without those of decisions (`feature_flag.evaluation`) and transitions.
        evaluation_results: Whether recorded outcomes and comparisons of shadows are emitted through the Logs API as
            `gen_ai.evaluation.result`, for tools that show scores with traces.
        metrics: Whether metrics are emitted.
        decision_duration: Whether the duration of decisions is measured as well.
        logs: Whether structlog events are emitted.
        bind_logs: Whether `rollout_key`, `rollout_variant` and `rollout_decision_id` are bound to structlog's context variables
            while a variant runs, so that the model's own log lines have them.
        unit_id: "omit": no signal has the unit. "hash": `route` spans have its pseudonym, as in the journal; the runtime needs
            a key, because a hash without one can be reversed by trying all ids. "raw": they have the unit itself.
        capture: Called with the request of a call whose span is recorded; returns values by name (text of up to 2 KiB, numbers,
            booleans) for attributes `rollout.captured.<name>` of the `route` span.
        redact: Called with each captured name and value; returns the value to export, or None to leave it out.
        exception_messages: Whether the `exception` event of a span has the message and stack trace, which may contain payload.
        exclude_attributes: Names of attributes that no span and no event gets.
        propagate: Whether baggage `rollout.<key>=<variant>` goes to everything that a variant calls, including services of
            third parties.
        namespace: The environment, as `feature_flag.set.id`; empty for none.
        tracer_provider: Receives spans; by default the global provider.
        meter_provider: Receives metrics; by default the global provider.
        logger_provider: Receives log records of events; by default the global provider.
    """

    spans: Literal["all", "route", "off"] = _choice("all", "route", "off")
    shadow_spans: Literal["link", "child"] = _choice("link", "child")
    flag_events: Literal["span", "log", "off"] = _choice("span", "log", "off")
    evaluation_results: bool = False
    metrics: bool = True
    decision_duration: bool = False
    logs: bool = True
    bind_logs: bool = False
    unit_id: Literal["omit", "hash", "raw"] = _choice("omit", "hash", "raw")
    capture: Callable[[RouteRequest], Mapping[str, Captured]] | None = field(
        default=None, validator=validators.optional(validators.is_callable())
    )
    redact: Callable[[str, Captured], Captured | None] | None = field(
        default=None, validator=validators.optional(validators.is_callable())
    )
    exception_messages: bool = False
    exclude_attributes: Collection[str] = field(default=(), converter=_names)
    propagate: bool = False
    namespace: str = ""
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse asynchronous functions."""
        for option in ("capture", "redact"):
            must_answer_at_once(f"{option}= of Telemetry", getattr(self, option), "Make it a plain function.")

    @property
    def surrounds(self) -> bool:
        """Whether a variant runs with baggage or fields for log lines."""
        return self.bind_logs or self.propagate
