"""Generates the JSON schema of `rollout report --json` from the report's classes.

Run it: python -m tools.report_schema docs/report.schema.json
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from rollout_sdk.analysis.report import SCHEMA, Report

__all__ = ["schema"]

_PLAIN: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema() -> dict[str, Any]:
    """Return the schema (JSON Schema, draft 2020-12)."""
    known: dict[str, Any] = {}
    report = _of_class(Report, known)
    report["properties"] = {"schema": {"const": SCHEMA}, **report["properties"]}
    report["required"] = ["schema", *report["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"rollout report --json, version {SCHEMA}",
        **report,
        "$defs": dict(sorted(known.items())),
    }


def _of_class(made: type, known: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(made)
    properties = {each.name: _of(hints[each.name], known) for each in attrs.fields(made)}
    return {
        "description": (made.__doc__ or "").split("\n", 1)[0],
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _of(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind is Any:
        return {}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(each, known) for each in inner]}
    if origin is tuple:
        return {"type": "array", "items": _of(inner[0], known)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(inner[1], known)}
    if attrs.has(kind):
        name = kind.__name__
        if name not in known:
            known[name] = {}
            known[name] = _of_class(kind, known)
        return {"$ref": f"#/$defs/{name}"}
    raise TypeError(f"{kind!r} has no schema. Add its form to tools.report_schema.")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(schema(), indent=1) + "\n")
