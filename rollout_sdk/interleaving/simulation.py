"""Simulates how many lists a test on your own rankings would need, compared with an A/B test."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.interleaving.clicks import ClickModel
from rollout_sdk.interleaving.preferences import impressions_needed
from rollout_sdk.interleaving.slots import Interleaved
from rollout_sdk.interleaving.team_draft import TeamDraft

__all__ = ["Query", "Sensitivity", "Simulated", "simulate_ab", "simulate_interleaving"]


class _Design(Protocol):
    """A design that makes lists of two rankings."""

    def merge(self, rankings: Mapping[str, Sequence[Any]], *, k: int | None, seed: int) -> Interleaved[Any]:
        """Make one list."""
        ...


@frozen
class Query:
    """One query: the list of each ranker, and the relevance of the items.

    Attributes:
        rankings: Keys of items by name of the ranker, best first; the first is the control.
        grades: Relevance grade of each item, 0 for irrelevant; 0 if missing.
    """

    rankings: Mapping[str, Sequence[Hashable]]
    grades: Mapping[Hashable, int]

    def grades_of(self, keys: Sequence[Hashable]) -> list[int]:
        """Return the grades of these items."""
        return [self.grades.get(key, 0) for key in keys]


_Weighed = tuple[Query, Interleaved[Any], float]
"""A query's list and its weight."""

_ROUNDING = 1e-12


@frozen
class Sensitivity:
    """How informative one list is about which of two rankers is better.

    Attributes:
        mean: Mean result of a list, above 0 for the candidate.
        deviation: Its standard deviation.
        z_error: Standard error of `z`, because only so many lists were drawn; 0 if the result is exact.
    """

    mean: float
    deviation: float
    z_error: float = 0.0

    @property
    def z(self) -> float:
        """Mean in standard deviations: a test of n lists sees z sqrt(n) standard errors. Infinite if all lists agree."""
        if not self.deviation:
            return math.copysign(math.inf, self.mean) if self.mean else 0.0
        return self.mean / self.deviation

    def needed(self, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
        """Return the number of lists for this power in a two-sided test; None if the mean is 0 up to rounding."""
        return impressions_needed(self.mean, self.deviation, alpha=alpha, power=power) if abs(self.z) > _ROUNDING else None


@frozen
class Simulated:
    """How informative interleaved lists are about which of two rankers is better.

    Attributes:
        credit: By the candidate's credit minus the control's.
        preference: By who has more credit, however much: lists won minus lists lost.
        is_won_fairly: Whether lists won decide who is preferred (`Interleaved.is_won_fairly`).
    """

    credit: Sensitivity
    preference: Sensitivity
    is_won_fairly: bool

    @property
    def verdict(self) -> Sensitivity:
        """The measure by which an analysis of these lists decides who is preferred."""
        return self.preference if self.is_won_fairly else self.credit


class _Moments:
    """Mean and deviation of a list's result, from the mean and mean square of each list."""

    def __init__(self) -> None:
        self._known: list[tuple[float, float, float]] = []

    def add(self, chances: Mapping[int, float] | Mapping[float, float], weight: float) -> None:
        """Add a list by the probabilities of its possible results."""
        mean, square = (math.fsum(chance * value**power for value, chance in chances.items()) for power in (1, 2))
        self._known.append((weight, mean, square))

    def sensitivity(self, *, is_exact: bool) -> Sensitivity:
        whole = math.fsum(weight for weight, _, _ in self._known)
        mean, square = (math.fsum(each[0] * each[of] for each in self._known) / whole for of in (1, 2))
        deviation = math.sqrt(max(0.0, square - mean * mean))
        if is_exact:
            return Sensitivity(mean, deviation)
        if not deviation or len(self._known) == 1:
            # As if drawn from lists that differ: a few lists that agree do not prove that all would.
            return Sensitivity(mean, deviation, 1 / math.sqrt(len(self._known)))
        # Propagates the sampling errors of the moments to z (delta method).
        by_mean, by_square = 1 / deviation + mean**2 / deviation**3, -mean / (2 * deviation**3)
        off = math.fsum((by_mean * (first - mean) + by_square * (second - square)) ** 2 for _, first, second in self._known)
        return Sensitivity(mean, deviation, math.sqrt(off) / len(self._known))


def simulate_interleaving(
    queries: Sequence[Query],
    design: _Design,
    users: ClickModel,
    *,
    impressions: int = 5000,
    k: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Simulated:
    """Return how informative one list is, with all queries equally likely.

    For `TeamDraft` the result is exact: neither clicks nor lists are drawn, unless all queries together have more than
    `impressions` lists. For other designs, both are drawn.

    Args:
        queries: The queries, two rankers each.
        design: The design that makes and credits the lists.
        users: The click model.
        impressions: Number of lists drawn if they are not all enumerated.
        k: Length of the lists.
        seed: The same seed gives the same lists and clicks.
        progress: Called with the number of lists done and the total, every hundred lists.

    Raises:
        ConfigurationError: There are no queries, or one does not have two rankers.
    """
    names = _names(queries)
    rng = random.Random(seed)
    every = _every_list(queries, design, k, impressions) if type(design) is TeamDraft else None
    lists = _drawn(queries, design, k, impressions, rng) if every is None else every
    credits_, signs, fairly = _Moments(), _Moments(), True
    for number, (query, page, weight) in enumerate(lists, 1):
        grades, fairly = query.grades_of(page.keys), fairly and page.is_won_fairly
        if type(design) is TeamDraft:
            chances = users.totals(grades, [(-1, 1)[team] if team >= 0 else 0 for team in page.teams])
            credits_.add(chances, weight)
            signs.add(_signs(chances), weight)
        else:
            clicked = dict.fromkeys([page.keys[at] for at in users.clicks(grades, rng)], 1.0)
            credit = page.credit(clicked)
            credits_.add({credit[names[1]] - credit[names[0]]: 1.0}, weight)
            signs.add({page.preference(clicked): 1.0}, weight)
        if progress is not None and number % 100 == 0:
            progress(number, impressions if every is None else len(every))
    is_exact = every is not None
    return Simulated(credits_.sensitivity(is_exact=is_exact), signs.sensitivity(is_exact=is_exact), fairly)


def _every_list(queries: Sequence[Query], design: TeamDraft, k: int, most: int) -> list[_Weighed] | None:
    """Return every list of every query, with its probability; None if there are more than `most`."""
    lists: list[_Weighed] = []
    for query in queries:
        for page, probability in design.distribution(query.rankings, k=k):
            if len(lists) == most:
                return None
            lists.append((query, page, probability))
    return lists


def _drawn(queries: Sequence[Query], design: _Design, k: int, number: int, rng: random.Random) -> Iterator[_Weighed]:
    for _ in range(number):
        query = rng.choice(queries)
        yield query, design.merge(query.rankings, k=k, seed=rng.getrandbits(60)), 1.0


def _signs(chances: Mapping[int, float]) -> dict[float, float]:
    """Return the probability of every sign."""
    return {
        sign: math.fsum(chance for value, chance in chances.items() if (value > 0) - (value < 0) == sign) for sign in (-1, 0, 1)
    }


def simulate_ab(queries: Sequence[Query], users: ClickModel, *, k: int = 10) -> dict[str, Sensitivity]:
    """Return how informative one list is in an A/B test with half the lists in either arm; exact, nothing is drawn.

    Returns:
        For "clicks" (their number per list) and "any click": the information of one list.
    """
    names = _names(queries)
    found = {}
    for metric, value in (("clicks", float), ("any click", lambda count: float(count > 0))):
        means, variances = [], []
        for name in names:
            first = second = 0.0
            for query in queries:
                grades = query.grades_of(query.rankings[name][:k])
                chances = users.totals(grades, [1] * len(grades)).items()
                first += math.fsum(chance * value(count) for count, chance in chances) / len(queries)
                second += math.fsum(chance * value(count) ** 2 for count, chance in chances) / len(queries)
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
