"""How many lists a test would take on your own rankings: simulated clicks on interleaved lists, beside an exact A/B test."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from attrs import define, frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.clicks import ClickModel
from rollout_sdk.interleaving.preferences import impressions_needed
from rollout_sdk.interleaving.slots import Interleaved

__all__ = ["Query", "Sensitivity", "simulate_ab", "simulate_interleaving"]


class _Design(Protocol):
    def merge(self, rankings: Mapping[str, Sequence[Any]], *, k: int | None, seed: int) -> Interleaved[Any]: ...


@frozen
class Query:
    """One query: what each ranker shows for it, and how relevant the items are.

    Attributes:
        rankings: Keys of items by name of the ranker, best first; the first is the control.
        grades: Grade of relevance of each item, 0 for none; 0 where missing.
    """

    rankings: Mapping[str, Sequence[Hashable]]
    grades: Mapping[Hashable, int]

    def grades_of(self, keys: Sequence[Hashable]) -> list[int]:
        """Grades of these items."""
        return [self.grades.get(key, 0) for key in keys]


@frozen
class Sensitivity:
    """How much one list tells about which of two rankers is better.

    Attributes:
        mean: Mean of what one list says, above 0 for the candidate.
        deviation: Its standard deviation.
        impressions: Lists that were simulated; 0 where the moments are exact.
    """

    mean: float
    deviation: float
    impressions: int = 0

    @property
    def z(self) -> float:
        """Mean in standard deviations: a test of n lists sees z sqrt(n) standard errors."""
        return self.mean / self.deviation if self.deviation else 0.0

    @property
    def z_error(self) -> float:
        """Standard error of `z`, from having simulated so few lists."""
        return math.sqrt((1 + self.z**2 / 2) / self.impressions) if self.impressions else 0.0

    def needed(self, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
        """Lists for so much power in a two-sided test; None where there is nothing to see."""
        return impressions_needed(self.mean, self.deviation, alpha=alpha, power=power)


@define
class _Moments:
    number: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.number += 1
        self.total += value
        self.squares += value * value

    def sensitivity(self) -> Sensitivity:
        mean = self.total / self.number
        return Sensitivity(mean, math.sqrt(max(0.0, self.squares / self.number - mean * mean)), self.number)


def simulate_interleaving(
    queries: Sequence[Query],
    design: _Design,
    users: ClickModel,
    *,
    impressions: int = 5000,
    k: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Sensitivity, Sensitivity]:
    """Simulate lists of queries drawn at random; what the credit of one list tells, and what its sign alone does.

    Args:
        queries: The queries, two rankers each.
        design: How the lists are made and credited.
        users: How they are clicked.
        impressions: How many lists.
        k: Their length.
        seed: The same seed gives the same lists and clicks.
        progress: Called with the number of lists done and that of all, every hundred.

    Raises:
        ConfigurationError: There are no queries, or one has not two rankers.
    """
    names = _names(queries)
    rng = random.Random(seed)
    credits_, signs = _Moments(), _Moments()
    for number in range(impressions):
        query = rng.choice(queries)
        page = design.merge(query.rankings, k=k, seed=rng.getrandbits(60))
        clicked = dict.fromkeys([page.keys[at] for at in users.clicks(query.grades_of(page.keys), rng)], 1.0)
        credit = page.credit(clicked)
        credits_.add(credit[names[1]] - credit[names[0]])
        signs.add(page.preference(clicked))
        if progress is not None and number % 100 == 99:
            progress(number + 1, impressions)
    return credits_.sensitivity(), signs.sensitivity()


def simulate_ab(queries: Sequence[Query], users: ClickModel, *, k: int = 10) -> dict[str, Sensitivity]:
    """The same question asked of an A/B test with half the lists in either arm: exact, nothing is drawn.

    Returns:
        For "clicks" (their number on a list) and "any click": what one list tells.
    """
    names = _names(queries)
    found = {}
    for metric, value in (("clicks", float), ("any click", lambda count: float(count > 0))):
        means, variances = [], []
        for name in names:
            first = second = 0.0
            for query in queries:
                chances = users.distribution(query.grades_of(query.rankings[name][:k]))
                first += math.fsum(chance * value(count) for count, chance in enumerate(chances)) / len(queries)
                second += math.fsum(chance * value(count) ** 2 for count, chance in enumerate(chances)) / len(queries)
            means.append(first)
            variances.append(second - first * first)
        # The difference of two means of n/2 lists each has the variance 2 (v_A + v_B) / n.
        found[metric] = Sensitivity(means[1] - means[0], math.sqrt(2 * math.fsum(variances)))
    return found


def _names(queries: Sequence[Query]) -> tuple[str, str]:
    names = {tuple(query.rankings) for query in queries}
    if len(names) != 1 or len(next(iter(names))) != 2:
        raise ConfigurationError(
            f"{len(queries)} queries with rankings of {sorted(names)!r:.120} cannot be simulated. "
            "All queries need the rankings of the same two rankers, the control's first. Leave out the others."
        )
    control, candidate = next(iter(names))
    return control, candidate
