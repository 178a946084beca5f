"""A plan as a TOML table, accepted as a whole or not at all.

alpha = 0.05
max_calls_per_unit = 100
horizon = "14d"
steps = [{ share = "1%", min_units = 1000, min_time = "30m", max_time = "2d" }, "5%", "25%"]

[[guardrails]]
metric = "error_rate"
margin = 0.5
burst = "1m"
on_fail = "pause"

[[gates]]
metric = "click"
window = "1h"

[[freeze]]
start = "16:00"
end = "08:00"
days = ["fri"]
zone = "Europe/Berlin"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, fields

from rollout_sdk.assignment import parse_share
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.plan.criteria import Gate, Guardrail
from rollout_sdk.plan.freeze import Freeze
from rollout_sdk.plan.plan import Criteria, Step

__all__ = ["as_criteria", "from_written", "load_criteria"]

_OPTIONS = ("alpha", "max_calls_per_unit", "horizon")
"""Options of `Criteria` that are values, not lists of tables."""

_KNOWN = ("steps", "shadow", *_OPTIONS, "guardrails", "gates", "freeze")
_MOST_BYTES = 1 << 20


def load_criteria(path: str | os.PathLike[str]) -> Criteria:
    """Read the plan from a TOML file.

    Raises:
        ConfigurationError: The file cannot be read, or contains an invalid setting.
    """
    import tomllib

    try:
        raw = Path(path).read_bytes()[: _MOST_BYTES + 1]
        table = tomllib.loads(raw.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"The plan {str(path)!r} cannot be read: {error}. A plan is a TOML file. See docs/canary.md for one."
        ) from None
    return as_criteria(table, f"The plan {str(path)!r}")


def as_criteria(table: Mapping[str, Any], subject: str) -> Criteria:
    """Build the plan from a table.

    Args:
        table: The table.
        subject: Subject of error messages.

    Raises:
        ConfigurationError: The table contains an unknown or invalid setting.
    """
    _check_known(table, _KNOWN, subject)
    steps = table.get("steps")
    if not isinstance(steps, list) or not steps:
        raise ConfigurationError(
            f'{subject} has no steps. A canary starts with a first share. Write steps = ["1%", "10%", "50%"].'
        )
    try:
        shadow = parse_share(table.get("shadow", 0.0), "shadow share")
        made = [_made(Step, step, subject) if isinstance(step, dict) and "share" in step else Step(step) for step in steps]
        listed = {name: [_made(kind, each, subject) for each in _tables(table, name, subject)] for name, kind in _KINDS.items()}
        options: dict[str, Any] = {name: listed[name] for name in _KINDS if name in table}
        options.update({name: table[name] for name in _OPTIONS if name in table})
        return Criteria(steps=[each if each.shadow else evolve(each, shadow=shadow) for each in made], **options)
    except ConfigurationError as error:
        raise error if str(error).startswith(subject) else ConfigurationError(f"{subject}: {error}") from None


def from_written(table: Mapping[str, Any]) -> Criteria | None:
    """Rebuild the criteria from `written`, as a journal holds them; None if nothing was declared.

    Raises:
        ConfigurationError: The table is damaged, or was written by a later version of the SDK.
    """
    subject = "The plan in the journal"
    plain = {name: value for name, value in table.items() if name != "approve"}
    if "steps" in plain:
        return as_criteria(plain, subject)
    if not plain:
        return None
    segments = plain.pop("segments", None)
    read = as_criteria({"guardrails": [], **plain, "steps": ["50%"]}, subject)
    return Criteria.of_test(read.guardrails, read.gates, alpha=read.alpha, segments=segments)


_KINDS: Mapping[str, type] = {"guardrails": Guardrail, "gates": Gate, "freeze": Freeze}


def _tables(table: Mapping[str, Any], name: str, subject: str) -> list[Mapping[str, Any]]:
    found = table.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ConfigurationError(f"{subject} has {name} that are not a list of tables. Write [[{name}]].")
    return found


def _made(kind: type, table: Mapping[str, Any], subject: str) -> Any:
    known = [each.name for each in fields(kind) if each.init]
    _check_known(table, known, f"{subject}, {kind.__name__}")
    needed = [each.name for each in fields(kind) if each.init and each.name not in table and each.name in _NEEDED]
    if needed:
        raise ConfigurationError(
            f"{subject} has a {kind.__name__} without {needed[0]}. It needs one. Write {needed[0]} = ... in it."
        )
    return kind(**table)


_NEEDED = ("share", "metric", "start", "end")


def _check_known(table: Mapping[str, Any], known: Any, subject: str) -> None:
    unknown = [name for name in table if name not in known]
    if unknown:
        raise ConfigurationError(
            f"{subject} has {unknown[0]!r:.60}, which is not one of {', '.join(known)}. A misspelt setting would be "
            "silently ignored. Correct its name."
        )
