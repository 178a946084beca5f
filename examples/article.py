"""Four simulations on one page: A/B test, canary, interleaved test and shadow test, with 200 requests of 40 users each.

The legacy model scores up to .35 and the candidate up to .55. Run it: python examples/article.py
"""

import random
import tempfile

from rollout_sdk import ABTest, Canary, Interleave, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.analysis import as_screen, summarise

rng = random.Random(42)
REQUESTS = [f"user-{number % 40}" for number in range(200)]
ITEMS = [f"item-{number}" for number in range(10)]
LIKED = set(rng.sample(ITEMS, 3))


def new_score(user: str) -> float:
    return rng.uniform(0, 0.55)


def new_ranking(user: str) -> list[str]:
    return sorted(ITEMS, key=lambda item: -(item in LIKED) - rng.random() / 0.55)


def main(folder: str) -> str:
    runtime = Runtime(journal=folder, shadows=ShadowLimits(max_jobs=1000, cpu_share=1.0))
    for strategy in (ABTest(0.5), Canary(["5%", "20%", "50%"]), Shadow(1.0)):

        @rollout(candidate=new_score, strategy=strategy, effects="read", unit="user", key=strategy.name, runtime=runtime)
        def score(user: str) -> float:
            return rng.uniform(0, 0.35)

        for phase in range(3 if strategy.name == "canary" else 1):
            if phase:
                score.rollout.promote(actor="article")
            for user in REQUESTS:
                routed = score.rollout.route(user)
                score.rollout.record("converted", rng.random() < routed.value, decision_id=routed.decision.id)

    @rollout(candidate=new_ranking, strategy=Interleave(), unit="user", key="interleave", runtime=runtime)
    def rank(user: str) -> list[str]:
        return sorted(ITEMS, key=lambda item: -(item in LIKED) - rng.random() / 0.35)

    for user in REQUESTS:
        routed = rank.rollout.route(user)
        for position, item in enumerate(routed.value):
            if item in LIKED and rng.random() < 1 / (1 + position):
                rank.rollout.record("click", 1.0, decision_id=routed.decision.id, item=item)
    runtime.close(5.0)
    return as_screen(summarise(folder))


if __name__ == "__main__":
    print(main(tempfile.mkdtemp(prefix="rollout-article-")))
