"""Boundaries for a test with a planned end: a few looks share the error probability, most of it at the last."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from attrs import define, field

from rollout_sdk.stats.distributions import normal_cdf, normal_quantile

__all__ = ["spending_boundaries"]

_NODES = 10
_STEPS = 80
_FAR, _FARTHEST = 9.0, 38.0
"""Standard errors beyond which paths are ignored (1e-19), and beyond which no boundary is searched (1e-300)."""

_LEAST = 1e-300
_CLOSEST = 1e-3


def spending_boundaries(
    fractions: Sequence[float], *, alpha: float = 0.05, one_sided: bool = True, information: Sequence[float] | None = None
) -> list[float]:
    """Critical values of z = estimate / std_error at each look, by error spending of the O'Brien-Fleming type.

    Up to the fraction t the test spends alpha(t) = 2 - 2 Phi(z_(alpha/2) / sqrt t) of its error probability, and all of it by
    t = 1 (two-sided: half of alpha at either end, each by this rule). The boundary at look k solves
    P(cross first at k) = alpha(t_k) - alpha(t_(k-1)) for the score, a Brownian motion in the information, by recursive
    integration over the paths that have not crossed. It depends on past looks only: neither their number nor their times need
    to be planned, only the meaning of t = 1; but times must not depend on the estimates.

    Looks may be timed by something other than information, such as days or users, which grow at another pace on a ramp: 1,000
    users at a share of 1 % give less information than 1,000 at 50 %. In that case pass the information as well: the fractions
    determine the spending, and the information the correlation of the looks.

    With five equal steps, alpha = .025 one-sided: 4.877, 3.357, 2.680, 2.290 and 2.031. The sample grows by 3 % over that of a
    fixed test.

    Sources: Lan and DeMets, Biometrika 70 (1983), for the spending; Armitage, McPherson and Rowe, Journal of the Royal
    Statistical Society A 132 (1969), for the integration.

    Args:
        fractions: Information (or time) at each look, as a fraction of the plan: positive and ascending. Beyond 1 nothing is
            left to spend. A look with less than .1 % more information than the last spends nothing.
        alpha: Error probability of the whole test.
        one_sided: Whether only large z reject; otherwise large |z| do.
        information: Information at each look if `fractions` are not its fractions; in any unit, positive and ascending.

    Returns:
        One critical value per look: inf if nothing (or less than 1e-300) is left to spend.

    Raises:
        ValueError: `alpha` is not strictly between 0 and 1, or fractions or information are not positive, finite and
            ascending, or not of one length.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"spending_boundaries(alpha={alpha!r}): alpha is the error probability, strictly between 0 and 1.")
    times = fractions if information is None else information
    for name, values in (("fractions", fractions), ("information", times)):
        if not (all(0 < t < math.inf for t in values) and all(t < later for t, later in pairwise(values))):
            raise ValueError(
                f"spending_boundaries({name}={list(values)!r}): information grows from look to look. "
                "Give positive numbers, ascending."
            )
    if len(times) != len(fractions):
        raise ValueError(
            f"spending_boundaries: {len(fractions)} fractions and {len(times)} numbers of information. Give one for each look."
        )
    paths, boundaries = _Paths(one_sided=one_sided), []
    for t, fraction in zip(times, fractions, strict=True):
        to_spend = _to_spend(fraction, alpha, one_sided=one_sided) - paths.spent
        boundaries.append(paths.look(t, to_spend) if to_spend > _LEAST and t - paths.time >= _CLOSEST * t else math.inf)
    return boundaries


def _to_spend(t: float, alpha: float, *, one_sided: bool) -> float:
    """Return the error probability spent up to the fraction t."""
    if t >= 1:
        return alpha
    ends = 1 if one_sided else 2
    return 2 * ends * normal_cdf(normal_quantile(alpha / ends / 2) / math.sqrt(t))


@define
class _Paths:
    """Paths of a Brownian motion that have not crossed a boundary, as probabilities at nodes of the score.

    Attributes:
        one_sided: Whether only an upper boundary ends them.
        spent: Probability of having crossed.
        time: Information at the last look.
        boundary: Its critical value, on the scale of z.
        gap: Standard deviation of the step before it.
        scores: Nodes at the look before, ascending.
        masses: Probability mass of each node.
    """

    one_sided: bool
    spent: float = 0.0
    time: float = 0.0
    boundary: float = 0.0
    gap: float = 0.0
    scores: list[float] = field(factory=lambda: [0.0])
    masses: list[float] = field(factory=lambda: [1.0])

    def look(self, time: float, to_spend: float) -> float:
        """Return the critical value with this probability of crossing first at this look."""
        gap = math.sqrt(time - self.time)
        if self.time:
            self._advance(gap)
        root = math.sqrt(time)

        def crossed(z: float) -> float:
            above = (m * normal_cdf((s - z * root) / gap) for s, m in zip(self.scores, self.masses, strict=True))
            if self.one_sided:
                return math.fsum(above)
            return math.fsum(above) + math.fsum(
                m * normal_cdf((-z * root - s) / gap) for s, m in zip(self.scores, self.masses, strict=True)
            )

        low, high = -_FARTHEST if self.one_sided else 0.0, _FARTHEST
        for _ in range(_STEPS):
            z = (low + high) / 2
            low, high = (z, high) if crossed(z) > to_spend else (low, z)
        self.time, self.gap, self.boundary = time, gap, high
        self.spent += to_spend
        return high

    def _advance(self, following: float) -> None:
        """Move the nodes to the last look, spaced closely enough for the following step."""
        root = math.sqrt(self.time)
        high = root * min(self.boundary, _FAR)
        low = -root * _FAR if self.one_sided else -high
        # Densities vary on the scale of a step's standard deviation: ten Gauss nodes for every 1.5 of them.
        panels = math.ceil((high - low) / (1.5 * min(self.gap, following)))
        half = (high - low) / panels / 2
        scores, masses = [], []
        for panel in range(panels):
            for node, weight in _gauss():
                score = low + half * (2 * panel + 1 + node)
                scores.append(score)
                masses.append(half * weight * self._density(score))
        self.scores, self.masses = scores, masses

    def _density(self, score: float) -> float:
        reach = _FAR * self.gap
        near = slice(bisect_left(self.scores, score - reach), bisect_right(self.scores, score + reach))
        scale = -1 / (2 * self.gap * self.gap)
        return math.fsum(
            m * math.exp(scale * (score - s) ** 2) for s, m in zip(self.scores[near], self.masses[near], strict=True)
        ) / (self.gap * math.sqrt(2 * math.pi))


@cache
def _gauss() -> tuple[tuple[float, float], ...]:
    """Nodes and weights of Gauss-Legendre integration over -1..1 (DLMF 3.5), by Newton's method."""
    found = []
    for k in range(_NODES):
        x, slope = math.cos(math.pi * (k + 0.75) / (_NODES + 0.5)), 1.0
        for _ in range(20):
            before, value = 1.0, x
            for n in range(2, _NODES + 1):
                before, value = value, ((2 * n - 1) * x * value - (n - 1) * before) / n
            slope = _NODES * (x * value - before) / (x * x - 1)
            x -= value / slope
        found.append((x, 2 / ((1 - x * x) * slope * slope)))
    return tuple(sorted(found))
