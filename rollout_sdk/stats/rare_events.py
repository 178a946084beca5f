"""Exact anytime-valid evidence about the ratio of two rates of rare events, from counts by phase.

Every function here is a function of counts alone, so what machines counted apart is merged by adding, and may be evaluated
after every event. Nothing here is an approximation: there is no smallest sample. What is assumed is independence: where units
are assigned and their events come in runs, count the first event of a unit in a rollout, or take
`rollout_sdk.stats.cluster_bets`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rollout_sdk.stats.mixing import mix_log_e

__all__ = ["rare_event_log_e", "rare_event_safe_log_e"]

_RATIOS = tuple(1.1 * (10 / 1.1) ** (k / 39) for k in range(40))


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
    return mix_log_e(terms)
