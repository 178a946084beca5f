"""Microseconds for one merge and for the credit of three clicks, for every design: two and five rankers, 10 and 100 items.

    python benchmarks/interleaving_speed.py [--repeats 30]

Least and median of the repeats: the least is the cost of the code, the median includes the noise of this machine.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import timeit
from collections.abc import Callable

from rollout_sdk.interleaving import Balanced, Optimized, PairwisePreference, Probabilistic, TeamDraft

DESIGNS = {
    "TeamDraft()": TeamDraft(),
    'TeamDraft(neutral="off")': TeamDraft(neutral="off"),
    'TeamDraft(coin="list")': TeamDraft(coin="list"),
    "Balanced()": Balanced(),
    "Probabilistic()": Probabilistic(),
    "Optimized()": Optimized(),
    "PairwisePreference()": PairwisePreference(),
}
SIZES = ((2, 10), (2, 100), (5, 10), (5, 100))


def rankings(rankers: int, length: int) -> dict[str, list[str]]:
    """Similar rankings of as many items again as are shown."""
    rng = random.Random(7)
    items = [f"item-{number}" for number in range(2 * length)]
    made = {}
    for ranker in range(rankers):
        score = {item: place + rng.gauss(0, length / 4) for place, item in enumerate(items)}
        made[f"ranker-{ranker}"] = sorted(items, key=score.__getitem__)[:length]
    return made


class Timed:
    """The time of one call of a function, again and again."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._number = max(1, int(0.003 / max(1e-7, min(timeit.repeat(function, number=1, repeat=5)))))
        self._times: list[float] = []

    def again(self) -> None:
        """Take it once more."""
        self._times.append(timeit.timeit(self._function, number=self._number) / self._number * 1e6)

    def __str__(self) -> str:
        """Least and median, in microseconds."""
        return f"{min(self._times):>13.1f} {statistics.median(self._times):>8.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    repeats = parser.parse_args().repeats
    rows = []
    for (name, design), (rankers, length) in itertools.product(DESIGNS.items(), SIZES):
        if rankers > 2 and isinstance(design, Balanced):
            continue
        about, seeds = rankings(rankers, length), itertools.count()
        page = design.merge(about, seed=1)
        clicks = dict.fromkeys(page.keys[1:6:2], 1.0)
        merge = Timed(lambda design=design, about=about, seeds=seeds: design.merge(about, seed=next(seeds)))
        credit = Timed(lambda page=page, clicks=clicks: page.credit(clicks))
        rows.append((name, f"{rankers} x {length}", merge, credit, " (team draft)" if page.fallback else ""))
    # One after the other, so that a minute in which the machine is slow is one for all of them.
    for _ in range(repeats):
        for _, _, merge, credit, _ in rows:
            merge.again()
            credit.again()
    print(f"{'design':<26} {'rankers x items':>15} {'merge: least, median':>22} {'credit: least, median':>22}")
    for name, size, merge, credit, drafted in rows:
        print(f"{name:<26} {size:>15} {merge} {credit}{drafted}")


if __name__ == "__main__":
    main()
