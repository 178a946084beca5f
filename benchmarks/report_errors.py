"""Error rates of reports: SHIP without an effect, DO NOT SHIP with one, and intervals that miss the true value.

Each world is an A/B test with a gate on clicks and a guardrail on spend, reported once a day. Users differ in how often they
call and how readily they click. These are errors, at any of the daily looks:

- SHIP, if the candidate has no effect;
- DO NOT SHIP, if clicks have exactly the effect worth having, and spend has none;
- an interval of the block (which holds at every look) that does not contain the true difference.

The last column is the coverage of the intervals of `--full`, of one arm at one look.

Run it: python benchmarks/report_errors.py [--runs 400] [--world NAME]
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, frozen

from rollout_sdk import ABTest, Gate, Guardrail
from rollout_sdk.analysis.conclude import headline_of
from rollout_sdk.analysis.differences import differences
from rollout_sdk.analysis.judged import Judged
from rollout_sdk.plan import written
from rollout_sdk.stats import ratio_of_sums

ALPHA, MDE = 0.05, 0.05
DAYS, CALLS_A_DAY = 10, 300
DAY_S = 86_400.0
RATE = 0.2
PLAN = ABTest(0.5, gates=[Gate("click", mde=MDE)], guardrails=[Guardrail("spend", margin=1.0, clip=(0, 5))], alpha=ALPHA)


@frozen
class World:
    """Users and how unequal they are.

    Attributes:
        name: What it is called.
        users: How many there are.
        weight: How often the user of a number calls, relative to others.
        spread: How much users differ: clicks are drawn with a Beta(RATE k, (1 - RATE) k) of this k; large is alike.
    """

    name: str
    users: int
    weight: Callable[[int], float]
    spread: float = 20.0


WORLDS = (
    World("even users", 1_500, lambda number: 1.0),
    World("200 Zipf users", 200, lambda number: 1 / (number + 1)),
    World("30 Zipf users", 30, lambda number: 1 / (number + 1)),
    World("a bot with 40 % of the calls", 1_000, lambda number: 1_000 * 0.4 / 0.6 if not number else 1.0),
    World("a bot with 90 % of the calls", 1_000, lambda number: 1_000 * 0.9 / 0.1 if not number else 1.0),
    World("very different users", 1_500, lambda number: 1.0, 2.0),
)


@define
class Counts:
    """The errors in the runs of a world."""

    runs: int = 0
    shipped: int = 0
    stopped: int = 0
    missed: int = 0
    covered: int = 0
    arms: int = 0


def records(world: World, rng: random.Random, effect: float) -> list[list[dict[str, Any]]]:
    """The journal's records of each day."""
    users = [(f"{number:016x}", rng.random() < 0.5, rng.betavariate(RATE * world.spread, (1 - RATE) * world.spread))
             for number in range(world.users)]  # fmt: skip
    buckets = [rng.randrange(512) for _ in users]
    weights = [world.weight(number) for number in range(world.users)]
    days = []
    for day in range(DAYS):
        today: list[dict[str, Any]] = []
        for call, which in enumerate(rng.choices(range(world.users), weights, k=CALLS_A_DAY)):
            unit, is_candidate, readily = users[which]
            time_s, name = 1e9 + (day + call / CALLS_A_DAY) * DAY_S, f"{day}-{call}"
            arm = "candidate" if is_candidate else "control"
            shared = {"rollout": "m", "id": name, "phase": "0:50%", "variant": arm, "bucket": buckets[which], "unit": unit}
            today.append(
                {
                    "event": "decision", "t": time_s, "seen_s": time_s, "strategy": "ab", "served": arm, "reason": "split",
                    "runs": [[arm, 0.01, None, None]], **shared,
                }
            )  # fmt: skip
            outcome = {"event": "outcome", "t": time_s, "seen_s": time_s, "decided": time_s, **shared}
            if rng.random() < min(readily + effect * is_candidate, 1.0):
                today.append({**outcome, "metric": "click", "value": 1.0})
            if rng.random() < 0.3:
                today.append({**outcome, "metric": "spend", "value": rng.lognormvariate(1.0, 1.0)})
        days.append(today)
    return days


def run(world: World, seed: int, effect: float, counts: Counts) -> None:
    """One test, reported every day."""
    rng = random.Random(f"{world.name} {seed} {effect}")
    one = Judged.begun("m")
    begun = {"event": "rollout", "t": 1e9, "seen_s": 1e9, "rollout": "m", "strategy": "ab", "control": "control",
             "phase": "0:50%", "shares": {"control": 0.5, "candidate": 0.5}, "plan": written(PLAN.criteria)}  # fmt: skip
    one.take(begun)
    seen: dict[str, dict[str, list[float]]] = {"control": {}, "candidate": {}}
    missed, headlines = False, set()
    for today in records(world, rng, effect):
        for record in today:
            one.take(record)
            units = seen[record["variant"]]
            pair = units.setdefault(record["unit"], [0.0, 0.0])
            pair[0] += record.get("metric") == "click"
            pair[1] += record["event"] == "decision"
        one.look()
        last = one.looks[-1]
        compared = differences(one, last.findings, last.others)
        click = next(each for each in compared if each.metric == "click")
        missed |= click.low is not None and click.high is not None and not click.low <= effect <= click.high
        headlines.add(headline_of(one, "candidate", compared))
    counts.runs += 1
    counts.shipped += "SHIP" in headlines
    counts.stopped += "DO NOT SHIP" in headlines
    counts.missed += missed
    for arm, units in seen.items():
        interval = ratio_of_sums(((clicks, calls) for clicks, calls in units.values()), within=(0.0, 1.0))
        truth = RATE + effect * (arm == "candidate")
        # A caution says not to trust it: it claims nothing.
        if interval.low is not None and interval.high is not None and interval.caution is None:
            counts.arms += 1
            counts.covered += interval.low <= truth <= interval.high


def measured(worlds: Sequence[World], runs: int) -> Mapping[str, tuple[Counts, Counts]]:
    """Print the errors in each world, without an effect and with the effect worth having."""
    found = {}
    for world in worlds:
        none, worth = Counts(), Counts()
        for seed in range(runs):
            run(world, seed, 0.0, none)
            run(world, seed, MDE, worth)
        found[world.name] = none, worth
    return found


def limit(runs: int) -> float:
    """The most that chance allows at alpha: three standard errors above it."""
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--world", choices=[world.name for world in WORLDS])
    options = parser.parse_args()
    worlds = [world for world in WORLDS if options.world in (None, world.name)]
    print(f"{options.runs} runs, {DAYS} daily looks, alpha {ALPHA}: at most {limit(options.runs):.3f} by chance\n")
    print(f"{'world':<30} {'false SHIP':>10} {'false DO NOT':>12} {'missed':>7} {'SHIP at mde':>11} {'one look covers':>15}")
    for world in worlds:
        none, worth = measured([world], options.runs)[world.name]
        both = none.covered + worth.covered, none.arms + worth.arms
        covers = f"{both[0] / both[1]:.3f}" if both[1] else "cautioned"
        wrong = worth.stopped / worth.runs
        missed = max(none.missed / none.runs, worth.missed / worth.runs)
        print(
            f"{world.name:<30} {none.shipped / none.runs:>10.3f} {wrong:>12.3f} {missed:>7.3f} "
            f"{worth.shipped / worth.runs:>11.3f} {covers:>15}",
            flush=True,
        )


if __name__ == "__main__":
    main()
