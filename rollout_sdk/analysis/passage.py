"""How likely it is that evidence has crossed its boundary by some time: first passages of random walks, by quadrature.

An e-value that is looked at all the time stops at its first crossing, so the time it takes is a distribution. Its expected path
crosses at a time that is reached with a probability of about .5 to .63 only.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from attrs import frozen

from rollout_sdk.judging.e_values import MIN_EVENTS
from rollout_sdk.stats.distributions import normal_cdf

__all__ = ["Chances", "Times", "crossed_by_counts", "crossed_by_motion"]

_FAR = 5.5
"""Standard deviations beyond which no path counts (4e-8)."""

_PER_STEP = 0.45
"""Distance of two nodes, in standard deviations of the step."""

_LEAST_MASS = 1e-9


@frozen
class Chances:
    """How likely something has happened by which day.

    Attributes:
        days: Days, ascending.
        chances: The probability by then, not descending.
        is_stepped: Whether it can only happen on one of these days; otherwise at any time.
    """

    days: tuple[float, ...]
    chances: tuple[float, ...]
    is_stepped: bool = False

    def at(self, days: float) -> float:
        """The probability by some day."""
        if not self.days or days < self.days[0] * (1 - 1e-9):
            return 0.0
        if days >= self.days[-1]:
            return self.chances[-1]
        index = bisect_left(self.days, days)
        if index == 0 or self.days[index] == days:
            return self.chances[index]
        before, after = self.chances[index - 1], self.chances[index]
        if self.is_stepped:
            return before
        part = math.log(days / self.days[index - 1]) / math.log(self.days[index] / self.days[index - 1])
        return before + part * (after - before)

    def later_by(self, days: float) -> Chances:
        """The same, so many days later."""
        return Chances(tuple(each + days for each in self.days), self.chances, self.is_stepped)


@frozen
class Times:
    """When something has happened, in days; None: never, or not within ten years.

    Attributes:
        days_50: By then with a probability of one half.
        days_80: By then with a probability of .8.
    """

    days_50: float | None
    days_80: float | None


def crossed_by_motion(
    times: Sequence[float], boundaries: Sequence[float], *, drift: float, is_watched: bool = True
) -> list[float]:
    """The probability that a Brownian motion with this drift has reached a boundary by each time.

    The density of the paths that have not crossed is carried from time to time by the midpoint rule; between two times, a
    path that is below the boundary (taken as a line) at both has crossed with probability exp(-2 d d' / dt), the distances
    being d and d'. With times that grow by a tenth, probabilities are exact to about .001.

    Sources: Wang and Poetzelberger, Journal of Applied Probability 34 (1997), for lines; Armitage, McPherson and Rowe, Journal
    of the Royal Statistical Society A 132 (1969), for the recursion.

    Args:
        times: The variance of the motion (for a score: the information), ascending, the first above 0.
        boundaries: The boundary at each.
        drift: The drift per unit of time.
        is_watched: Whether the motion is looked at all the time from the first on; otherwise at these times alone.
    """
    crossed = [1 - normal_cdf((boundaries[0] - drift * times[0]) / math.sqrt(times[0]))]
    steps = [after - before for before, after in pairwise(times)]
    spread = math.sqrt(times[0])
    width = _width(spread, steps[0] if steps else times[0])
    nodes = _nodes(boundaries[0], drift * times[0], spread, width)
    scale = width / (spread * math.sqrt(2 * math.pi))
    masses = [scale * math.exp(-0.5 * ((node - drift * times[0]) / spread) ** 2) for node in nodes]
    for index, step in enumerate(steps):
        before, after = boundaries[index], boundaries[index + 1]
        width = _width(math.sqrt(step), steps[index + 1] if index + 1 < len(steps) else step)
        following = _nodes(after, drift * times[index + 1], math.sqrt(times[index + 1]), width)
        alive = [(node, mass) for node, mass in zip(nodes, masses, strict=True) if mass > _LEAST_MASS * width]
        masses = [
            width * _arriving(node, after - node if is_watched else math.inf, alive, before, step, drift) for node in following
        ]
        nodes = following
        crossed.append(max(crossed[-1], 1 - math.fsum(masses)))
    return crossed


def _width(spread: float, next_step: float) -> float:
    return _PER_STEP * min(spread, math.sqrt(next_step))


def _nodes(boundary: float, mean: float, spread: float, width: float) -> list[float]:
    """Where the density is carried: below the boundary, and not farther from the mean than a path counts.

    A boundary may be a million deviations away while there is little to judge by.
    """
    high, low = min(boundary, mean + _FAR * spread), mean - _FAR * spread
    return [high - width * (place + 0.5) for place in range(max(0, math.ceil((high - low) / width)))]


def _arriving(
    node: float, distance: float, alive: Sequence[tuple[float, float]], boundary: float, step: float, drift: float
) -> float:
    """The density of the paths that arrive at a node without having crossed."""
    spread = math.sqrt(step)
    reach, expected = _FAR * spread, node - drift * step
    total = 0.0
    for start, mass in alive:
        moved = expected - start
        if -reach < moved < reach:
            density = math.exp(-moved * moved / (2 * step))
            crossing = 2 * distance * (boundary - start) / step
            total += mass * density * (1.0 if crossing > 30 else -math.expm1(-crossing))
    return total / (spread * math.sqrt(2 * math.pi))


def crossed_by_counts(means: Sequence[float], limits: Sequence[tuple[int, int]], *, split: int = MIN_EVENTS) -> list[float]:
    """The probability that a Poisson count has been within its limits at one of the looks so far.

    The distribution of the counts that were beyond the limits at every look is carried from look to look.

    Args:
        means: The mean count at each look, ascending.
        limits: The largest count below `split` that is within, and the largest from `split` on, at each look.
        split: See `limits`.
    """
    alive, gone, crossed = {0: 1.0}, 0.0, []
    mean = 0.0
    for now, (few, many) in zip(means, limits, strict=True):
        moved: dict[int, float] = {}
        jumps = _jumps(now - mean)
        for count, mass in alive.items():
            for jump, chance in jumps:
                moved[count + jump] = moved.get(count + jump, 0.0) + mass * chance
        within = {count for count in moved if (count <= few if count < split else count <= many)}
        gone += math.fsum(moved[count] for count in within)
        alive = {count: mass for count, mass in moved.items() if count not in within and mass > _LEAST_MASS}
        mean = now
        crossed.append(min(1.0, gone))
    return crossed


def _jumps(mean: float) -> list[tuple[int, float]]:
    """A Poisson number: whole numbers and their probabilities."""
    last = math.ceil(mean + _FAR * math.sqrt(mean) + 4)
    return [(number, math.exp(number * math.log(mean) - mean - math.lgamma(number + 1))) for number in range(last + 1)]
