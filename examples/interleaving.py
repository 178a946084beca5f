"""Two recommenders on MovieLens, compared twice: by an interleaved test, and by an A/B test on the same kind of visitors.

    make interleaving

Both are EASE (Steck, WWW 2019), the candidate with a better penalty. Each visitor is a new person with the taste of a user of
MovieLens, looks at ten films and clicks according to `movies.clicks`. First, the number of visits that each test needs is
computed. Then both are run: they are looked at repeatedly and stop when the result is significant, at an error probability of
5 % for any number of looks.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from movies import Films, Recommender, clicks, ease, ndcg, visitors
from rollout_sdk import ABTest, Interleave, Runtime, rollout
from rollout_sdk.analysis import analyze_interleaving
from rollout_sdk.interleaving import Preference, Query, TeamDraft, simulate_ab, simulate_interleaving
from rollout_sdk.stats import StratifiedBuckets, confidence_sequence, log_e_two_sided

SHOWN, MOST_VISITS = 10, 200_000
ALPHA = 0.05


def ranks(recommender: Recommender) -> Callable[[str, int], list[int]]:
    """Return a recommender as a function of the visitor, and of the user whose taste the visitor has."""

    def recommend(visitor: str, user: int) -> list[int]:
        return recommender.rank(user)

    return recommend


def planned(films: Films, control: Recommender, candidate: Recommender) -> tuple[int | None, int | None]:
    """Return the visits for 80 % power of the interleaved test and of the A/B test: exact, over all lists and clicks."""
    queries = [
        Query({"control": control.rank(user), "candidate": candidate.rank(user)}, dict.fromkeys(films.relevant[user], 1))
        for user in films.users
    ]
    simulated = simulate_interleaving(
        queries, TeamDraft(), visitors(SHOWN), k=SHOWN, impressions=2 ** (SHOWN // 2) * len(queries)
    )
    return simulated.verdict.needed(), simulate_ab(queries, visitors(SHOWN), k=SHOWN)["clicks"].needed()


def interleaved(films: Films, control: Recommender, candidate: Recommender, seed: int, folder: Path) -> tuple[int, Preference]:
    """Return the visits until the interleaved test is significant, and its result."""
    rng, runtime = random.Random(seed), Runtime(journal=folder)

    @rollout(candidate=ranks(candidate), strategy=Interleave(k=SHOWN), unit="visitor", key="films", runtime=runtime)
    def recommend(visitor: str, user: int) -> list[int]:
        return control.rank(user)

    for visit in range(1, MOST_VISITS + 1):
        user = rng.choice(films.users)
        routed = recommend.rollout.route(f"{seed}-{visit}", user)
        for film in clicks(routed.value, films.relevant[user], rng):
            recommend.rollout.record("click", 1, decision_id=routed.decision.id, item=film)
        if visit % 100 == 0:
            runtime.flush()
            preference = analyze_interleaving(folder, alpha=ALPHA).by_candidate["candidate"]
            if preference.is_decided:
                break
    runtime.close()
    return visit, preference


def ab_tested(films: Films, control: Recommender, candidate: Recommender, seed: int) -> tuple[int, float, tuple[float, float]]:
    """Return the visits until the A/B test is significant, the candidate's additional clicks per visit, and their interval."""
    rng, runtime = random.Random(seed), Runtime()

    @rollout(candidate=ranks(candidate), strategy=ABTest("50%"), unit="visitor", key="films", runtime=runtime)
    def recommend(visitor: str, user: int) -> list[int]:
        return control.rank(user)

    # Most sensitive to a tenth of a click, about the size of the effect.
    sums, rho = StratifiedBuckets(512), 0.1**-2
    for visit in range(1, MOST_VISITS + 1):
        user = rng.choice(films.users)
        routed = recommend.rollout.route(f"{seed}-{visit}", user)
        clicked = clicks(routed.value[:SHOWN], films.relevant[user], rng)
        sums.add("", routed.decision.variant, routed.decision.bucket, float(len(clicked)))
        if visit % 100 == 0:
            found = sums.difference("candidate", "control")
            known = math.isfinite(found.std_error) and found.std_error > 0
            if known and log_e_two_sided(found.estimate, found.std_error, rho=rho, df=found.df) >= math.log(1 / ALPHA):
                break
    runtime.close()
    return visit, found.estimate, confidence_sequence(found.estimate, found.std_error, rho=rho, alpha=ALPHA, df=found.df)


def main(seeds: tuple[int, ...] = (1, 2, 3, 4, 5)) -> str:
    """Run both tests for every seed, and return the results."""
    films = Films()
    control, candidate = ease(films, penalty=100.0), ease(films, penalty=300.0)
    needed, needed_ab = planned(films, control, candidate)
    lines = [f"nDCG@10: control {ndcg(control, films):.3f}, candidate {ndcg(candidate, films):.3f}"]
    lines.append(f"Planned, for a power of 80 %: {compared(needed, needed_ab)}")
    visits, visits_ab = [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            took, preference = interleaved(films, control, candidate, seed, Path(folder))
        took_ab, more, (low, high) = ab_tested(films, control, candidate, seed)
        visits.append(took)
        visits_ab.append(took_ab)
        lines += [
            "",
            f"Interleaved, {took:,} visits. {preference}",
            f"A/B test, {took_ab:,} visits. The candidate has {more:+.3f} clicks a visit [{low:+.3f}, {high:+.3f}].",
        ]
    return "\n".join([*lines, "", f"Run until sure, {len(seeds)} times: {compared(sum(visits), sum(visits_ab))}"])


def compared(visits: int | None, visits_ab: int | None) -> str:
    """Compare the traffic of both tests."""
    if visits is None or visits_ab is None:
        return "the recommenders cannot be distinguished."
    return f"{visits:,} interleaved visits, or {visits_ab:,} of an A/B test, {visits_ab / visits:.0f} times as many."


if __name__ == "__main__":
    print(main())
