"""Planning: how many units a comparison needs, what it can detect, and how long it takes.

All functions describe a comparison of two arms with the same arguments:

`sigma` or `rate`: the standard deviation of one unit's value, or the control's rate of a binary metric (then sigma is
    sqrt(rate (1 - rate)) in both arms).
`effect`: the difference to detect, in the metric's unit; with `relative=True` as a fraction of the control's `mean` (or
`rate`). `share`: the candidate's fraction of the units, k; the control has 1 - k. `alpha`, `power`, `one_sided`: error
probabilities of the test. With guardrails, plan with power 1 - (1 - power) / (G + 1). `sequential`: planned for the
anytime-valid sequences of `rollout_sdk.stats.sequential` instead of one final look. `design_effect`: factor on the variance
if observations come in clusters: `design_effect()`.

With information I = n k (1 - k) / (sigma^2 design_effect), a test with one look needs I delta^2 = (z_{1 - alpha/2} +
z_power)^2, and a sequence with rho = plan_rho(I) needs I delta^2 = (3.035 + z_power)^2 at alpha = .05 (2.769 one-sided): the
power of its last look alone, hence a lower bound, because it may reject earlier. That is 1.91 times the fixed sample for a
power of .8; counting the earlier looks, 1.8 times is enough, and on average a comparison with a true effect of this size
stops at 1.1 times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rollout_sdk.stats.distributions import normal_quantile
from rollout_sdk.stats.sequential import confidence_sequence, one_sided_bound, plan_rho

__all__ = ["design_effect", "mde", "planned_duration", "planned_information", "sample_size"]


def design_effect(*, cluster_size: float, cv: float = 0.0, icc: float) -> float:
    """The factor on the variance if observations come in clusters: 1 + ((1 + cv^2) m - 1) icc.

    A factor from historical data is better than this formula: the delta-method variance of the metric over that of independent
    observations.

    Source: Eldridge, Ashby and Kerry, International Journal of Epidemiology 35 (2006).

    Args:
        cluster_size: m, mean observations of a cluster, such as requests per user; 1 or more.
        cv: Coefficient of variation of the cluster sizes: standard deviation over mean.
        icc: Intra-cluster correlation, 0 to 1.

    Raises:
        ValueError: An argument is outside its domain.
    """
    if not 1 <= cluster_size < math.inf:
        raise ValueError(f"design_effect(cluster_size={cluster_size!r}): a cluster has 1 observation or more on average.")
    if not 0 <= cv < math.inf:
        raise ValueError(f"design_effect(cv={cv!r}): a coefficient of variation is 0 or more and finite.")
    if not 0 <= icc <= 1:
        raise ValueError(f"design_effect(icc={icc!r}): an intra-cluster correlation lies between 0 and 1.")
    return 1 + ((1 + cv * cv) * cluster_size - 1) * icc


def planned_information(
    *,
    total: float,
    sigma: float | None = None,
    rate: float | None = None,
    share: float = 0.5,
    design_effect: float = 1.0,
) -> float:
    """The information 1 / std_error^2 that `total` units will give: total k (1 - k) / (sigma^2 design_effect). Pass it to
    `plan_rho`.

    Args:
        total: Units in both arms together.
        sigma: Standard deviation of one unit's value; or give `rate`.
        rate: The control's rate, for a binary metric.
        share: The candidate's fraction of the units.
        design_effect: Factor on the variance for clusters.

    Raises:
        ValueError: An argument is outside its domain, or not exactly one of `sigma` and `rate` is given.
    """
    _positive("planned_information", "total", total)
    return total * _per_unit("planned_information", sigma, rate, share, design_effect)


def sample_size(
    *,
    effect: float,
    sigma: float | None = None,
    rate: float | None = None,
    mean: float | None = None,
    relative: bool = False,
    share: float = 0.5,
    alpha: float = 0.05,
    power: float = 0.8,
    one_sided: bool = False,
    sequential: bool = False,
    design_effect: float = 1.0,
) -> int:
    """The number of units in both arms together that detects `effect` with probability `power`, rounded up.

    Fixed: n = (z_{1 - alpha/2} + z_power)^2 sigma^2 design_effect / (k (1 - k) delta^2), with z_{1 - alpha} when one-sided;
    for equal shares that is 2 (..)^2 sigma^2 / delta^2 per arm. Sequential: the same with the boundary of the sequence in
    place of the quantile.

    Args:
        effect: The difference to detect; its sign does not matter.
        sigma: Standard deviation of one unit's value; or give `rate`.
        rate: The control's rate, for a binary metric.
        mean: The control's mean, for a relative effect on a metric with `sigma`.
        relative: Whether `effect` is a fraction of the control's mean or rate.
        share: The candidate's fraction of the units.
        alpha: Probability of a false rejection.
        power: Probability of detecting the effect, between 0 and 1.
        one_sided: Whether only one direction counts.
        sequential: Whether the comparison may be stopped at any look.
        design_effect: Factor on the variance for clusters.

    Raises:
        ValueError: An argument is outside its domain, or the metric is described twice or not at all.
    """
    delta = _absolute("sample_size", effect, rate, mean, relative=relative)
    needed = _needed("sample_size", alpha, power, one_sided=one_sided, sequential=sequential)
    per_unit = _per_unit("sample_size", sigma, rate, share, design_effect)
    return math.ceil((needed / delta) ** 2 / per_unit)


def mde(
    *,
    total: float,
    sigma: float | None = None,
    rate: float | None = None,
    mean: float | None = None,
    relative: bool = False,
    share: float = 0.5,
    alpha: float = 0.05,
    power: float = 0.8,
    one_sided: bool = False,
    sequential: bool = False,
    design_effect: float = 1.0,
) -> float:
    """The smallest effect that `total` units detect with probability `power`: the inverse of `sample_size`.

    (boundary + z_power) s with s = 1 / sqrt(I). For the sequence, tuned at this total, the boundary is that of
    sqrt( (1 + rho/I) log((I + rho) / (rho alpha^2)) ).

    Args:
        total: Units in both arms together.
        sigma: Standard deviation of one unit's value; or give `rate`.
        rate: The control's rate, for a binary metric.
        mean: The control's mean, for a relative effect on a metric with `sigma`.
        relative: Whether the result is a fraction of the control's mean or rate.
        share: The candidate's fraction of the units.
        alpha: Probability of a false rejection.
        power: Probability of detecting the effect, between 0 and 1.
        one_sided: Whether only one direction counts.
        sequential: Whether the comparison may be stopped at any look.
        design_effect: Factor on the variance for clusters.

    Raises:
        ValueError: As `sample_size`.
    """
    unit = _absolute("mde", 1.0, rate, mean, relative=relative)
    needed = _needed("mde", alpha, power, one_sided=one_sided, sequential=sequential)
    _positive("mde", "total", total)
    return needed / math.sqrt(total * _per_unit("mde", sigma, rate, share, design_effect)) / unit


def planned_duration(
    *,
    traffic_per_day: float,
    effect: float,
    sigma: float | None = None,
    rate: float | None = None,
    mean: float | None = None,
    relative: bool = False,
    share: float = 0.5,
    ramp: Sequence[tuple[float, float]] = (),
    alpha: float = 0.05,
    power: float = 0.8,
    one_sided: bool = False,
    sequential: bool = False,
    design_effect: float = 1.0,
) -> float:
    """The days until `effect` is detected with probability `power`, if `traffic_per_day` new units arrive every day.

    A ramp's phases are compared separately and their information adds up: a day at share k contributes k (1 - k) of its units,
    so a day at 1 % gives a 25th of the information of a day at 50 %. The information still missing at the end of the ramp is
    collected at `share`.

    Args:
        traffic_per_day: New units per day, both arms together. Returning units count once.
        effect: The difference to detect; its sign does not matter.
        sigma: Standard deviation of one unit's value; or give `rate`.
        rate: The control's rate, for a binary metric.
        mean: The control's mean, for a relative effect on a metric with `sigma`.
        relative: Whether `effect` is a fraction of the control's mean or rate.
        share: The candidate's fraction of the units after the ramp; the only share without a ramp.
        ramp: (share, days) of every step, in order.
        alpha: Probability of a false rejection.
        power: Probability of detecting the effect, between 0 and 1.
        one_sided: Whether only one direction counts.
        sequential: Whether the comparison may be stopped at any look.
        design_effect: Factor on the variance for clusters.

    Raises:
        ValueError: As `sample_size`; or a step's days are negative, or not finite.
    """
    _positive("planned_duration", "traffic_per_day", traffic_per_day)
    delta = _absolute("planned_duration", effect, rate, mean, relative=relative)
    needed = _needed("planned_duration", alpha, power, one_sided=one_sided, sequential=sequential)
    missing, passed = (needed / delta) ** 2, 0.0
    for step_share, days in ramp:
        if not 0 <= days < math.inf:
            raise ValueError(f"planned_duration: step {(step_share, days)!r} of the ramp: days are 0 or more and finite.")
        gain = traffic_per_day * _per_unit("planned_duration", sigma, rate, step_share, design_effect)
        if gain * days >= missing:
            return passed + missing / gain
        missing -= gain * days
        passed += days
    return passed + missing / (traffic_per_day * _per_unit("planned_duration", sigma, rate, share, design_effect))


def _needed(function: str, alpha: float, power: float, *, one_sided: bool, sequential: bool) -> float:
    """Return the effect to detect in standard errors: the boundary plus the quantile of the power."""
    if not 0 < alpha < 1:
        raise ValueError(f"{function}(alpha={alpha!r}): alpha is the error probability, strictly between 0 and 1.")
    if not alpha < power < 1:
        raise ValueError(f"{function}(power={power!r}): power lies strictly between alpha ({alpha!r}) and 1, such as 0.8.")
    if sequential:
        bounds = one_sided_bound if one_sided else confidence_sequence
        _, boundary = bounds(0.0, 1.0, rho=plan_rho(1.0, alpha=alpha), alpha=alpha)
    else:
        boundary = normal_quantile(1 - (alpha if one_sided else alpha / 2))
    return boundary + normal_quantile(power)


def _per_unit(function: str, sigma: float | None, rate: float | None, share: float, factor: float) -> float:
    """Return the information of one unit."""
    if (sigma is None) == (rate is None):
        raise ValueError(
            f"{function}(sigma={sigma!r}, rate={rate!r}): a metric has a sigma or a rate. Give exactly one of them."
        )
    if rate is not None:
        if not 0 < rate < 1:
            raise ValueError(f"{function}(rate={rate!r}): a rate lies strictly between 0 and 1.")
        sigma = math.sqrt(rate * (1 - rate))
    assert sigma is not None
    _positive(function, "sigma", sigma)
    _positive(function, "design_effect", factor)
    if not 0 < share < 1:
        raise ValueError(
            f"{function}(share={share!r}): the candidate's share lies strictly between 0 and 1, such as 0.05 for 5 %."
        )
    return share * (1 - share) / factor / sigma / sigma


def _absolute(function: str, effect: float, rate: float | None, mean: float | None, *, relative: bool) -> float:
    """Return the size of the effect in the metric's unit."""
    if not 0 < abs(effect) < math.inf:
        raise ValueError(f"{function}(effect={effect!r}): no number of units detects an effect of 0. Give one that matters.")
    if not relative:
        return abs(effect)
    base = rate if rate is not None else mean
    if base is None or not 0 < abs(base) < math.inf:
        raise ValueError(
            f"{function}(relative=True, mean={mean!r}): a relative effect is a fraction of the mean. Give one that is not 0."
        )
    return abs(effect * base)


def _positive(function: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{function}({name}={value!r}): {name} is positive and finite.")
