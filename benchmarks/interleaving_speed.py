"""Microseconds for one merge and for the credit of three clicks, for every design: two and five rankers, 10 and 100 items.

    python benchmarks/interleaving_speed.py [--repeats 30]

Least and median of the repeats: the least says what the code costs, the median what this machine makes of it.
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


def microseconds(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Least and median time of one call."""
    number = max(1, int(0.002 / max(1e-7, min(timeit.repeat(function, number=1, repeat=5)))))
    times = [each / number * 1e6 for each in timeit.repeat(function, number=number, repeat=repeats)]
    return min(times), statistics.median(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    print(f"{'design':<26} {'rankers x items':>15} {'merge: least, median':>22} {'credit: least, median':>22}")
    for (name, design), (rankers, length) in itertools.product(DESIGNS.items(), SIZES):
        if rankers > 2 and isinstance(design, Balanced):
            continue
        about, seeds = rankings(rankers, length), itertools.count()
        merge = microseconds(lambda design=design, about=about, seeds=seeds: design.merge(about, seed=next(seeds)), repeats)
        page = design.merge(about, seed=1)
        clicks = dict.fromkeys(page.keys[1:6:2], 1.0)
        credit = microseconds(lambda page=page, clicks=clicks: page.credit(clicks), repeats)
        drafted = " (team draft)" if page.fallback else ""
        figures = f"{merge[0]:>13.1f} {merge[1]:>8.1f} {credit[0]:>13.1f} {credit[1]:>8.1f}"
        print(f"{name:<26} {f'{rankers} x {length}':>15} {figures}{drafted}", flush=True)


if __name__ == "__main__":
    main()
