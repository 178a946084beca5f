"""The lists that each interleaving design needs, compared with an A/B test, on judged web search results; and which are biased.

Eight pairs of rankers on the MSLR-WEB10K slice inside the source archive of rankeval 0.8.2, three kinds of users. An A/B test,
by the better of two click metrics, and team draft are computed exactly, over all lists and clicks; the other designs are
simulated. The archive is read from --data, into which pip downloads it if it is missing (which needs the packages numpy,
Cython, setuptools and wheel).

    python benchmarks/interleaving_sensitivity.py [--data DIR] [--impressions 6000] [--quick]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from rollout_sdk.interleaving import (
    Balanced,
    CascadeClicks,
    Optimized,
    PairwisePreference,
    PositionClicks,
    Probabilistic,
    Query,
    Sensitivity,
    TeamDraft,
    simulate_ab,
    simulate_interleaving,
)

ARCHIVE = "rankeval==0.8.2"
FILES = ("rankeval/test/data/msn1.fold1.train.5k.txt", "rankeval/test/data/msn1.fold1.test.5k.txt")
LEAST_DOCUMENTS, LENGTH = 20, 10
USERS = {
    "perfect": CascadeClicks.perfect(),
    "navigational": CascadeClicks.navigational(),
    "informational": CascadeClicks.informational(),
}
DESIGNS = {
    "team draft, classic": TeamDraft(neutral="off"),
    "team draft, neutral prefix": TeamDraft(neutral="prefix"),
    "team draft, neutral ties": TeamDraft(),
    "competitive pairs": TeamDraft(coin="list"),
    "balanced": Balanced(),
    "probabilistic": Probabilistic(),
    "optimized": Optimized(),
    "pairwise preference": PairwisePreference(),
}
# Features by their number in the data set, from 1. 106..110: BM25 of body, anchor, title, URL and whole document; 111..115: a
# language model of the same; 130 PageRank, 129 links out, 55 a length-normalised sum of term frequencies. Four small changes of
# one ranker, and four pairs of quite different ones.
BASE = dict.fromkeys(range(106, 111), 1.0)
PAIRS = {
    "BM25s, + f55": (BASE, {**BASE, 55: 1.0}),
    "BM25s, - f108": (BASE, {number: 1.0 for number in BASE if number != 108}),
    "BM25s, + f130": (BASE, {**BASE, 130: 1.0}),
    "BM25s, + f129": (BASE, {**BASE, 129: 1.0}),
    "f110, f115": ({110: 1.0}, {115: 1.0}),
    "f108, f113": ({108: 1.0}, {113: 1.0}),
    "f106, f111": ({106: 1.0}, {111: 1.0}),
    "f130, f110": ({130: 1.0}, {110: 1.0}),
}


def archive(folder: Path) -> Path:
    """The source archive, from the folder or by pip."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("rankeval-*.tar.gz")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps", "--no-build-isolation",
             "--dest", str(folder), ARCHIVE],
            check=True,
        )  # fmt: skip
    return next(folder.glob("rankeval-*.tar.gz"))


def judged(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grades and features of the documents of each query with enough of them."""
    grades: dict[str, list[int]] = {}
    features: dict[str, list[list[float]]] = {}
    with tarfile.open(path) as opened:
        for name in opened.getnames():
            if not name.endswith(FILES):
                continue
            file = opened.extractfile(name)
            assert file is not None
            for line in file.read().decode("ascii").splitlines():
                grade, query, *rest = line.split()
                grades.setdefault(query, []).append(int(grade))
                features.setdefault(query, []).append([float(each.partition(":")[2]) for each in rest])
    return [(np.array(grades[query]), np.array(features[query])) for query in grades if len(grades[query]) >= LEAST_DOCUMENTS]


def ranking(features: np.ndarray, weights: dict[int, float]) -> list[int]:
    """Documents by a weighted sum of features, each standardised within the query."""
    score = np.zeros(len(features))
    for number, weight in weights.items():
        column = features[:, number - 1]
        score += weight * (column - column.mean()) / (column.std() or 1.0)
    return np.argsort(-score, kind="stable").tolist()


def ndcg(grades: list[int], ideal: list[int]) -> float:
    """nDCG@10 of a list with these grades."""

    def gain(listed: list[int]) -> float:
        return sum((2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(listed[:LENGTH]))

    return gain(grades) / (gain(sorted(ideal, reverse=True)) or 1.0)


def sensitivities(queries: list[tuple[np.ndarray, np.ndarray]], impressions: int) -> None:
    """The tables of lists needed, of their ratio to an A/B test, and of that of the kinds of team draft to the classic one."""
    found: dict[tuple[str, str, str], Sensitivity] = {}
    signs: dict[str, int] = dict.fromkeys(("A/B test", *DESIGNS), 0)
    for pair, (control, candidate) in PAIRS.items():
        made = [Query({"A": ranking(x, control), "B": ranking(x, candidate)}, dict(enumerate(y.tolist()))) for y, x in queries]
        truth = statistics.mean(
            ndcg(query.grades_of(query.rankings["B"]), list(query.grades.values()))
            - ndcg(query.grades_of(query.rankings["A"]), list(query.grades.values()))
            for query in made
        )
        same = statistics.mean(
            len(set(query.rankings["A"][:LENGTH]) & set(query.rankings["B"][:LENGTH]))
            / len(set(query.rankings["A"][:LENGTH]) | set(query.rankings["B"][:LENGTH]))
            for query in made
        )
        print(f"{pair:<14} nDCG@10 {truth:+.3f}, {same:.0%} of the items the same", flush=True)
        for users, model in USERS.items():
            found[pair, users, "A/B test"] = max(simulate_ab(made, model, k=LENGTH).values(), key=lambda each: abs(each.z))
            for name, design in DESIGNS.items():
                # A coin for every two positions at most: few enough lists to go through them all.
                most = 2 ** (LENGTH // 2) * len(made) if isinstance(design, TeamDraft) else impressions
                simulated = simulate_interleaving(made, design, model, impressions=most, k=LENGTH, seed=1)
                found[pair, users, name] = simulated.credit
            for name in signs:
                signs[name] += found[pair, users, name].mean * truth > 0

    def median_times(name: str, base: str, cells: list[tuple[str, str]]) -> float:
        return statistics.median((found[*cell, name].z / found[*cell, base].z) ** 2 for cell in cells)

    print(
        f"\nmedians over {len(PAIRS)} pairs; exact for the A/B test and team draft, of {impressions:,} lists for the others\n"
    )
    print(f"{'':<28}" + "".join(f"{users + ': gain, lists':>28}" for users in USERS) + f"{'sign = nDCG':>13}")
    for name, right in signs.items():
        columns = []
        for users in USERS:
            gain = median_times(name, "A/B test", [(pair, users) for pair in PAIRS])
            lists = statistics.median(found[pair, users, name].needed() or math.inf for pair in PAIRS)
            columns.append(f"{gain:>16.1f}x {lists:>10,.0f}")
        print(f"{name:<28}" + "".join(columns) + f"{right:>8} of {len(PAIRS) * len(USERS)}")

    classic, *others = [name for name, design in DESIGNS.items() if isinstance(design, TeamDraft)]
    print(f"\nfewer lists than with {classic}, exact\n")
    print(f"{'':<28}" + "".join(f"{name:>28}" for name in others))
    rows = {f"{pair}, {users}": [(pair, users)] for pair in PAIRS for users in USERS}
    rows |= {f"median, {users}": [(pair, users) for pair in PAIRS] for users in USERS}
    rows["median"] = [(pair, users) for pair in PAIRS for users in USERS]
    for row, cells in rows.items():
        print(f"{row:<28}" + "".join(f"{median_times(name, classic, cells):>27.2f}x" for name in others))


def false_winners(repeats: int, impressions: int) -> tuple[float, float]:
    """How often a winner is declared between two equally good rankers with nothing in common."""
    model = PositionClicks((0.3,), [1 / place for place in range(1, 7)])
    rng, design = random.Random(1), TeamDraft()
    rankings = {"A": ["a1", "a2", "a3"], "B": ["b1", "b2", "b3"]}
    naive, drafted = 0, 0
    for _ in range(repeats):
        clicks, signs = [0, 0], []
        for _ in range(impressions):
            # A, B, A, B, A, B: A's items stand higher in every pair.
            for position in model.clicks([0] * 6, rng):
                clicks[position % 2] += 1
            page = design.merge(rankings, k=6, seed=rng.getrandbits(60))
            credit = page.credit(dict.fromkeys([page.keys[at] for at in model.clicks([0] * 6, rng)], 1.0))
            signs.append(credit["B"] - credit["A"])
        shown = 3 * impressions
        pooled = sum(clicks) / (2 * shown)
        z = (clicks[1] - clicks[0]) / shown / math.sqrt(2 * pooled * (1 - pooled) / shown)
        naive += abs(z) > 1.96
        drafted += abs(statistics.fmean(signs)) > 1.96 * statistics.pstdev(signs) / math.sqrt(impressions)
    print(f"\n{impressions:,} lists of two equally good rankers, {repeats:,} times, a test at 5 %:")
    print(f"  A, B, A, B, ... by click rate: a winner in {naive / repeats:.1%}")
    print(f"  team draft:                    a winner in {drafted / repeats:.1%}")
    return naive / repeats, drafted / repeats


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("interleaving-data"))
    parser.add_argument("--impressions", type=int, default=6000)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lists and repeats")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    queries = judged(archive(options.data))
    print(f"{len(queries)} queries with {LEAST_DOCUMENTS} documents or more\n")
    sensitivities(queries, options.impressions // part)
    false_winners(options.repeats // part, 1000)


if __name__ == "__main__":
    main()
