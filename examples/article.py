"""Four simulations on one page: A/B test, canary, interleaved test and shadow test, with 200 requests of 40 users each.

The legacy model scores up to .35 and the candidate up to .55, as in the article that these simulations are from.
Run it: python examples/article.py
"""

import random
import tempfile

from rollout_sdk import ABTest, Canary, Interleave, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.analysis import as_text, summarise

REQUESTS = [(f"user-{number % 40}", number) for number in range(200)]
random.Random(1).shuffle(REQUESTS)
ITEMS = [f"item-{number}" for number in range(10)]


def score(best: float, user: str, request: int) -> float:
    return random.Random(f"{best} {user} {request}").uniform(0, best)


def new_score(user: str, request: int) -> float:
    return score(0.55, user, request)


def new_ranking(user: str, request: int) -> list[str]:
    return sorted(ITEMS, key=lambda item: -score(0.55, user, hash((request, ITEMS.index(item)))))


def main(folder: str) -> str:
    runtime = Runtime(journal=folder, shadows=ShadowLimits(max_jobs=1000, cpu_share=1.0))

    def old_score(user: str, request: int) -> float:
        return score(0.35, user, request)

    def old_ranking(user: str, request: int) -> list[str]:
        return sorted(ITEMS, key=lambda item: -score(0.35, user, hash((request, ITEMS.index(item)))))

    for strategy in (ABTest(0.5), Canary(["5%", "20%", "50%"]), Shadow(1.0)):
        model = rollout(
            candidate=new_score, strategy=strategy, unit="user", key=strategy.name, runtime=runtime, control_name="legacy"
        )(old_score)
        for phase in range(3 if strategy.name == "canary" else 1):
            for user, request in REQUESTS:
                routed = model.rollout.route(user, request)
                model.rollout.record("converted", random.random() < routed.value, decision_id=routed.decision.id)
            if strategy.name == "canary" and phase < 2:
                model.rollout.promote(actor="article", reason="the next step of the simulation")
    rank = rollout(
        candidate=new_ranking, strategy=Interleave(), unit="user", key="interleave", runtime=runtime, control_name="legacy"
    )(old_ranking)
    for user, request in REQUESTS:
        routed = rank.rollout.route(user, request)
        for item in routed.value:
            ranker = new_ranking if item in new_ranking(user, request)[:3] else old_ranking
            if random.random() < (0.55 if ranker is new_ranking else 0.35) / (1 + routed.value.index(item)):
                rank.rollout.record("click", 1.0, decision_id=routed.decision.id, item=item)
    runtime.close(5.0)
    return as_text(summarise(folder))


if __name__ == "__main__":
    print(main(tempfile.mkdtemp(prefix="rollout-article-")))
