"""Commands that simulate users: what a plan would find, and how many interleaved lists distinguish two rankers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import asdict

from rollout_sdk.analysis.rehearsal import METRIC, Rehearsal, Users, rehearse, strategies_for
from rollout_sdk.cli.options import examples, json_option
from rollout_sdk.cli.output import fault, progress, say
from rollout_sdk.exceptions import ConfigurationError, RolloutError
from rollout_sdk.formatting import number, table
from rollout_sdk.interleaving import (
    Balanced,
    CascadeClicks,
    Optimized,
    PairwisePreference,
    PositionClicks,
    Probabilistic,
    Query,
    Sensitivity,
    TeamDraft,
    simulate_ab,
    simulate_interleaving,
)
from rollout_sdk.strategies.canary import Canary

__all__ = ["COMMANDS"]

_MODELS = {"cascade": CascadeClicks, "position": PositionClicks}
_USERS = ("perfect", "navigational", "informational")
_DESIGNS: dict[str, Any] = {
    "team-draft": TeamDraft,
    "prefix": lambda: TeamDraft(neutral="prefix"),
    "classic": lambda: TeamDraft(neutral="off"),
    "pairs": lambda: TeamDraft(coin="list"),
    "balanced": Balanced,
    "probabilistic": Probabilistic,
    "optimized": Optimized,
    "pairwise": PairwisePreference,
}


@click.group(
    "simulate",
    epilog=examples(
        "rollout simulate strategies --units-per-day 2000 --rate 0.1 --effect 0.03",
        "rollout simulate interleaving queries.jsonl",
    ),
)
def simulate() -> None:
    """Simulate a test with simulated users."""


@simulate.command(
    "interleaving",
    epilog=examples(
        "rollout simulate interleaving queries.jsonl",
        "rollout simulate interleaving queries.jsonl --design balanced",
    ),
)
@click.argument("file", metavar="QUERIES", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--design",
    "designs",
    metavar="NAME",
    multiple=True,
    type=click.Choice(list(_DESIGNS)),
    help=f"A design, or several: {', '.join(_DESIGNS)}.",
)
@click.option("--users", "kinds", multiple=True, type=click.Choice(_USERS), help="A kind of user; all three by default.")
@click.option(
    "--model",
    default="cascade",
    show_default=True,
    type=click.Choice(list(_MODELS)),
    help="How users read: from the top until they stop, or each position with its own probability.",
)
@click.option("-k", "length", default=10, show_default=True, type=click.IntRange(min=1), help="Length of a list.")
@click.option(
    "--impressions",
    default=5000,
    show_default=True,
    type=click.IntRange(min=100),
    help="Number of sampled lists, where a design or query has too many to enumerate.",
)
@click.option(
    "--power", default=0.8, show_default=True, type=click.FloatRange(0.01, 0.999), help="Probability of detecting it."
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same figures.")
@json_option
def interleaving(
    file: Path,
    designs: tuple[str, ...],
    kinds: tuple[str, ...],
    model: str,
    length: int,
    impressions: int,
    power: float,
    seed: int,
    as_json: bool,
) -> None:
    """Estimate how many lists distinguish two rankers.

    Compared with an A/B test by its most sensitive metric.

    QUERIES has a JSON object on each line, with the rankings and the relevance of items:

    {"rankings": {"legacy": ["a", "b"], "v2": ["b", "c"]}, "grades": {"b": 3}}

    Grades go from 0 (not relevant, also where missing) to 4.
    """
    try:
        queries = _read(file)
        table: dict[str, Any] = {}
        for kind in kinds or _USERS:
            users = getattr(_MODELS[model], kind)()
            by_metric = simulate_ab(queries, users, k=length)
            best = max(by_metric, key=lambda metric: abs(by_metric[metric].z))
            rows = {f"A/B test by {best}": _row(by_metric[best], power)}
            for name in designs or ("team-draft",):
                with progress(f"Simulating {name}, {kind}") as update:
                    found = simulate_interleaving(
                        queries, _DESIGNS[name](), users, impressions=impressions, k=length, seed=seed, progress=update
                    )
                rows[name] = _row(found.verdict, power)
            table[kind] = rows
    except RolloutError as error:
        raise fault(error) from None
    candidate = list(queries[0].rankings)[1]
    say(json.dumps({"queries": len(queries), "users": table}, indent=2) if as_json else _text(table, len(queries), candidate))


@simulate.command(
    "strategies",
    epilog=examples("rollout simulate strategies --units-per-day 2000 --rate 0.1 --effect 0.03"),
)
@click.option("--units-per-day", "per_day", required=True, type=click.IntRange(min=4), help="Users a day, all of them new.")
@click.option("--rate", required=True, type=float, help="Share of the control's users who have a success.")
@click.option("--effect", required=True, type=float, help="The difference worth having, or worth noticing, in that share.")
@click.option("--error-rate", default=0.005, show_default=True, help="Share of the calls that fail, in both variants.")
@click.option("--days", default=14, show_default=True, type=click.IntRange(min=1), help="For how long a test may run.")
@click.option("--runs", default=10, show_default=True, type=click.IntRange(min=1), help="Simulated tests of each kind.")
@click.option(
    "--plan",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Your own plan of a canary, whose recorded metric is {METRIC!r}, in place of the default one.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same users.")
@json_option
def strategies(
    per_day: int,
    rate: float,
    effect: float,
    error_rate: float,
    days: int,
    runs: int,
    plan: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Rehearse all four strategies at your traffic.

    Simulated users call decorated functions, and the SDK's own judge looks four times a day: with a candidate that is worse by
    the effect, the same, or better. Ten thousand users of one strategy take seconds: begin with few --runs.
    """
    try:
        users = Users(per_day=per_day, days=days, rate=rate, effect=effect, error_rate=error_rate)
        planned = strategies_for(users)
        if plan is not None:
            planned["canary"] = Canary.from_file(plan)
        found = []
        for name, strategy in planned.items():
            with progress(f"Simulating {name}") as update:
                found.append(rehearse(strategy, users, runs=runs, seed=seed, progress=update))
    except RolloutError as error:
        raise fault(error) from None
    if as_json:
        say(json.dumps({"users": asdict(users), "strategies": [each.as_dict() for each in found]}, indent=2))
    else:
        say("\n".join(_rehearsed(found, users)))


def _rehearsed(found: Sequence[Rehearsal], users: Users) -> Iterator[str]:
    yield f"{number(users.per_day)} users a day for {users.days} days at the most, {users.rate:.4g} of whom have a success:"
    rows = [["strategy", "candidate", "SHIP", "DO NOT SHIP", "waits", "days", "users exposed"]]
    for each in found:
        for name, ends in (
            (f"worse by {users.effect:g}", each.worse), ("the same", each.same), (f"better by {users.effect:g}", each.better)
        ):  # fmt: skip
            counts = [f"{count} of {ends.runs}" for count in (ends.ships, ends.stops, ends.runs - ends.ships - ends.stops)]
            rows.append([each.strategy, name, *counts, f"{ends.days:.3g}", number(ends.exposed)])
    yield from table(rows, indent="  ", left=2, ruled=True)
    yield "A shadow sees errors only. A canary ships what is not worse. An A/B test and an"
    yield "interleaved test ship what is better. Days and users are medians."


def _row(found: Sensitivity, power: float) -> dict[str, Any]:
    # Within two standard errors of zero, the number reflects the sample, not the rankers.
    sure = abs(found.z) > 2 * found.z_error
    # Infinite if all lists agree, which JSON cannot represent.
    z = found.z if math.isfinite(found.z) else None
    return {"mean": found.mean, "z": z, "z_error": found.z_error, "lists": found.needed(power=power) if sure else None}


def _read(file: Path) -> list[Query]:
    queries = []
    for place, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            table = json.loads(line)
            rankings = {str(name): [str(key) for key in dict.fromkeys(ranked)] for name, ranked in table["rankings"].items()}
            queries.append(Query(rankings, {str(key): int(grade) for key, grade in table.get("grades", {}).items()}))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigurationError(
                f"Line {place} of {file} is not a query: {type(error).__name__}: {error}. A query has two rankings. "
                'Write {"rankings": {"legacy": ["a", "b"], "v2": ["b", "c"]}, "grades": {"b": 3}} in one line.'
            ) from None
    return queries


def _text(table: dict[str, Any], number: int, candidate: str) -> str:
    lines = [f"{number:,} queries. Lists needed, and the better ranker by them:", ""]
    for kind, rows in table.items():
        lines.append(f"{kind} users")
        (_, base), *_ = rows.items()
        for name, row in rows.items():
            if row["lists"] is None:
                lines.append(f"  {name:<24} unknown: no difference detected in this simulation")
                continue
            is_compared = row is not base and base["lists"] is not None and row["z"] and base["z"]
            gain = f"  ({_times((row['z'] / base['z']) ** 2)})" if is_compared else ""
            better = candidate if row["mean"] > 0 else f"not {candidate}"
            lines.append(f"  {name:<24} {row['lists']:>12,}  {better}{gain}")
    return "\n".join(lines)


def _times(fewer: float) -> str:
    return f"{fewer:.1f}x fewer" if fewer >= 1 else f"{1 / fewer:.1f}x as many"


COMMANDS = (simulate,)
