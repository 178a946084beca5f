"""Exact anytime-valid evidence from counts: rare events, rates, the sizes of arms, wins and losses.

Every function here is a function of counts alone, so what machines counted apart is merged by adding, and may be evaluated
after every event. `..._log_e` is the natural logarithm of an e-value; an e-value of 1/alpha or more, ever, happens under the
null hypothesis with a probability of alpha at most. Nothing here is an approximation: there is no smallest sample. What is
assumed is independence: where units are assigned and their events come in runs, count the first event of a unit in a phase,
not all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from rollout_sdk.stats.sequential import plan_rho

__all__ = [
    "bernoulli_interval",
    "rare_event_log_e",
    "rare_event_safe_log_e",
    "rate_below_log_e",
    "sign_log_e",
    "srm_log_e",
]

_RATIOS = tuple(1.1 * (10 / 1.1) ** (k / 39) for k in range(40))
_EDGE, _EDGE_BELOW_ONE = 1e-300, 2.0**-53
_STEPS = 200


def rare_event_log_e(strata: Iterable[tuple[float, float, float]], *, margin: float = 0.0) -> float:
    """The evidence that events are more frequent in the candidate: against "rate ratio <= 1 + margin".

    Given an event while the candidate's share of the exposure is s, it is the candidate's with probability
    q(r) = s r / (s r + 1 - s), r being the rate ratio: the base rate has gone, so it may drift freely.
    e = mean over k of prod over strata of (q(r_k)/q(r_0))^a ((1 - q(r_k))/(1 - q(r_0)))^b with r_0 = 1 + margin and 40
    alternatives r_k, log-spaced in (1.1..10) r_0. At a share of one half, 7 events that are all the candidate's reach e = 20:
    a low-traffic canary cannot be decided with fewer.

    Source: Lindon and Malek, NeurIPS 2022, arXiv:2011.03567; Lindon, Sanden and Shirikian, KDD 2022, arXiv:2205.14762.

    Args:
        strata: For every period of constant shares: the events of the candidate, the events of the control, and the
            candidate's share of the exposure of the two. Never pool periods with different shares. A period with a share of 0
            or 1, or without events, says nothing and contributes nothing.
        margin: Tolerated relative increase: .1 for "up to ten per cent more is no harm".

    Raises:
        ValueError: A count is negative or not finite, a share not between 0 and 1, or `margin` not above -1.
    """
    return _rate_ratio_log_e("rare_event_log_e", strata, margin, _RATIOS)


def rare_event_safe_log_e(strata: Iterable[tuple[float, float, float]], *, margin: float) -> float:
    """The evidence that events are not much more frequent in the candidate: against "rate ratio >= 1 + margin".

    The mirror image of `rare_event_log_e`, with 40 alternatives log-spaced in (1/10..1/1.1) (1 + margin): where its e reaches
    1/alpha, the increase is below the margin. A margin of 0 asks for proof of an improvement, and a small margin for many
    events: with equal rates and shares e = 20 takes about 74 events in both arms together for a margin of 1, 244 for .5, 904
    for .25 and 5,808 for .1.

    Raises:
        ValueError: As `rare_event_log_e`.
    """
    return _rate_ratio_log_e("rare_event_safe_log_e", strata, margin, tuple(1 / ratio for ratio in _RATIOS))


def _rate_ratio_log_e(
    function: str, strata: Iterable[tuple[float, float, float]], margin: float, ratios: Sequence[float]
) -> float:
    if not -1 < margin < math.inf:
        raise ValueError(f"{function}(margin={margin!r}): a margin is a relative increase, above -1 and finite, such as 0.1.")
    null = 1 + margin
    terms = [0.0] * len(ratios)
    for candidate, control, share in strata:
        if not (0 <= candidate < math.inf and 0 <= control < math.inf):
            raise ValueError(
                f"{function}: stratum {(candidate, control, share)!r} has a count that is not 0 or more and finite."
            )
        if not 0 <= share <= 1:
            raise ValueError(
                f"{function}: stratum {(candidate, control, share)!r} has a share outside 0..1. "
                "Give the candidate's part of the exposure of candidate and control."
            )
        if share in (0, 1) or candidate + control == 0:
            continue
        odds = share * null
        for k, ratio in enumerate(ratios):
            # q_k/q_0 = ratio x, (1 - q_k)/(1 - q_0) = x with x = (s r_0 + 1 - s)/(s r_k + 1 - s).
            shrink = math.log((odds + 1 - share) / (odds * ratio + 1 - share))
            terms[k] += candidate * math.log(ratio) + (candidate + control) * shrink
    return _log_sum_exp(terms) - math.log(len(terms))


def _log_sum_exp(terms: Sequence[float]) -> float:
    top = max(terms)
    return top + math.log(math.fsum(math.exp(term - top) for term in terms))


def bernoulli_interval(successes: float, trials: float, *, alpha: float = 0.05, t_opt: float = 100.0) -> tuple[float, float]:
    """An interval for a rate that may be looked at after every trial, inside [0, 1]; (0, 1) without trials.

    All p with e(p) < 1/alpha, e(p) = B(c p + s, c (1 - p) + f) / (B(c p, c (1 - p)) p^s (1 - p)^f) for s successes and f
    failures: the likelihood ratio against p, mixed over a beta prior with mean p. Its strength c = plan_rho(t_opt) makes the
    interval narrowest after about `t_opt` trials. log e is convex in p (its derivative is a sum of growing terms), so the set
    is an interval, found by bisection. Without any success it is nearly as narrow as at a single look; one success costs much
    more than with the prior of `rate_below_log_e`, which certifies that a rate lies below a limit.

    Source: the beta-binomial mixture of Howard and Ramdas, Bernoulli 2022, arXiv:1906.09712.

    Args:
        successes: Number of trials that count.
        trials: Number of all trials.
        alpha: Error probability of both ends together, over all looks.
        t_opt: Number of trials at which the interval is meant to be used.

    Raises:
        ValueError: The counts are negative, not finite or at odds; `alpha` is not strictly between 0 and 1; `t_opt` below 1.
    """
    failures = _failures("bernoulli_interval", successes, trials)
    if not 1 <= t_opt < math.inf:
        raise ValueError(f"bernoulli_interval(t_opt={t_opt!r}): t_opt is a number of trials, 1 or more.")
    c = plan_rho(t_opt, alpha=alpha)
    goal = -math.log(alpha)

    def excess(p: float) -> float:
        return (
            _log_beta_ratio(c * p, c * (1 - p), successes, failures)
            - _times_log(successes, p)
            - _times_log(failures, 1 - p)
            - goal
        )

    if trials == 0:
        return 0.0, 1.0
    # At the observed rate the mixture is no more likely than the best single rate: log e <= 0 there, and it grows to both
    # sides.
    observed = successes / trials
    low = _boundary(excess, _EDGE, observed) if successes and excess(_EDGE) > 0 else 0.0
    high = _boundary(excess, 1 - _EDGE_BELOW_ONE, observed) if failures and excess(1 - _EDGE_BELOW_ONE) > 0 else 1.0
    return low, high


def _boundary(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """The last point towards `inside` at which `excess` is still positive."""
    for _ in range(_STEPS):
        # A rate near 0 is looked for on the logarithmic scale.
        middle = math.sqrt(outside * inside) if outside < inside / 4 else (outside + inside) / 2
        if not min(outside, inside) < middle < max(outside, inside):
            break
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return outside


def rate_below_log_e(successes: float, trials: float, *, limit: float, prior: float = 0.5) -> float:
    """The evidence that a rate lies below `limit`: against "rate >= limit". It certifies a shadow's mismatches.

    log e = log B(a + s, a + f) - log B(a, a) - s log p - f log(1 - p) at p = max(limit, s / trials), with a beta prior (a,
    a): the least evidence against any rate from the limit up, so it holds for all of them. Without any mismatch e = 20 is
    reached after 680 trials for a limit of 1 %, and after 8,062 for .1 % (a single look at a fixed number would take 299 and
    2,995).

    Source: the beta-binomial mixture of Robbins, Annals of Mathematical Statistics 41 (1970).

    Args:
        successes: Number of trials that count against the limit, such as mismatches.
        trials: Number of all trials.
        limit: The rate that shall be undercut, strictly between 0 and 1.
        prior: The a of the beta prior; 1/2 suits limits near 0.

    Raises:
        ValueError: The counts are negative, not finite or at odds; `limit` or `prior` lies outside its domain.
    """
    failures = _failures("rate_below_log_e", successes, trials)
    if not 0 < limit < 1:
        raise ValueError(f"rate_below_log_e(limit={limit!r}): a limit is a rate, strictly between 0 and 1.")
    _positive("rate_below_log_e", "prior", prior)
    if trials == 0:
        return 0.0
    p = max(limit, successes / trials)
    return _log_beta_ratio(prior, prior, successes, failures) - _times_log(successes, p) - _times_log(failures, 1 - p)


def srm_log_e(counts: Sequence[float], shares: Sequence[float], *, concentration: float = 1000.0) -> float:
    """The evidence that units do not arrive in the configured shares (sample ratio mismatch): against "shares are as given".

    log e = lgamma(c) - lgamma(c + n) + sum [lgamma(c theta_i + n_i) - lgamma(c theta_i)] - sum n_i log theta_i, the multinomial
    likelihood ratio mixed over a Dirichlet prior around the shares. Raise the alarm at e >= 1000; block a promotion with it,
    never a rollback. Add the log e of phases: their product is an e-value again.

    Source: Lindon and Malek, NeurIPS 2022, arXiv:2011.03567.

    Args:
        counts: First exposures of units, for every arm.
        shares: Configured shares in the same order, positive; they are divided by their sum.
        concentration: c: 100 finds big faults early, 10,000 small ones.

    Raises:
        ValueError: The lengths differ, a count is negative or not finite, or a share or the concentration not positive.
    """
    if len(counts) != len(shares) or not counts:
        raise ValueError(
            f"srm_log_e: {len(counts)} counts and {len(shares)} shares. Give one share for every count, and at least one."
        )
    if not all(0 <= count < math.inf for count in counts):
        raise ValueError(f"srm_log_e(counts={list(counts)!r}): counts are 0 or more and finite.")
    if not all(0 < share < math.inf for share in shares):
        raise ValueError(f"srm_log_e(shares={list(shares)!r}): shares are positive. Leave out arms that nobody is assigned to.")
    _positive("srm_log_e", "concentration", concentration)
    n, whole = math.fsum(counts), math.fsum(shares)
    if n == 0:
        return 0.0
    terms = [math.lgamma(concentration), -math.lgamma(concentration + n)]
    for count, share in zip(counts, shares, strict=True):
        theta = share / whole
        alpha = concentration * theta
        terms += [math.lgamma(alpha + count), -math.lgamma(alpha), -count * math.log(theta)]
    return math.fsum(terms)


def sign_log_e(wins: float, losses: float, *, prior: float = 1.0) -> float:
    """The evidence that wins and losses are not equally likely, as in an interleaved test; ties are left out beforehand.

    log e = log B(a + w, a + l) - log B(a, a) + (w + l) log 2: exact for units that win or lose independently (count the net
    sign of every user). It is two-sided; the side is that of the larger count.

    Source: the beta-binomial mixture of Robbins (1970) at p = 1/2.

    Args:
        wins: Units that preferred the candidate.
        losses: Units that preferred the control.
        prior: The a of the beta prior; larger values expect a smaller preference.

    Raises:
        ValueError: A count is negative or not finite, or `prior` not positive.
    """
    if not (0 <= wins < math.inf and 0 <= losses < math.inf):
        raise ValueError(f"sign_log_e(wins={wins!r}, losses={losses!r}): counts are 0 or more and finite.")
    _positive("sign_log_e", "prior", prior)
    return _log_beta_ratio(prior, prior, wins, losses) + (wins + losses) * math.log(2)


def _log_beta_ratio(a: float, b: float, s: float, f: float) -> float:
    """log( B(a + s, b + f) / B(a, b) ), exactly 0 without counts."""
    return (
        (math.lgamma(a + s) - math.lgamma(a))
        + (math.lgamma(b + f) - math.lgamma(b))
        - (math.lgamma(a + b + s + f) - math.lgamma(a + b))
    )


def _times_log(count: float, p: float) -> float:
    """The product count log p, with 0 log 0 = 0."""
    return count * math.log(p) if count else 0.0


def _failures(function: str, successes: float, trials: float) -> float:
    if not 0 <= successes <= trials < math.inf:
        raise ValueError(f"{function}(successes={successes!r}, trials={trials!r}): 0 <= successes <= trials, both finite.")
    return trials - successes


def _positive(function: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{function}({name}={value!r}): {name} is positive and finite.")
