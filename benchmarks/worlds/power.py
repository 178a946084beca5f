"""The power of the judge: the sample until a rollback, a pass, "futile", or an alarm about the shares."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rollout_sdk import Canary, Gate, Guardrail, Step
from rollout_sdk.judging import Verdict
from rollout_sdk.plan import Criterion
from rollout_sdk.stats import log_e_two_sided
from worlds.canary import FastCanary, Units
from worlds.numerics import fast_numerics
from worlds.running import ALPHA, START_S

__all__ = ["errors_until_rollback", "lost_units_alarm", "sample_until", "tables"]

Array = np.ndarray[Any, Any]

_Z_ALPHA, _Z_POWER = 1.6449, 0.8416
_BASE_ERRORS = 0.004
_LARGEST = 1 << 22


def fixed_sample(effect: float, deviation: float, share: float = 0.5) -> float:
    """Units of both arms together for 80 % power of a one-sided test at .05, with one look at the end."""
    return ((_Z_ALPHA + _Z_POWER) * deviation / effect) ** 2 / (share * (1 - share))


def canary(criterion: Criterion, share: float, rng: np.random.Generator, units: int) -> FastCanary:
    """A canary with one step that does not end by itself."""
    is_gate = isinstance(criterion, Gate)
    strategy = Canary(
        [Step(share, min_units=10**9, min_time=0)],
        guardrails=[] if is_gate else [criterion],
        gates=[criterion] if is_gate else [],
        alpha=ALPHA,
    )
    return FastCanary(strategy, Units.random(rng, units), now_s=START_S)


def errors_until_rollback(
    ratio: float, seed: int, *, share: float, harm: float | None = None, calls_a_minute: float | None = None
) -> tuple[float, float]:
    """The candidate's erring units until it is rolled back, and the minutes; of a candidate with `ratio` times the errors.

    Args:
        ratio: Of the error rates; the control's is .4 %.
        seed: Of the simulation.
        share: The candidate's.
        harm: The guardrail's; None: its default.
        calls_a_minute: How busy the service is; None: so little that errors lie minutes apart.
    """
    rng = np.random.default_rng(seed)
    run = canary(Guardrail("error_rate", harm=harm), share, rng, _LARGEST)
    gap_s = 60 / calls_a_minute if calls_a_minute else 600 * _BASE_ERRORS * max(1.0, share * ratio)
    chunk = max(50, int(1 / (share * _BASE_ERRORS * ratio)))
    begin, now_s, erring = 0, START_S, 0
    while begin + chunk < _LARGEST:
        who = np.arange(begin, begin + chunk)
        begin += chunk
        arm = run.route(who)
        failed = rng.random(chunk) < np.where(arm, ratio, 1.0) * _BASE_ERRORS
        times_s = now_s + gap_s * np.arange(1, chunk + 1)
        now_s = float(times_s[-1])
        # A look after every error of the candidate, as an SDK that looks all the time does.
        ends = [*(np.flatnonzero(failed & (arm > 0)) + 1).tolist(), chunk]
        for low, high in zip([0, *ends], ends, strict=False):
            if high == low:
                continue
            part = slice(low, high)
            run.add_calls(who[part], arm[part], times_s[part], failed=failed[part], duration_s=np.full(high - low, 0.1))
            is_error = bool((failed[part] & (arm[part] > 0)).any())
            erring += is_error
            if is_error and run.look(float(times_s[high - 1]), act=False).failed:
                return erring, (float(times_s[high - 1]) - START_S) / 60
    return math.inf, math.inf


def sample_until(
    criterion: Criterion,
    draw: Callable[[np.random.Generator, Array], tuple[Array, Array | None]],
    seed: int,
    *,
    share: float = 0.5,
    until: Callable[[Verdict], bool],
    each: int,
    most: int,
) -> float:
    """Units of both arms until a verdict; inf where there is none within `most`.

    Args:
        criterion: What is judged.
        draw: Values and covariate of calls in these arms: durations, for a measured metric.
        seed: Of the simulation.
        share: The candidate's.
        until: What is waited for.
        each: Units between two looks.
        most: Units at which the waiting ends.
    """
    rng = np.random.default_rng(seed)
    run = canary(criterion, share, rng, most)
    for number in range(most // each):
        who = np.arange(number * each, (number + 1) * each)
        arm, now_s = run.route(who), START_S + 60.0 * (number + 1)
        times_s = np.full(each, now_s - 1)
        values, covariate = draw(rng, arm)
        is_timed = criterion.metric.startswith("latency")
        seconds = values if is_timed else np.full(each, 0.1)
        run.add_calls(who, arm, times_s, failed=np.zeros(each, bool), duration_s=seconds, covariate=covariate)
        if not is_timed:
            some = values != 0
            run.add_outcomes(
                criterion.metric,
                who[some],
                arm[some],
                values[some],
                phase_name=run.state.phase.name,
                decided_s=times_s[some],
                times_s=times_s[some],
            )
        if until(run.look(now_s, act=False)):
            return float((number + 1) * each)
    return math.inf


def lost_units_alarm(seed: int, *, share: float = 0.01, lost: float = 0.1, users: int = 1_000_000, looks: int = 50) -> bool:
    """Whether the alarm about the shares is raised where a part of the candidate's units is lost."""
    rng = np.random.default_rng(seed)
    run = canary(Guardrail("error_rate"), share, rng, users)
    each = users // looks
    for number in range(looks):
        who = np.arange(number * each, (number + 1) * each)
        arm = run.route(who)
        kept = (arm == 0) | (rng.random(each) >= lost)
        who, arm = who[kept], arm[kept]
        now_s, nothing = START_S + 60.0 * (number + 1), np.zeros(len(who), bool)
        run.add_calls(who, arm, np.full(len(who), now_s - 1), failed=nothing, duration_s=np.full(len(who), 0.1))
        if not run.look(now_s, act=False).valid:
            return True
    return False


def _share_of(base: float, effect: float) -> Callable[[np.random.Generator, Array], tuple[Array, None]]:
    """A metric of yes or no."""
    return lambda rng, arm: ((rng.random(len(arm)) < base + effect * arm).astype(float), None)


def _normal(effect: float, corr: float) -> Callable[[np.random.Generator, Array], tuple[Array, Array | None]]:
    """A metric with mean 3, standard deviation 1, and a covariate that goes with it."""

    def draw(rng: np.random.Generator, arm: Array) -> tuple[Array, Array | None]:
        before, noise = rng.normal(0, 1, len(arm)), rng.normal(0, 1, len(arm))
        values = 3 + effect * arm + corr * before + math.sqrt(1 - corr**2) * noise
        return values, before if corr else None

    return draw


def _latency(factor: float) -> Callable[[np.random.Generator, Array], tuple[Array, None]]:
    """Latencies of median .1 s; 1 % of the control's take longer than .51 s."""
    return lambda rng, arm: (0.1 * np.where(arm, factor, 1.0) * rng.lognormal(0, 0.7, len(arm)), None)


def _is_rollback(verdict: Verdict) -> bool:
    return bool(verdict.failed)


def _has_passed(verdict: Verdict) -> bool:
    return any(each.outcome == "PASS" and each.kind == "gate" for each in verdict.findings)


def _is_futile(verdict: Verdict) -> bool:
    return bool(verdict.futile)


def _msprt(mde: float) -> Callable[[Verdict], bool]:
    """The two-sided mixture test of the same numbers, at .05."""

    def passed(verdict: Verdict) -> bool:
        (found,) = (each for each in verdict.findings if each.kind == "gate")
        error = found.numbers["std_error"]
        if not error or not found.numbers["enough_safe"] or found.numbers["estimate"] <= 0:
            return False
        return log_e_two_sided(found.numbers["estimate"], error, rho=mde**-2, df=found.numbers["df"]) >= math.log(1 / ALPHA)

    return passed


def _sprt(effect: float, deviation: float, seed: int, each: int) -> float:
    """Wald's test that knows the effect and the variance."""
    rng = np.random.default_rng(seed)
    information, total = each / (4 * deviation**2), 0.0
    for number in range(1, 1000):
        total += rng.normal(effect * information, math.sqrt(information))
        if effect * total - effect**2 * information * number / 2 >= math.log(1 / ALPHA):
            return float(number * each)
    return math.inf


def _quantiles(found: list[float]) -> str:
    ordered = sorted(found)
    share = sum(math.isfinite(each) for each in found) / len(found)
    return f"{_shown(statistics.median(ordered))} | {_shown(ordered[math.ceil(0.8 * len(ordered)) - 1])} | {share:.2f}"


def _shown(number: float) -> str:
    return "never" if math.isinf(number) else f"{number:,.4g}" if number < 1000 else f"{number:,.0f}"


def _error_rows(runs: int) -> Iterator[str]:
    yield "\n| error_rate: erring units of the candidate until rollback | median | 80 % | rolled back | minutes (median) |"
    yield "|---|---|---|---|---|"
    for harm in (0.0, None):
        for share in (0.01, 0.05, 0.5):
            for ratio in (10.0, 3.0, 2.0):
                for busy in (None, 2000.0) if share < 0.1 else (None,):
                    number = runs if busy is None else max(10, runs // 2)
                    found = [
                        errors_until_rollback(ratio, seed, share=share, harm=harm, calls_a_minute=busy)
                        for seed in range(number)
                    ]
                    when = "errors minutes apart" if busy is None else f"{busy:,.0f} calls a minute"
                    which = "harm 0" if harm == 0.0 else "defaults"
                    minutes = statistics.median(each for _, each in found)
                    yield (
                        f"| {ratio:g}x at {share:.0%}, {which}, {when} | {_quantiles([each for each, _ in found])} "
                        f"| {'' if busy is None else _shown(minutes)} |"
                    )


def _sample_rows(runs: int) -> Iterator[str]:
    yield "\n| units of both arms until | median | 80 % | reached | fixed sample |"
    yield "|---|---|---|---|---|"

    def line(name: str, found: list[float], fixed: float) -> str:
        ratio = statistics.median(found) / fixed
        by = "never" if math.isinf(ratio) else f"{ratio:.2f}x"
        return f"| {name} | {_quantiles(found)} | {fixed:,.0f} ({by}) |"

    def many(
        criterion: Criterion, draw: Any, until: Any, fixed: float, *, share: float = 0.5, most: float = 5.0
    ) -> list[float]:
        each = max(20, int(fixed / 20))
        return [
            sample_until(criterion, draw, seed, share=share, until=until, each=each, most=int(most * fixed))
            for seed in range(runs)
        ]

    fixed = fixed_sample(0.005, math.sqrt(0.0975 * 0.9025))
    for harm in (0.0, 0.0025):
        guardrail = Guardrail("conversion", margin=0.005, harm=harm)
        found = many(guardrail, _share_of(0.1, -0.005), _is_rollback, fixed)
        yield line(f"rollback: conversion -5 % of 10 %, harm {harm:g}", found, fixed)
    for share, expected in ((0.5, 500), (0.05, 2500)):
        for guardrail, most in (
            (Guardrail("latency_mean", harm=0.0), 20.0),
            (Guardrail("latency_mean"), 60.0),
            (Guardrail("latency", threshold_s=0.51, harm=0.0), 160.0),
        ):
            found = many(guardrail, _latency(1.2), _is_rollback, expected, share=share, most=most)
            yield line(f"rollback: +20 % latency at {share:.0%}, {guardrail.label}, harm {guardrail.harm:g}", found, expected)
    base, mde = 0.1, 0.01
    deviation = math.sqrt((base + mde / 2) * (1 - base - mde / 2))
    fixed = fixed_sample(mde, deviation)
    for name, gate, until in (
        ("any time", Gate("conversion", mde=mde), _has_passed),
        ("horizon 1.05x fixed", Gate("conversion", mde=mde, horizon=int(1.05 * fixed)), _has_passed),
        ("mSPRT, two-sided", Gate("conversion", mde=mde), _msprt(mde)),
    ):
        yield line(f"pass: conversion +1 point of 10 %, {name}", many(gate, _share_of(base, mde), until, fixed), fixed)
    yield line(
        "pass: SPRT that knows the effect", [_sprt(mde, deviation, seed, int(fixed / 50)) for seed in range(runs)], fixed
    )
    yield line("futile: no effect", many(Gate("conversion", mde=mde), _share_of(base, 0.0), _is_futile, fixed), fixed)
    fixed = fixed_sample(0.05, 1.0)
    for corr in (0.0, 0.5, 0.7):
        found = many(Gate("score", mde=0.05), _normal(0.05, corr), _has_passed, fixed)
        yield line(f"pass: effect of .05 standard deviations, covariate with correlation {corr:g}", found, fixed)


def tables(runs: int, only: str = "") -> None:
    """Print the tables."""
    with fast_numerics():
        for name, rows in (("errors", _error_rows), ("samples", _sample_rows)):
            if only in name:
                for row in rows(runs):
                    print(row, flush=True)
        if only in "shares":
            number = min(runs, 100)
            alarms = sum(lost_units_alarm(seed) for seed in range(number))
            print(f"\nSRM: 10 % of the candidate's users lost at 1 % of 1 M users: alarm in {alarms} of {number}", flush=True)
