"""Generates the contract as a registry for OpenTelemetry Weaver, against which tools check live telemetry.

The registry is in the first format of its schema (`groups:`), which every version of Weaver reads. Attributes of the semantic
conventions are references to their registry; ours are defined here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rollout_sdk._version import __version__
from rollout_sdk.telemetry import names
from tools.telemetry_contract.rows import Attribute, Event, Metric, Span
from tools.telemetry_contract.signals import METRIC_ATTRIBUTES, METRICS
from tools.telemetry_contract.spans import EVENTS, SPANS

__all__ = ["as_registry"]

_OURS = "rollout."
_CONVENTIONS = names.SCHEMA_URL.rpartition("/")[2]
_TYPES = {"str": "string", "bool": "boolean", "int": "int", "float": "double"}
_INSTRUMENTS = {
    "histogram": "histogram",
    "observable counter": "counter",
    "observable up-down counter": "updowncounter",
    "observable gauge": "gauge",
}
_EXAMPLES: dict[str, Any] = {
    names.DECISION_ID: "MR9zaG9wLnJhbmsfMDo1MCUfY29udHJvbB9iZB8xYTIyNWVkOGNlOR9m",
    names.FINGERPRINT: "488bf093",
    names.CANDIDATES_VERSION: "2026-11-28",
    names.PHASE: "1:5%",
    names.PHASE_PREVIOUS: "0:1%",
    names.FALLBACK_VARIANT: "control",
    names.INTERLEAVE_METHOD: "team_draft",
    names.INTERLEAVE_VARIANTS: ["control", "v2"],
    names.BATCH_VARIANTS: ["control=88", "v2=12"],
    names.ORIGIN_TRACE: "0af7651916cd43dd8448eb211c80319c",
    names.ORIGIN_SPAN: "b7ad6b7169203331",
    names.SHADOW_END: ["ok", "error", "timeout"],
    names.COMPARISON_NAME: "default",
    names.TRANSITION_ID: "9f86d081884c7d65",
    names.GATE_NAME: "error_rate",
    names.TRANSITION_VARIANTS: ["control", "v2"],
}
"""Examples of attributes whose meaning contains none."""

_HEAD = "# Generated from the table in tools/telemetry_contract: python -m tools.telemetry_contract --weaver contrib/weaver\n"


def as_registry() -> dict[str, str]:
    """Return the files of the registry by name."""
    manifest = {
        "name": names.SCOPE,
        "description": "Telemetry of rollout_sdk: A/B tests, canaries, shadows and interleaving of models.",
        "schema_url": f"https://rollout-sdk.invalid/schemas/{__version__}",
        "dependencies": [
            {
                "schema_url": names.SCHEMA_URL,
                "registry_path": f"https://github.com/open-telemetry/semantic-conventions@v{_CONVENTIONS}[model]",
            }
        ],
    }
    files = {
        "manifest.yaml": manifest,
        "attributes.yaml": {"groups": [_definitions()]},
        "spans.yaml": {"groups": [_span(each) for each in SPANS]},
        "events.yaml": {"groups": [_event(each) for each in EVENTS]},
        "metrics.yaml": {"groups": [_metric(each) for each in METRICS]},
    }
    return {name: _HEAD + "\n".join(_yaml(content)) + "\n" for name, content in files.items()}


def _definitions() -> dict[str, Any]:
    """Return every attribute of our own, with its first description."""
    rows = [each for row in (*SPANS, *EVENTS) for each in row.attributes]
    ours: dict[str, Attribute] = {}
    for each in (*rows, *METRIC_ATTRIBUTES):
        if each.name.startswith(_OURS):
            ours.setdefault(each.name, each)
    return {
        "id": "registry.rollout",
        "type": "attribute_group",
        "display_name": "Rollout attributes",
        "brief": "Attributes of rollouts, their decisions, runs and transitions.",
        "attributes": [_definition(each) for _, each in sorted(ours.items())],
    }


def _definition(attribute: Attribute) -> dict[str, Any]:
    kind, _, is_list = attribute.type.partition("[")
    made = {"id": attribute.name.removesuffix("."), "type": _TYPES.get(kind, "any") + ("[]" if is_list else "")}
    if attribute.name.endswith("."):
        made["type"] = f"template[{made['type']}]"
    defined: dict[str, Any] = {**made, "stability": "development", "brief": _sentence(attribute.meaning)}
    if kind == "str":
        defined["examples"] = _EXAMPLES.get(attribute.name) or re.findall(r"`([\w=]+)`", attribute.meaning)
        if is_list:
            defined["examples"] = [defined["examples"]]
    return defined


def _span(span: Span) -> dict[str, Any]:
    name = span.name.split()[0]
    link = f" Link: {span.link}." if span.link else ""
    return {
        "id": f"span.rollout.{name}",
        "type": "span",
        "span_kind": "internal",
        "stability": "development",
        "brief": f"One for each {span.one_per}.",
        "note": f"Its name is `{span.name}`. Parent: {span.parent}.{link}",
        "attributes": [_reference(each) for each in span.attributes],
        "events": [_event_id(event) for event in EVENTS if name in event.on.split()],
    }


def _event_id(event: Event) -> str:
    # The conventions have their own events with some of these names.
    return f"event.rollout_sdk.{event.name}"


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": _event_id(event),
        "type": "event",
        "name": event.name,
        "stability": "development",
        "brief": _sentence(f"for {event.when}"),
        "attributes": [_reference(each) for each in event.attributes],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "id": f"metric.{metric.name}",
        "type": "metric",
        "metric_name": metric.name,
        "stability": "development",
        "brief": _sentence(metric.meaning),
        "instrument": _INSTRUMENTS[metric.instrument],
        "unit": metric.unit,
        "attributes": [
            {"ref": name.removesuffix("?"), "requirement_level": _level("there is one" if name.endswith("?") else "")}
            for name in metric.attributes
        ],
    }


def _reference(attribute: Attribute) -> dict[str, Any]:
    return {
        "ref": attribute.name.removesuffix("."),
        "brief": _sentence(attribute.meaning),
        "requirement_level": _level(attribute.when),
    }


def _level(when: str) -> Any:
    if not when:
        return "required"
    # Attributes that need a setting are optional.
    return "opt_in" if "Telemetry(" in when else {"conditionally_required": f"If {when}."}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _yaml(value: Any) -> Iterator[str]:
    """A value in lines; texts are in quotes, as in JSON, of which YAML is a superset."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _under(f"{name}:", each)
    else:
        for each in value:
            first, *others = _yaml(each) if _is_block(each) else [json.dumps(each, ensure_ascii=False)]
            yield f"- {first}"
            yield from (f"  {line}" for line in others)


def _under(name: str, value: Any) -> Iterable[str]:
    if _is_block(value):
        return name, *(f"  {line}" for line in _yaml(value))
    return (f"{name} {json.dumps(value, ensure_ascii=False)}",)


def _is_block(value: Any) -> bool:
    """Whether it takes several lines: a mapping, or a list of them."""
    return isinstance(value, Mapping) or (
        isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(each, Mapping) for each in value)
    )
