"""Commands about plans: how long a canary will take, and what a plan would have decided on a journal."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
from attrs import evolve

from rollout_sdk.analysis.cautions import about_missing
from rollout_sdk.analysis.forecast import Traffic, forecast
from rollout_sdk.analysis.measured import Measured, measure
from rollout_sdk.analysis.replay import Replay, ReplayedPhase, replay
from rollout_sdk.cli.forecasting import as_forecast
from rollout_sdk.cli.options import examples, journal_argument, json_option, must_be_whole, must_have_records
from rollout_sdk.cli.output import fault, progress, say, say_fitting
from rollout_sdk.exceptions import RolloutError
from rollout_sdk.formatting import plain
from rollout_sdk.plan import Criteria, as_duration, is_measured, load_criteria, parse_duration
from rollout_sdk.strategies.canary import planned_phases

__all__ = ["COMMANDS"]

_plan = click.option(
    "--plan", "path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The plan: a TOML file."
)
_ABOVE_0 = click.FloatRange(min=0, min_open=True)


def _loaded(path: Path) -> Criteria:
    """Load a plan, with the validation of a canary."""
    criteria = load_criteria(path)
    names = {name for step in criteria.steps if isinstance(step.share, Mapping) for name in step.share}
    planned_phases(criteria, "control", tuple(sorted(names)) or ("candidate",))
    return criteria


def _from_environment() -> str | None:
    folder = os.environ.get("ROLLOUT_JOURNAL") or None
    if folder is not None and not Path(folder).is_dir():
        raise click.UsageError(f"The folder {folder!r} of ROLLOUT_JOURNAL does not exist. Pass --units, or --journal DIR.")
    return folder


def _means(metrics: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    means = {}
    for each in metrics:
        name, _, numbers = each.partition("=")
        try:
            mean, *rest = (float(number) for number in numbers.split(","))
            # The mean of a share determines its deviation.
            deviation = rest[0] if rest else math.sqrt(mean * (1 - mean))
        except (ValueError, IndexError):
            raise click.BadParameter(f"{each!r} is not NAME=MEAN,SD, or NAME=SHARE.", param_hint="--metric") from None
        means[name] = (mean, deviation)
    return means


def _traffic(
    criteria: Criteria, measured: Measured | None, options: Mapping[str, float | None], metrics: tuple[str, ...]
) -> Traffic:
    """Return the traffic from a journal, overridden by options."""
    given = {name: value for name, value in options.items() if value is not None}
    known = _means(metrics)
    if measured is None:
        traffic = Traffic(**given, means=known)  # type: ignore[arg-type]
    else:
        slow = {} if "slow_rate" in given else measured.traffic.slow_rates
        traffic = evolve(measured.traffic, **given, slow_rates=slow, means={**measured.traffic.means, **known})
    asked = [each for each in criteria.all if not is_measured(each.metric) and not each.dry_run]
    missing = [each for each in asked if each.metric not in traffic.means]
    if missing:
        kind, name = type(missing[0]).__name__, missing[0].metric
        nothing = "" if measured is None else f" The journal has no outcome {name!r} of the control."
        raise click.UsageError(
            f"The plan has a {kind} on {name!r}.{nothing} Pass its current value: --metric {name}=MEAN,SD, or "
            f"--metric {name}=0.1 for a share."
        )
    return traffic


@click.command(
    "plan",
    epilog=examples(
        "rollout plan --plan plan.toml --units 20000 --metric click=0.12",
        "rollout plan --plan plan.toml --journal journal/ --rollout shop.rank",
    ),
)
@_plan
@click.option("--units", metavar="NUMBER", type=_ABOVE_0, help="Distinct units (users) per day.")
@click.option("--calls", metavar="NUMBER", type=_ABOVE_0, help="Calls per unit and day.  [default: 1]")
@click.option(
    "--error-rate", metavar="SHARE", type=float, help="Share of the control's units that see an error.  [default: 0.005]"
)
@click.option("--slow-rate", metavar="SHARE", type=float, help="Share of the control's calls that are slow.  [default: 0.005]")
@click.option("--latency-spread", metavar="NUMBER", type=float, help="Standard deviation of log latency.  [default: 0.7]")
@click.option(
    "--metric",
    "metrics",
    metavar="NAME=...",
    multiple=True,
    help="Current value of a recorded metric: NAME=MEAN,SD per unit, or NAME=SHARE.",
)
@click.option(
    "--journal",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Read all of this from a journal; options override it.  [default: ROLLOUT_JOURNAL, without --units]",
)
@click.option("--rollout", "name", metavar="KEY", help="The rollout, if the journal has several.")
@json_option
def plan(
    path: Path,
    units: float | None,
    calls: float | None,
    error_rate: float | None,
    slow_rate: float | None,
    latency_spread: float | None,
    metrics: tuple[str, ...],
    journal: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Forecast how long the steps of a plan take.

    Uses the traffic that you specify, or that of a journal. It also shows which effects each step can detect in its time, and
    where it will wait.
    """
    if journal is None and units is None:
        journal = _from_environment()
    if journal is None and units is None:
        raise click.UsageError(
            "How much traffic is there? Pass --units, or a journal to read it from: --journal DIR, or ROLLOUT_JOURNAL."
        )
    if journal is not None:
        must_have_records(journal)
    if journal is None and name is not None:
        raise click.UsageError("--rollout names a rollout of a journal. Pass --journal DIR, too.")
    options = {
        "units_per_day": units,
        "calls_per_unit": calls,
        "error_rate": error_rate,
        "slow_rate": slow_rate,
        "latency_spread": latency_spread,
    }
    try:
        criteria, measured = _loaded(path), None
        if journal is not None:
            with progress("Reading the journal") as update:
                measured = measure(journal, criteria, rollout=name, progress=update)
        found = forecast(criteria, _traffic(criteria, measured, options, metrics))
    except RolloutError as error:
        raise fault(error) from None
    source = (
        None
        if measured is None
        else {"rollout": measured.rollout, "days": measured.days, "units": measured.units, "calls": measured.calls}
    )
    say(json.dumps({**found.as_dict(), "journal": source}, indent=2) if as_json else as_forecast(found, criteria, measured))


@click.command(
    "replay", epilog=examples("rollout replay journal/ --plan plan.toml", "rollout replay --plan plan.toml --every 1h")
)
@journal_argument
@_plan
@click.option("--rollout", "name", metavar="KEY", help="The rollout, if the journal has several.")
@click.option("--every", metavar="TIME", default="1m", show_default=True, help="Time between two looks, in the journal's time.")
@json_option
def replay_command(folder: str, path: Path, name: str | None, every: str, as_json: bool) -> None:
    """Replay a plan on a journal: what it would have decided.

    It also shows when. DIR is the journal's folder; by default that of ROLLOUT_JOURNAL. Exit code 5: it is empty. 6: part of it
    cannot be read.
    """
    must_have_records(folder)
    try:
        with progress("Replaying the journal") as update:
            found = replay(folder, _loaded(path), rollout=name, every_s=parse_duration(every, "--every"), progress=update)
    except RolloutError as error:
        raise fault(error) from None
    if as_json:
        say(json.dumps(found.as_dict(), indent=2))
    else:
        say_fitting(_replayed(found))
    must_be_whole(folder, found.damaged)


def _replayed(found: Replay) -> str:
    lines = [f"{found.rollout}: the plan would have {_WOULD[found.outcome]} ({found.looks:,} looks)."]
    failed: set[str] = set()
    for phase in found.phases:
        # Phases after a rollback are irrelevant, unless they have another candidate.
        if phase.fingerprint in failed:
            continue
        began = datetime.fromtimestamp(phase.began_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        lasted = as_duration(max(0.0, phase.ended_s - phase.began_s))
        whose = f" of {_named(phase)}" if len({each.fingerprint for each in found.phases}) > 1 or phase.version else ""
        lines += ["", f"Phase {phase.phase}{whose} from {began}, {lasted}, {phase.calls:,} calls:"]
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
            failed.add(phase.fingerprint)
    if found.missing:
        lines += ["", *about_missing(found.missing)]
    return "\n".join(lines)


def _named(phase: ReplayedPhase) -> str:
    """Format version and fingerprint of a phase."""
    version = f"version {plain(phase.version)}, " if phase.version else ""
    return f"{version}fingerprint {plain(phase.fingerprint) or 'unknown'}"


_WOULD = {"rolled back": "rolled it back", "went on in every phase": "gone on in every phase", "held": "held it"}

COMMANDS = (plan, replay_command)
