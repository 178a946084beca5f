"""Exact anytime-valid evidence from counts: the sizes of arms, wins and losses.

All functions depend on counts alone, so counts of several machines can be added, and evaluation after every event is allowed.
`..._log_e` is the natural logarithm of an e-value; under the null hypothesis, an e-value ever reaches 1/alpha with
probability at most alpha. The functions are exact, with no minimum sample. They assume independence: count every unit once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rollout_sdk.stats.distributions import log_beta_ratio

__all__ = ["MISMATCH", "arrivals_log_e", "labels_log_e", "sign_log_e", "srm_log_e"]


def srm_log_e(counts: Sequence[float], shares: Sequence[float], *, concentration: float = 1000.0) -> float:
    """The evidence that units do not arrive in the configured shares (sample ratio mismatch); null: the shares are as given.

    log e = lgamma(c) - lgamma(c + n) + sum [lgamma(c theta_i + n_i) - lgamma(c theta_i)] - sum n_i log theta_i, the multinomial
    likelihood ratio mixed over a Dirichlet prior around the shares. Raise the alarm at e >= 1000; let it block a promotion,
    never a rollback. The log e of phases can be added: their product is again an e-value.

    Source: Lindon and Malek, NeurIPS 2022, arXiv:2011.03567.

    Args:
        counts: First exposures of units, per arm.
        shares: Configured shares in the same order, positive; they are divided by their sum.
        concentration: c: 100 detects large faults early, 10,000 small ones.

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
        raise ValueError(f"srm_log_e(shares={list(shares)!r}): shares are positive. Leave out arms without a share.")
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
    """The evidence that wins and losses are not equally likely, as in an interleaved test; leave out ties.

    log e = log B(a + w, a + l) - log B(a, a) + (w + l) log 2: exact for units that win or lose independently (count the net
    sign of every user). The test is two-sided; the larger count gives the direction.

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


MISMATCH = math.log(1000)
"""Logarithm of the evidence from which shares, or rates of labels, count as different."""


_BIG_FAULTS = 100.0


def arrivals_log_e(phases: Iterable[tuple[Mapping[str, int], Mapping[str, float]]]) -> float | None:
    """The evidence for a sample ratio mismatch over several phases: the sum of `srm_log_e`; None if no phase is random.

    Each unit counts once, in the phase in which it is first seen: units that stay in their arm from phase to phase are not
    assigned again, so the product of the phases' e-values would not be an e-value.

    Args:
        phases: For every phase, the units first seen in it by arm, and the configured share by arm. Arms without a share are
            left out, and phases with fewer than two arms (such as a shadow's).
    """
    log_es = []
    for units, shares in phases:
        arms = [arm for arm, share in shares.items() if 0 < share < math.inf]
        if len(arms) > 1 and any(units.get(arm) for arm in arms):
            log_es.append(srm_log_e([units.get(arm, 0) for arm in arms], [shares[arm] for arm in arms]))
    return math.fsum(log_es) if log_es else None


def labels_log_e(labelled: Mapping[str, int], units: Mapping[str, int]) -> float:
    """The evidence that labels are missing more often in one arm than in another, for one look.

    If they are missing equally often, the units with a label have the same shares as all units, and so have the others. Each
    group is checked like shares (`srm_log_e`), and the two e-values are averaged. Units are drawn without replacement, which
    spreads them less than the multinomial distribution of `srm_log_e` (Hoeffding 1963): the evidence is never too large on
    average.

    Args:
        labelled: Units with a label, by arm.
        units: All units, by arm.
    """
    arms = [arm for arm, count in units.items() if count > 0]
    if len(arms) < 2:
        return 0.0
    shares = [float(units[arm]) for arm in arms]
    with_label = [min(labelled.get(arm, 0), units[arm]) for arm in arms]
    without = [units[arm] - count for arm, count in zip(arms, with_label, strict=True)]
    log_es = [srm_log_e(counts, shares, concentration=_BIG_FAULTS) for counts in (with_label, without)]
    high = max(log_es)
    return high + math.log(math.fsum(math.exp(each - high) for each in log_es) / 2)
