"""Experiments: runs one world, look by look, and counts the judge's errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

import numpy as np

from rollout_sdk import Canary
from rollout_sdk.judging import Verdict
from worlds.canary import FastCanary, Units
from worlds.numerics import fast_numerics
from worlds.traffic import Mode, Traffic, World

__all__ = ["ALPHA", "SRM_ALPHA", "bound", "errors", "experiment", "looks_of"]

ALPHA, SRM_ALPHA = 0.05, 0.001
START_S = 1_700_000_040.0
"""The beginning of a minute."""

_PERMANENT = ("promoted", "rolled_back", "aborted")


def bound(experiments: int, alpha: float = ALPHA) -> float:
    """Alpha and three standard errors of a share of so many experiments."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / experiments)


def canary_of(world: World) -> Canary:
    """The plan of a world."""
    return Canary(world.plan(), guardrails=world.guardrails, gates=world.gates, alpha=ALPHA)


def looks_of(
    world: World,
    seed: int,
    looks: int,
    mode: Mode,
    *,
    act: bool = True,
    population: Callable[[int], Units] | None = None,
    make: type[FastCanary] = FastCanary,
) -> Iterator[tuple[FastCanary, Verdict, int]]:
    """The canary after every look, its verdict, and the number of the look, until it is over."""
    # Another seed in every world: an unlucky population would else be met in all of them.
    rng = np.random.default_rng([seed, crc32(world.name.encode())])
    traffic = Traffic(world, rng, looks, mode)
    canary = make(
        canary_of(world),
        Units.random(rng, traffic.users) if population is None else population(traffic.users),
        candidates=world.candidates,
        now_s=START_S,
        max_calls=world.max_calls,
    )
    waiting: list[tuple[Any, ...]] = []
    for number in range(looks):
        begin = START_S + number * world.look_s
        # Whole milliseconds, as decision ids have them, and no two calls in the same one.
        at = rng.choice(round(world.look_s * 1000), world.calls, replace=False, shuffle=False)
        times_s = begin + np.sort(at) / 1000
        now_s = begin + world.look_s
        step(canary, traffic, number, times_s, waiting)
        waiting = deliver(canary, waiting, now_s)
        verdict = canary.look(now_s, act=act)
        yield canary, verdict, number
        if canary.state.status in _PERMANENT:
            return
        by_hand(canary, world, number, looks, now_s)


def step(canary: FastCanary, traffic: Traffic, number: int, times_s: Any, waiting: list[tuple[Any, ...]]) -> None:
    """The calls between two looks."""
    world, phase = traffic.world, canary.state.phase
    who = traffic.who(number)
    arm = canary.route(who)
    shares = [phase.all_shares.get(name, 0.0) for name in canary.arms]
    batch = traffic.batch(number, who, arm, times_s, shares.__getitem__)
    if phase.is_shadow:
        rng = traffic.rng
        drops = world.peak if number % 2 else 0.0
        for index, name in enumerate(canary.arms[1:], 1):
            shadowed = np.flatnonzero(rng.random(len(who)) < phase.shadow)
            end = np.where(batch.failed[index][shadowed], "error", "ok")
            end = np.where(rng.random(len(shadowed)) < drops, "dropped_full", end)
            pick = {canary.arms[i]: i for i in (0, index)}
            canary.add_pairs(
                who[shadowed],
                times_s[shadowed],
                candidate=name,
                end=end,
                failed={label: batch.failed[i][shadowed] for label, i in pick.items()},
                duration_s={label: batch.duration_s[i][shadowed] for label, i in pick.items()},
            )
    else:
        at = np.arange(len(who))
        failed, seconds = np.array(batch.failed)[arm, at], np.array(batch.duration_s)[arm, at]
        canary.add_calls(who, arm, times_s, failed=failed, duration_s=seconds)
    for name, (mask, values, delays) in batch.values.items():
        if mask.any():
            arrival = np.round(times_s[mask] + delays[mask], 3)
            waiting.append((name, phase.name, who[mask], arm[mask], values[mask], times_s[mask], arrival))


def deliver(canary: FastCanary, waiting: list[tuple[Any, ...]], now_s: float) -> list[tuple[Any, ...]]:
    """Record what has arrived; what has not."""
    left = []
    for name, phase, *columns in waiting:
        due = columns[-1] <= now_s
        if due.any():
            who, arm, values, decided, arrival = (each[due] for each in columns)
            canary.add_outcomes(name, who, arm, values, phase_name=phase, decided_s=decided, times_s=arrival)
        if not due.all():
            left.append((name, phase, *(each[~due] for each in columns)))
    return left


def by_hand(canary: FastCanary, world: World, number: int, looks: int, now_s: float) -> None:
    """What a person does: resumes what the judge has paused, and in a plan by hand takes the steps evenly over the looks."""
    if canary.state.status == "paused":
        canary.by_hand("resume", now_s)
    wanted = (number + 1) * len(world.steps) // looks
    while not world.by_judge and not canary.state.invalid and canary.state.step < min(wanted, len(world.steps) - 1):
        canary.by_hand("promote", now_s)


def experiment(world: World, seed: int, looks: int, mode: Mode) -> set[str]:
    """The errors that were made at any look."""
    made: set[str] = set()
    # At the margin, a rollback is right and a step is not: it is only watched.
    for canary, verdict, number in looks_of(world, seed, looks, mode, act=mode != "margin" or world.by_judge):
        if mode == "margin" and verdict.failed and world.by_judge:
            break
        if verdict.failed:
            made.add("rolled back")
        if not verdict.valid:
            made.add("invalid")
        for finding in verdict.findings:
            if finding.outcome == "PASS" and finding.kind in ("gate", "guardrail"):
                made.add(f"{finding.kind} passed")
                made.add(f"{finding.name} passed")
            if finding.outcome == "FAIL" and finding.kind == "guardrail":
                made.add(f"{finding.name} failed")
            if finding.outcome == "ERROR" and finding.kind != "assignment":
                made.add("labels" if "labels" in finding.numbers else f"broken: {finding.reason}")
        if verdict.outcome == "PASS":
            made.add("step passed")
            if world.outage[2] and world.outage[0] <= number <= world.outage[1]:
                made.add("step in outage")
        if mode == "margin" and "guardrail passed" in made and world.by_judge:
            break
        if canary.state.status == "promoted":
            made.add("promoted")
    return made


def errors(world: World, experiments: int, looks: int, mode: Mode, first_seed: int = 0) -> Counter[str]:
    """In how many experiments each error was made at any look."""
    made: Counter[str] = Counter()
    with fast_numerics():
        for seed in range(first_seed, first_seed + experiments):
            made.update(experiment(world, seed, looks, mode))
    return made
