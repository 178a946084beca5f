"""Generates docs/telemetry.md from the rows."""

from __future__ import annotations

from collections.abc import Iterable

from rollout_sdk.telemetry import names
from tools.telemetry_contract.rows import Attribute, Event, Metric, Span
from tools.telemetry_contract.signals import LOGS, METRICS
from tools.telemetry_contract.spans import EVENTS, SPANS

__all__ = ["as_markdown"]

_INTRODUCTION = """\
# The telemetry contract

*Generated from one table in the code (`python -m tools.telemetry_contract`); a test compares it with what a real run exports.*

Scope of tracer and meter: `{scope}`, the version of the package, schema URL `{schema}`.
Spans, metrics and log events go through the application's own OpenTelemetry and structlog; without them nothing is emitted and
nothing is printed. How to use them, with real backends, is in [observability.md](observability.md).

No unit, payload or message of an exception is in any signal unless `Telemetry(...)` enables it. Decision ids, units, buckets,
versions and phases are on no metric. Results are computed from the journal, and never from sampled spans.

A span is ERROR, with `error.type` and one `exception` event on the innermost span, when a model raised; `route` is ERROR only
when the caller saw the exception. The span of a run whose answer `failed_if` calls a failure is ERROR with `error.type`
`failed_if`, and has no `exception` event. It is UNSET otherwise, cancelled calls included.

## Once each

A transition from any source (a controller, the command line, the control file, another process's judge) is announced **once in
every process that follows it**: one call of each observer, one span, one log event and one count, with the actor and
the reason of the store's history, usually within a second. A process that misses some, because two came together or the store
did not answer, announces them later, in order. It announces the transitions since it began to follow.

So eight processes with one store announce one abort eight times. The id identifies it: `{id}` of the span,
`transition_id` of the log event, `id` of the event, of the journal's line and of the history. `rollout report`,
`rollout replay` and `rollout doctor` count an id once. Counters have no id: take the largest of the processes (`max`), not
the sum; every process counts its own start. Without a store, every process has its own state, and its own
transitions.
"""


_EVENTS = """\
## Events

OpenTelemetry is about to deprecate events on spans. With `Telemetry(flag_events="log")`, and as soon as the application has a
logger provider, every event is a log record: its name is the record's event name, it has the trace of its span, and no span
has events. Its severity is INFO, or ERROR for `exception`. Decisions and transitions have their records also
with `spans="off"`, regardless of sampling.
"""


def as_markdown() -> str:
    """Return the text of docs/telemetry.md."""
    return "\n".join(
        [
            _INTRODUCTION.format(scope=names.SCOPE, schema=names.SCHEMA_URL, id=names.TRANSITION_ID),
            "## Spans\n",
            *(part for span in SPANS for part in _span(span)),
            _EVENTS,
            *(part for event in EVENTS for part in _event(event)),
            "## Metrics\n",
            "| metric | instrument | unit | what it measures | attributes |",
            "|---|---|---|---|---|",
            *(_metric(metric) for metric in METRICS),
            "\nBuckets of `rollout.call.duration`, in seconds: "
            + ", ".join(f"{bound:g}" for bound in names.DURATION_BUCKETS)
            + f".\nValues of an attribute beyond {names.MOST_WORDS} (variants: {names.MOST_VARIANTS}) become `_OTHER`."
            "\nIn Prometheus, dots are underscores; `_total`, `_seconds` and, from some exporters, `_ratio` are appended.\n",
            "## Log events\n",
            "| event | level | when | fields |",
            "|---|---|---|---|",
            *(f"| `{log.name}` | {log.level} | {log.meaning} | {_listed(log.fields)} |" for log in LOGS),
            "",
        ]
    )


def _span(span: Span) -> Iterable[str]:
    link = f" Link: {span.link}." if span.link else ""
    return f"### `{span.name}`\n", f"One for each {span.one_per}. Parent: {span.parent}.{link}\n", *_attributes(span.attributes)


def _event(event: Event) -> Iterable[str]:
    where = "On " + " and ".join(f"`{name}`" for name in event.on.split()) if event.on else ""
    if event.setting:
        where += f"; a log record with `{event.setting}`" if where else f"A log record with `{event.setting}`"
    return f"### `{event.name}`\n", f"{where}: for {event.when}.\n", *_attributes(event.attributes)


def _attributes(attributes: Iterable[Attribute]) -> Iterable[str]:
    yield "| attribute | type | meaning | present if |"
    yield "|---|---|---|---|"
    for each in attributes:
        name = f"{each.name}<name>" if each.name.endswith(".") else each.name
        yield f"| `{name}` | {each.type} | {each.meaning} | {each.when or 'always'} |"
    yield ""


def _metric(metric: Metric) -> str:
    meaning = f"{metric.meaning} ({metric.when})" if metric.when else metric.meaning
    return f"| `{metric.name}` | {metric.instrument} | `{metric.unit}` | {meaning} | {_listed(metric.attributes)} |"


def _listed(names_: Iterable[str]) -> str:
    return ", ".join(f"`{name.removesuffix('?')}`{'?' if name.endswith('?') else ''}" for name in names_)
