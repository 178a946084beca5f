"""Looking ahead, and back: how long a canary will take, and what another plan would have decided."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from rollout_sdk.analysis.forecast import Forecast, Traffic, forecast
from rollout_sdk.analysis.replay import Replay, replay
from rollout_sdk.cli.saying import fault, progress, say
from rollout_sdk.exceptions import RolloutError
from rollout_sdk.plan import Criteria, Gate, as_duration, load_criteria, parse_duration
from rollout_sdk.strategies.canary import planned_phases

__all__ = ["COMMANDS"]

_plan = click.option(
    "--plan", "path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The plan: a TOML file."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DAY_S = 86_400


def _loaded(path: Path) -> Criteria:
    """The plan in a file, refused for whatever a canary would refuse it for."""
    criteria = load_criteria(path)
    names = {name for step in criteria.steps if isinstance(step.share, Mapping) for name in step.share}
    planned_phases(criteria, "control", tuple(sorted(names)) or ("candidate",))
    return criteria


def _means(criteria: Criteria, metrics: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    means = {}
    for each in metrics:
        name, _, numbers = each.partition("=")
        try:
            mean, *rest = (float(number) for number in numbers.split(","))
            # Of a share, the mean says how far units are apart.
            deviation = rest[0] if rest else math.sqrt(mean * (1 - mean))
        except (ValueError, IndexError):
            raise click.BadParameter(f"{each!r} is not NAME=MEAN,SD, or NAME=SHARE.", param_hint="--metric") from None
        means[name] = (mean, deviation)
    missing = [gate.metric for gate in criteria.gates if gate.metric not in means]
    if missing:
        raise click.UsageError(f"The plan has a gate on {missing[0]!r}: say what it is today, with --metric {missing[0]}=0.1")
    return means


@click.command("plan")
@_plan
@click.option("--units", required=True, type=click.FloatRange(min=0, min_open=True), help="Different units (users) in a day.")
@click.option("--calls", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Calls of a unit.")
@click.option("--error-rate", default=0.005, show_default=True, help="Share of the control's units that see an error.")
@click.option("--slow-rate", default=0.005, show_default=True, help="Share of the control's calls that are slow.")
@click.option("--metric", "metrics", multiple=True, help="A gate's metric today: NAME=MEAN,SD per unit, or NAME=SHARE.")
@_as_json
def plan(
    path: Path, units: float, calls: float, error_rate: float, slow_rate: float, metrics: tuple[str, ...], as_json: bool
) -> None:
    """Say how long each step of a plan takes at your traffic, and what it can see in that time."""
    try:
        criteria = _loaded(path)
        traffic = Traffic(
            units_per_day=units,
            calls_per_unit=calls,
            error_rate=error_rate,
            slow_rate=slow_rate,
            means=_means(criteria, metrics),
        )
        found = forecast(criteria, traffic)
    except RolloutError as error:
        raise fault(error) from None
    say(json.dumps(found.as_dict(), indent=2) if as_json else _forecast(found, criteria))


def _days(days: float | None) -> str:
    return "never" if days is None else as_duration(days * _DAY_S)


def _forecast(found: Forecast, criteria: Criteria) -> str:
    lines = ["If the candidate is as good as the control (better by its mde, where there is a gate):", ""]
    for step in found.steps:
        lines.append(f"{step.step:>6}  {_days(step.days):<10} waits longest for {step.waits_for}")
        lines.append("        " + "  ".join(f"{name} {_days(days)}" for name, days in step.by.items()))
        seen = [f"{ratio:g}x after {number:.0f}" for ratio, number in step.errors_seen.items() if number is not None]
        if seen:
            lines.append(f"        rolled back when units of the candidate that saw an error are about: {', '.join(seen)}")
        lines.extend(f"        {name}: a difference of {effect:.3g} is found" for name, effect in step.effects_seen.items())
    lines += ["", f"In all: {_days(found.days)}."]
    if any(isinstance(gate, Gate) and gate.min_effect >= 0 for gate in criteria.gates):
        lines.append("A candidate that is only as good as the control passes no gate that asks for better.")
    return "\n".join(lines)


@click.command("replay")
@click.argument("journal", metavar="JOURNAL", type=click.Path(exists=True, file_okay=False))
@_plan
@click.option("--rollout", "name", help="Which rollout, where the journal has several.")
@click.option("--every", default="1m", show_default=True, help="Time between two looks, in the journal's time.")
@_as_json
def replay_command(journal: str, path: Path, name: str | None, every: str, as_json: bool) -> None:
    """Say what a plan would have decided on the calls in JOURNAL, and when."""
    try:
        with progress("Replaying the journal") as told:
            found = replay(journal, _loaded(path), rollout=name, every_s=parse_duration(every, "--every"), progress=told)
    except RolloutError as error:
        raise fault(error) from None
    say(json.dumps(found.as_dict(), indent=2) if as_json else _replayed(found))


def _replayed(found: Replay) -> str:
    lines = [f"{found.rollout}: the plan would have {_WOULD[found.outcome]} ({found.looks:,} looks)."]
    for phase in found.phases:
        began = datetime.fromtimestamp(phase.began_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        lasted = as_duration(max(0.0, phase.ended_s - phase.began_s))
        lines += ["", f"Phase {phase.phase} from {began}, {lasted}, {phase.calls:,} calls:"]
        verdict = phase.decided or phase.last
        if phase.alarm is not None:
            after = as_duration(max(0.0, phase.alarm.time_s - phase.began_s))
            lines.append(
                f"  its shares were found broken after {after}: no step is taken from then on until a person clears it"
            )
        if phase.decided is not None:
            action = "rolled back" if phase.decided.outcome == "FAIL" else "gone on"
            lines.append(f"  it would have {action} after {as_duration(max(0.0, phase.decided.time_s - phase.began_s))}")
        else:
            lines.append("  it would have stayed")
        if verdict is not None:
            lines.extend(f"  {line}" for line in str(verdict).splitlines())
        if verdict is not None and verdict.outcome == "FAIL":
            break
    if found.damaged:
        lines += ["", f"{found.damaged:,} lines of the journal were passed over; see rollout doctor."]
    return "\n".join(lines)


_WOULD = {"rolled back": "rolled it back", "went on in every phase": "gone on in every phase", "held": "held it"}

COMMANDS = (plan, replay_command)
