"""Exact anytime-valid evidence from counts: the sizes of arms, wins and losses.

Every function here is a function of counts alone, so what machines counted apart is merged by adding, and may be evaluated
after every event. `..._log_e` is the natural logarithm of an e-value; an e-value of 1/alpha or more, ever, happens under the
null hypothesis with a probability of alpha at most. Nothing here is an approximation: there is no smallest sample. What is
assumed is independence: count every unit once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rollout_sdk.stats.normal import log_beta_ratio

__all__ = ["sign_log_e", "srm_log_e"]


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
    return log_beta_ratio(prior, prior, wins, losses) + (wins + losses) * math.log(2)


def _positive(function: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{function}({name}={value!r}): {name} is positive and finite.")
