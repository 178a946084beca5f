"""Simulated users: which items of a list they click, by relevance."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["CascadeClicks", "ClickModel", "PositionClicks"]


class ClickModel(Protocol):
    """A user model: samples clicks, and gives their exact distribution."""

    def clicks(self, grades: Sequence[int], rng: random.Random) -> list[int]:
        """Sample the positions clicked on a list of items with these relevance grades."""
        ...

    def totals(self, grades: Sequence[int], values: Sequence[int]) -> dict[int, float]:
        """Return the exact probability of every sum of the clicked positions' values."""
        ...


def _probabilities(numbers: Sequence[float]) -> tuple[float, ...]:
    made = tuple(float(number) for number in numbers)
    if not made or not all(0 <= number <= 1 for number in made):
        raise ConfigurationError(
            f"{made!r:.80} are not probabilities, one for each grade or position. Each lies in 0..1. "
            "Give one for every grade, the least relevant first."
        )
    return made


def _of(table: Sequence[float], grade: int) -> float:
    """Return the entry of a grade, clamped to the table's range."""
    return table[min(max(grade, 0), len(table) - 1)]


@frozen
class CascadeClicks:
    """A user who reads from the top, clicks with a probability that depends on relevance, and may stop after a click.

    The dependent click model of Guo et al. (WSDM 2009) with the parameters of Hofmann et al. (TOIS 2013) for five grades.

    Attributes:
        click: Probability of a click by grade, the least relevant first.
        stop: Probability of stopping after a click, by grade.
    """

    click: tuple[float, ...] = field(converter=_probabilities)
    stop: tuple[float, ...] = field(converter=_probabilities)

    @classmethod
    def perfect(cls) -> CascadeClicks:
        """Reads everything and clicks relevant items."""
        return cls((0.0, 0.2, 0.4, 0.8, 1.0), (0.0, 0.0, 0.0, 0.0, 0.0))

    @classmethod
    def navigational(cls) -> CascadeClicks:
        """Looks for one item and stops once it is found."""
        return cls((0.05, 0.3, 0.5, 0.7, 0.95), (0.2, 0.3, 0.5, 0.7, 0.9))

    @classmethod
    def informational(cls) -> CascadeClicks:
        """Collects items, clicks nearly everything, and stops late: the noisiest user."""
        return cls((0.4, 0.6, 0.7, 0.8, 0.9), (0.1, 0.2, 0.3, 0.4, 0.5))

    def clicks(self, grades: Sequence[int], rng: random.Random) -> list[int]:
        """Sample the positions clicked on a list of items with these relevance grades."""
        clicked = []
        for position, grade in enumerate(grades):
            if rng.random() < _of(self.click, grade):
                clicked.append(position)
                if rng.random() < _of(self.stop, grade):
                    break
        return clicked

    def totals(self, grades: Sequence[int], values: Sequence[int]) -> dict[int, float]:
        """Return the exact probability of every sum of the clicked positions' values."""
        reading: dict[int, float] = {0: 1.0}
        done: defaultdict[int, float] = defaultdict(float)
        for grade, value in zip(grades, values, strict=True):
            click, stop = _of(self.click, grade), _of(self.stop, grade)
            after: defaultdict[int, float] = defaultdict(float)
            for total, probability in reading.items():
                after[total] += probability * (1 - click)
                after[total + value] += probability * click * (1 - stop)
                done[total + value] += probability * click * stop
            reading = after
        for total, probability in reading.items():
            done[total] += probability
        return dict(done)


_DEEPEST = 100
"""Number of positions with an examination of their own."""


def _falling(power: float) -> tuple[float, ...]:
    """Return examinations that fall with the position: 1 / position**power."""
    return tuple(position**-power for position in range(1, _DEEPEST + 1))


@frozen
class PositionClicks:
    """A user who examines each position with a fixed probability, whatever is above it, and clicks relevant items.

    The position-based model of Craswell et al. (WSDM 2008). The three kinds of users click examined items as those of
    `CascadeClicks` do; the examination falls as a power of the position, as in Joachims et al. (WSDM 2017).

    Attributes:
        click: Probability of a click on an examined item, by grade.
        examination: Probability of examining a position, from the top; the last value applies to all further positions.
    """

    click: tuple[float, ...] = field(converter=_probabilities)
    examination: tuple[float, ...] = field(converter=_probabilities)

    @classmethod
    def perfect(cls) -> PositionClicks:
        """Examines everything and clicks relevant items."""
        return cls(CascadeClicks.perfect().click, (1.0,))

    @classmethod
    def navigational(cls) -> PositionClicks:
        """Looks near the top for one item: examines position p with probability 1/p."""
        return cls(CascadeClicks.navigational().click, _falling(1.0))

    @classmethod
    def informational(cls) -> PositionClicks:
        """Collects items, clicks nearly everything examined, and looks deeper: position p with probability 1/sqrt(p)."""
        return cls(CascadeClicks.informational().click, _falling(0.5))

    def clicks(self, grades: Sequence[int], rng: random.Random) -> list[int]:
        """Sample the positions clicked on a list of items with these relevance grades."""
        return [position for position, grade in enumerate(grades) if rng.random() < self._chance(position, grade)]

    def _chance(self, position: int, grade: int) -> float:
        return _of(self.examination, position) * _of(self.click, grade)

    def totals(self, grades: Sequence[int], values: Sequence[int]) -> dict[int, float]:
        """Return the exact probability of every sum of the clicked positions' values."""
        totals: dict[int, float] = {0: 1.0}
        for position, (grade, value) in enumerate(zip(grades, values, strict=True)):
            chance = self._chance(position, grade)
            longer: defaultdict[int, float] = defaultdict(float)
            for total, probability in totals.items():
                longer[total] += probability * (1 - chance)
                longer[total + value] += probability * chance
            totals = longer
        return dict(totals)
