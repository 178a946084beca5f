"""How often the canary is wrong when it looks fifty times, and how fast it sees a regression.

Every experiment sends simulated calls through the judge itself: evidence, measurement, verdict. In the A/A worlds, candidate
and control are alike, so that every rollback and every gate that passes is an error; both must stay at alpha or below. In the
worlds at the margin, the candidate is exactly as bad as is not acceptable any more, so that every guardrail that passes is one.

    python benchmarks/canary_errors.py [--experiments 400] [--looks 50] [--only ramp] [--power]
"""

from __future__ import annotations

import argparse
import math
import statistics
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from rollout_sdk import Gate, Guardrail, Step
from rollout_sdk.assignment import BUCKETS
from rollout_sdk.judging import Evidence, Situation, UnitSample, Verdict, judge
from rollout_sdk.plan import Criteria

ALPHA = 0.05
# Harm from nothing on: the sharpest hypothesis that the same model on both sides can violate.
GUARDRAILS = (
    Guardrail("error_rate"),
    Guardrail("latency", threshold_s=0.5, margin=0.02, harm=0.0),
    Guardrail("rating", margin=0.1, harm=0.0, per="outcome"),
)
CRITERIA = Criteria(
    steps=[Step("50%", min_units=100, min_time=0)],
    guardrails=GUARDRAILS,
    gates=[Gate("liked", mde=0.03)],
    alpha=ALPHA,
)


@dataclass(frozen=True)
class World:
    """One kind of traffic.

    Attributes:
        name: What it is called.
        shares: The candidate's share in each phase.
        users: Users there are; 0: every call is another's.
        calls: Calls at every look.
        error_rate: Share of the control's calls that fail.
        spread: How different users are in what they do and in how active they are (standard deviation of a logarithm).
        drift: By how much all rates change from the first look to the last.
        errors: Ratio of the candidate's error rate to the control's.
        worse: By how much the candidate is worse in latency (share of slow calls) and rating.
    """

    name: str
    shares: tuple[float, ...] = (0.5,)
    users: int = 0
    calls: int = 400
    error_rate: float = 0.02
    spread: float = 0.0
    drift: float = 1.0
    errors: float = 1.0
    worse: tuple[float, float] = (0.0, 0.0)


WORLDS = (
    World("iid"),
    World("users, heavy-tailed", users=5000, spread=1.0),
    World("few returning users", users=400, spread=0.7),
    World("rare errors at 5 %", shares=(0.05,), error_rate=0.005, calls=1000),
    World("ramp, drifting base", shares=(0.05, 0.2, 0.5), drift=4.0),
    World("sticky ramp, clusters", shares=(0.05, 0.2, 0.5), users=5000, spread=1.0, drift=2.0),
)


def look_by_look(world: World, seed: int, looks: int) -> Iterator[tuple[Evidence, str, bool]]:
    """The evidence after each look, the phase, and whether it is the last phase."""
    rng = np.random.default_rng(seed)
    users = world.users or world.calls * looks
    point = rng.random(users)
    bucket = rng.integers(0, BUCKETS, users)
    cell = rng.integers(0, 2**32, users)
    activity = rng.lognormal(0, world.spread, users)
    # How often it goes wrong for a user, and what a user is like: of mean one.
    trouble = rng.lognormal(-(world.spread**2) / 2, world.spread, users)
    taste = rng.normal(0, world.spread, users)
    cumulative = np.cumsum(activity / activity.sum())
    evidence = Evidence(CRITERIA.all)
    for number in range(looks):
        step = number * len(world.shares) // looks
        share, phase = world.shares[step], f"{step}:{world.shares[step]:.0%}"
        if world.users:
            who = np.searchsorted(cumulative, rng.random(world.calls)).clip(0, users - 1)
        else:
            who = np.arange(number * world.calls, (number + 1) * world.calls)
        treated = point[who] < share
        rate = world.error_rate * world.drift ** (number / looks)
        failed = rng.random(world.calls) < np.minimum(1, rate * trouble[who] * np.where(treated, world.errors, 1.0))
        slow = rng.random(world.calls) < np.minimum(1, 0.05 * trouble[who]) + np.where(treated, world.worse[0], 0.0)
        rating = 3 + taste[who] + rng.normal(0, 1, world.calls) - np.where(treated, world.worse[1], 0.0)
        liked = rng.random(world.calls) < 0.2 + 0.05 * np.tanh(taste[who]) + 0.02 * rate
        shares = {"control": 1 - share, "v2": share}
        for arm, mask in (("control", ~treated), ("v2", treated)):
            values = {"latency>0.5s": slow, "error_rate": failed, "rating": rating, "liked": liked}
            _add(
                evidence,
                phase,
                arm,
                shares,
                bucket[who[mask]],
                cell[who[mask]],
                {name: each[mask] for name, each in values.items()},
            )
        yield evidence, phase, step == len(world.shares) - 1


def _add(
    evidence: Evidence,
    phase_name: str,
    arm: str,
    shares: dict[str, float],
    buckets: np.ndarray,
    cells: np.ndarray,
    values: dict[str, np.ndarray],
) -> None:
    """What `Evidence.add_call` and `add_outcome` do, for many calls at once."""
    phase = evidence.phase(phase_name)
    phase.shares = shares
    if arm not in phase.calls:
        phase.calls[arm] = array("q", bytes(8 * BUCKETS))
        phase.units[arm] = UnitSample()
    counts = np.bincount(buckets, minlength=BUCKETS)
    phase.calls[arm] = array("q", (np.asarray(phase.calls[arm]) + counts).tolist())
    phase.units[arm].merge(UnitSample(cells.tolist()))
    for label, value in values.items():
        weights = counts if label == "rating" else np.zeros(BUCKETS)
        sums = evidence._sums(phase, label)
        totals = np.bincount(buckets, weights=value.astype(float), minlength=BUCKETS)
        for number in np.flatnonzero((totals != 0) | (weights != 0)).tolist():
            sums.add(phase_name, arm, number, float(totals[number]), float(weights[number]), 0.0)
        if label in ("error_rate", "latency>0.5s"):
            phase.events.setdefault((label, arm), UnitSample()).merge(UnitSample(cells[value].tolist()))


def verdicts(world: World, seed: int, looks: int) -> Iterator[Verdict]:
    """The verdict of every look."""
    for evidence, phase, is_last in look_by_look(world, seed, looks):
        situation = Situation(
            rollout=world.name,
            phase=phase,
            revision=0,
            control="control",
            candidates=("v2",),
            step=CRITERIA.steps[0],
            entered_s=0.0,
            is_last=is_last,
        )
        yield judge(evidence, CRITERIA, situation, 1e6)


def errors(world: World, experiments: int, looks: int, first_seed: int = 0) -> dict[str, int]:
    """In how many experiments each error was made at any look."""
    made = {"rolled back": 0, "gate passed": 0, "guardrail passed": 0, "invalid": 0}
    for seed in range(first_seed, first_seed + experiments):
        seen: set[str] = set()
        for verdict in verdicts(world, seed, looks):
            if verdict.failed:
                seen.add("rolled back")
            if not verdict.valid:
                seen.add("invalid")
            for finding in verdict.findings:
                if finding.outcome == "PASS" and finding.kind == "gate":
                    seen.add("gate passed")
                # The floor of errors is no hypothesis about the difference.
                proven = finding.safe_log_e is not None and finding.safe_log_e >= (finding.safe_needed or math.inf)
                if finding.outcome == "PASS" and finding.kind == "guardrail" and proven:
                    seen.add("guardrail passed")
        for name in seen:
            made[name] += 1
    return made


def bound(experiments: int) -> float:
    """Alpha and three standard errors of a share of so many experiments."""
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / experiments)


def power(ratio: float, experiments: int, *, share: float = 0.01, error_rate: float = 0.004) -> tuple[float, float]:
    """Share of experiments that are rolled back, and the median of the candidate's errors by then."""
    world = World("power", shares=(share,), error_rate=error_rate, errors=ratio, calls=int(0.2 / (share * error_rate * ratio)))
    seen = []
    for seed in range(experiments):
        for verdict in verdicts(world, seed, 400):
            if verdict.failed:
                (numbers,) = [finding.numbers for finding in verdict.findings if finding.name == "error_rate"]
                seen.append(sum(stratum[0] for stratum in numbers["strata"]))
                break
    return len(seen) / experiments, statistics.median(seen) if seen else math.inf


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=400)
    parser.add_argument("--looks", type=int, default=50)
    parser.add_argument("--only", default="")
    parser.add_argument("--power", action="store_true", help="only the speed of detection")
    options = parser.parse_args()
    number, limit = options.experiments, bound(options.experiments)
    if not options.power:
        print(f"{number} experiments, {options.looks} looks, alpha {ALPHA}: no share may exceed {limit:.3f}\n")
        print(f"{'world':<24} {'A/A: rolled back':>17} {'gate passed':>12} {'invalid':>8} {'at the margin: passed':>22}")
        for world in WORLDS:
            if options.only not in world.name:
                continue
            same = errors(world, number, options.looks)
            at_margin = replace(world, errors=2.0, worse=(0.02, 0.1))
            worse = errors(at_margin, number, options.looks)
            print(
                f"{world.name:<24} {same['rolled back'] / number:>17.3f} {same['gate passed'] / number:>12.3f} "
                f"{same['invalid'] / number:>8.3f} {worse['guardrail passed'] / number:>22.3f}",
                flush=True,
            )
        print()
    print("candidate's erring units at the rollback, 1 % share, base error rate .4 %, three guardrails:")
    for ratio in (10.0, 3.0):
        share, errors_ = power(ratio, min(number, 100))
        print(f"  {ratio:>4g}x: {share:.0%} rolled back, median {errors_:.0f} errors", flush=True)


if __name__ == "__main__":
    main()
