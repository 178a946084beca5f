"""Exact anytime-valid evidence about one rate: a confidence interval, and whether it lies below a limit, or above.

All functions depend on counts alone, so counts of several machines can be added, and evaluation after every trial is allowed.
Trials are assumed to be independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rollout_sdk.stats.distributions import log_beta_ratio, times_log
from rollout_sdk.stats.multiplicity import mix_log_e
from rollout_sdk.stats.sequential import plan_rho

__all__ = ["bernoulli_interval", "rate_above_log_e", "rate_below_log_e"]

_EDGE, _EDGE_BELOW_ONE = 1e-300, 2.0**-53
_STEPS = 200
_BETS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Rates to bet on, as fractions of the limit."""
_POWERS = (0.0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 11 / 12)
"""Rates to bet on above a limit p, as powers of it: from 1 down to a little above p, evenly on a logarithmic scale."""


def bernoulli_interval(successes: float, trials: float, *, alpha: float = 0.05, t_opt: float = 100.0) -> tuple[float, float]:
    """A confidence interval for a rate that may be evaluated after every trial, inside [0, 1]; (0, 1) without trials.

    All p with e(p) < 1/alpha, e(p) = B(c p + s, c (1 - p) + f) / (B(c p, c (1 - p)) p^s (1 - p)^f) for s successes and f
    failures: the likelihood ratio against p, mixed over a beta prior with mean p. Its strength c = plan_rho(t_opt) makes the
    interval narrowest after about `t_opt` trials. log e is convex in p (its derivative is a sum of growing terms), so the set
    is an interval, found by bisection. Without any success it is nearly as narrow as at a single look; one success costs much
    more than in `rate_below_log_e`, which certifies that a rate lies below a limit.

    Source: the beta-binomial mixture of Howard and Ramdas, Bernoulli 2022, arXiv:1906.09712.

    Args:
        successes: Number of successful trials.
        trials: Number of all trials.
        alpha: Error probability of both ends together, over all looks.
        t_opt: Number of trials at which the interval is to be narrowest.

    Raises:
        ValueError: The counts are negative, not finite or inconsistent; `alpha` is not strictly between 0 and 1; `t_opt` < 1.
    """
    failures = _failures("bernoulli_interval", successes, trials)
    if not 1 <= t_opt < math.inf:
        raise ValueError(f"bernoulli_interval(t_opt={t_opt!r}): t_opt is a number of trials, 1 or more.")
    c = plan_rho(t_opt, alpha=alpha)
    goal = -math.log(alpha)

    def excess(p: float) -> float:
        return (
            log_beta_ratio(c * p, c * (1 - p), successes, failures)
            - times_log(successes, p)
            - times_log(failures, 1 - p)
            - goal
        )

    if trials == 0:
        return 0.0, 1.0
    # At the observed rate the mixture is no more likely than the best single rate: log e <= 0 there, and it increases on both
    # sides.
    observed = successes / trials
    low = _boundary(excess, _EDGE, observed) if successes and excess(_EDGE) > 0 else 0.0
    high = _boundary(excess, 1 - _EDGE_BELOW_ONE, observed) if failures and excess(1 - _EDGE_BELOW_ONE) > 0 else 1.0
    return low, high


def _boundary(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Return the last point towards `inside` at which `excess` is still positive."""
    for _ in range(_STEPS):
        # Rates near 0 are searched on a logarithmic scale.
        middle = math.sqrt(outside * inside) if outside < inside / 4 else (outside + inside) / 2
        if not min(outside, inside) < middle < max(outside, inside):
            break
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return outside


def rate_below_log_e(successes: float, trials: float, *, limit: float) -> float:
    """The evidence that a rate lies below `limit`; null: "rate >= limit". It certifies a shadow's mismatches.

    e = mean over r of (r/p)^s ((1 - r)/(1 - p))^f for s successes and f failures, with p = `limit` and bets on the rates
    r = 0, p/16, p/8, p/4 and p/2. The first success ends the bet on 0. With a true rate t each trial multiplies a bet by
    t r/p + (1 - t)(1 - r)/(1 - p) on average, which decreases in t (as r < p) and is 1 at t = p: at any rate from the limit up,
    the bets win nothing on average, even if the rate changes from trial to trial.

    Without a success e = 20 is reached after 348 trials for a limit of 1 % and after 3,491 for .1 % (a single look at a fixed
    number would take 299 and 2,995; a beta-binomial mixture takes 680 and 8,062).

    Source: the discrete mixture of likelihood ratios, Robbins, Annals of Mathematical Statistics 41 (1970).

    Args:
        successes: Number of trials that count against the limit, such as mismatches.
        trials: Number of all trials.
        limit: The limit to stay below, strictly between 0 and 1.

    Raises:
        ValueError: The counts are negative, not finite or inconsistent; `limit` is not strictly between 0 and 1.
    """
    failures = _failures("rate_below_log_e", successes, trials)
    if not 0 < limit < 1:
        raise ValueError(f"rate_below_log_e(limit={limit!r}): a limit is a rate, strictly between 0 and 1.")
    log_es = []
    for part in _BETS:
        won = -math.inf if successes and not part else times_log(successes, part)
        log_es.append(won + failures * (math.log1p(-part * limit) - math.log1p(-limit)))
    return mix_log_e(log_es)


def rate_above_log_e(successes: float, trials: float, *, limit: float) -> float:
    """The evidence that a rate lies above `limit`; null: "rate <= limit". It finds a shadow that differs too often.

    e = mean over r of (r/p)^s ((1 - r)/(1 - p))^f for s successes and f failures, with p = `limit` and bets on seven rates r
    from p^(11/12) to 1. By the argument of `rate_below_log_e`, the bets win nothing on average at any rate up to the limit.

    If every trial succeeds, e = 20 is reached after 2 trials for limits of 2 to 10 %, and after 7 for 50 %.

    Source: the discrete mixture of likelihood ratios, Robbins, Annals of Mathematical Statistics 41 (1970).

    Args:
        successes: Number of trials that count, such as mismatches.
        trials: Number of all trials.
        limit: The limit to exceed, between 0 and 1. Of a limit of 0, the first success is infinite evidence.

    Raises:
        ValueError: The counts are negative, not finite or inconsistent; `limit` is not between 0 and 1.
    """
    failures = _failures("rate_above_log_e", successes, trials)
    if not 0 <= limit <= 1:
        raise ValueError(f"rate_above_log_e(limit={limit!r}): a limit is a rate, between 0 and 1.")
    if limit in (0, 1):
        return math.inf if successes and not limit else 0.0
    log_es = []
    for power in _POWERS:
        rate = limit**power
        lost = -math.inf if failures and not power else times_log(failures, 1 - rate) - failures * math.log1p(-limit)
        log_es.append(lost + successes * (math.log(rate) - math.log(limit)))
    return mix_log_e(log_es)


def _failures(function: str, successes: float, trials: float) -> float:
    if not 0 <= successes <= trials < math.inf:
        raise ValueError(f"{function}(successes={successes!r}, trials={trials!r}): 0 <= successes <= trials, both finite.")
    return trials - successes
